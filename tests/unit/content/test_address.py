"""Which addresses are public, and what a name with bad ones is."""

from __future__ import annotations

import pytest

from ray_app.content.address import chosen, is_public, system_resolve
from ray_app.content.failed import FetchFailed

INSIDE = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10" + ".1.2.3", "172" + ".16.0.1", "192" + ".168.1.1", "169.254.169.254",
    "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "239.255.255.250",
    "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::1", "2001:0:7f00:1::",
    "::127.0.0.1", "2001:db8::1", "fec0::1", "feff::1", "3fff::1", "192.88.99.1", "localhost", "",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_what_lies_inside_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_what_lies_outside_is(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "127.1", "0177.0.0.1"])
async def test_every_spelling_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises(FetchFailed, match="not public"):
        await chosen(system_resolve, host, 80, False)


async def test_an_allowed_host_is_not_judged() -> None:
    assert await chosen(system_resolve, "127.0.0.1", 80, True) == ["127.0.0.1"]
