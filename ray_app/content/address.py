"""Which addresses of the net may be asked: public ones. A name is judged by every address that it has."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address

from ray_app.content.failed import FetchFailed

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The port of DNS: the addresses of a name, for a port of it. Raises OSError."""

NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Not public, whatever this Python's list says: what IANA keeps for protocols, where clouds answer too, translation
# of a local net, a public number at which a cloud answers inside, the local nets of IPv6 before fc00::/7, relays into
# 6to4, and documentation.
NOT_PUBLIC = (
    "192.0.0.0/24", "64:ff9b:1::/48", "168.63.129.16/32", "fec0::/10", "192.88.99.0/24", "3fff::/20",
)  # fmt: skip
INSIDE = tuple(map(ipaddress.ip_network, NOT_PUBLIC))


async def system_resolve(host: str, port: int) -> Sequence[str]:
    """As the machine's resolver says."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def is_public(address: str) -> bool:
    """False for private, loopback, link-local, shared, multicast, reserved and unspecified ones, also where IPv6 holds
    such an IPv4 address (mapped, 6to4, Teredo, NAT64), and for what is no address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return all(_is_public(one) for one in (ip, *_held(ip)))


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    plain = ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)
    return plain and not any(ip in net for net in INSIDE)


def _held(ip: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """IPv4 addresses that an IPv6 one stands for."""
    if isinstance(ip, IPv4Address):
        return []
    found = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if ip in NAT64:
        found.append(IPv4Address(int(ip) & 0xFFFFFFFF))
    return [one for one in found if one is not None]


async def chosen(resolve: Resolve, host: str, port: int, allowed: bool) -> Sequence[str]:
    """The addresses to connect to; of an `allowed` host they are not judged. Raises FetchFailed for a host without
    addresses, and for one that has any which is not public."""
    try:
        found = await resolve(host, port)
    except (OSError, UnicodeError) as e:
        again = isinstance(e, socket.gaierror) and e.errno == socket.EAI_AGAIN
        raise FetchFailed(f"host {host} has no address: {e}", again=again) from None
    bad = [] if allowed else [a for a in found if not is_public(a)]
    if bad or not found:
        raise FetchFailed(
            f"host {host} has the address {bad[0] if bad else 'none'}, which is not public; allowed: public "
            "addresses, and the hosts that the setting content.allow_hosts names"
        )
    return found
