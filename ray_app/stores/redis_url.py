"""How Redis is reached, from one URL: one server, or the Sentinels that know which server is the master."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from ray_app.config import CLUSTER_REFUSED
from ray_app.errors import InvalidSettings

KEY = "stores.redis_url"
FORM = (
    "redis://[user:password@]host:6379/0, rediss://... (TLS), unix:///path/redis.sock?db=0, or "
    "sentinel://[user:password@]host:26379[,host:26379...]/master/0[?sentinel_username=..&sentinel_password=..] "
    "(sentinels://... for TLS); a password is percent-encoded"
)
ONE_SERVER = ("redis://", "rediss://", "unix://")
SENTINEL = re.compile(
    r"sentinel(?P<tls>s?)://(?:(?P<login>[^@]*)@)?(?P<hosts>[^/?@]+)/(?P<master>[^/?]+)(?:/(?P<database>\d+))?/?"
    r"(?:\?(?P<query>.*))?"
)
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
OPTIONS = ("sentinel_username", "sentinel_password", "ssl_check_hostname", *TLS_FILES)


@dataclass(frozen=True)
class Sentinels:
    """`servers` and `sentinels`: what a connection to a Redis server and to a Sentinel takes besides its address."""

    addresses: tuple[tuple[str, int], ...]
    master: str
    tls: bool
    servers: Mapping[str, Any] = field(repr=False)
    sentinels: Mapping[str, Any] = field(repr=False)


def parse(url: str) -> Sentinels | str:
    """The URL itself when it names one server. Raises InvalidSettings, naming the form; it never repeats the URL, in
    which a password may stand."""
    if url.startswith(ONE_SERVER):
        return url
    scheme = url.partition("://")[0] if "://" in url else ""
    if "cluster" in scheme:
        raise InvalidSettings(f"setting {KEY} names a Redis Cluster. {CLUSTER_REFUSED}", key=KEY)
    if scheme not in ("sentinel", "sentinels"):
        raise refused(f"begins with {scheme!r}" if scheme else "has no scheme")
    found = SENTINEL.fullmatch(url)
    if found is None:
        raise refused("names no Sentinel, no master, or a database that is no number")
    options = dict(parse_qsl(found["query"] or ""))
    if unknown := set(options) - set(OPTIONS):
        raise refused(f"has the option {min(unknown)!r}; known: {', '.join(OPTIONS)}")
    addresses = tuple(_address(one) for one in found["hosts"].split(","))
    user, _, password = (found["login"] or "").partition(":")
    tls = _tls(options) if found["tls"] else {}
    servers = {"db": int(found["database"] or 0), **_login(unquote(user), unquote(password)), **tls}
    sentinels = _login(options.get("sentinel_username", ""), options.get("sentinel_password", ""))
    return Sentinels(addresses, unquote(found["master"]), bool(found["tls"]), servers, {**sentinels, **tls})


def _login(user: str, password: str) -> dict[str, str]:
    return {name: value for name, value in (("username", user), ("password", password)) if value}


def _tls(options: Mapping[str, str]) -> dict[str, Any]:
    check = options.get("ssl_check_hostname", "true").lower()
    if check not in ("true", "false"):
        raise refused(f"has ssl_check_hostname={check}; allowed: true, false")
    files = {name: options[name] for name in TLS_FILES if name in options}
    return {"ssl_check_hostname": check == "true", **files}


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.strip().rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise refused(f"names the Sentinel {text.strip()!r}, which is not host:port")
    return host.strip("[]"), int(port)


def refused(what: str) -> InvalidSettings:
    return InvalidSettings(f"setting {KEY} {what}. Its form: {FORM}", key=KEY)
