"""How Kafka is reached, from one URL; the password stands in no message."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote

from ray_app.errors import InvalidSettings

SECURITY = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
OPTIONS = ("security", "mechanism", "ca", "cert", "key")
FORM = (
    "kafka://[user:password@]host:9092[,host:9092...][?security=sasl_ssl&mechanism=SCRAM-SHA-256&ca=/path/ca.pem"
    "&cert=/path/cert.pem&key=/path/key.pem], or host:9092[,host:9092...]; a password is percent-encoded"
)


@dataclass(frozen=True)
class Connection:
    """`ca`, `cert` and `key` are paths of PEM files; without `ca` the system's authorities count."""

    servers: tuple[str, ...]
    security: str = "plaintext"
    mechanism: str = "PLAIN"
    user: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""
    cert: str = ""
    key: str = ""

    @property
    def shown(self) -> str:
        return f"kafka://{','.join(self.servers)}"

    @cached_property
    def arguments(self) -> Mapping[str, Any]:
        """What aiokafka's connections take. Raises InvalidSettings for a PEM file that cannot be read."""
        found: dict[str, Any] = {"security_protocol": self.security.upper()}
        if self.security in ("ssl", "sasl_ssl"):
            found["ssl_context"] = self._context()
        if self.security.startswith("sasl"):
            found |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password,
            }
        return found

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.cert:
                context.load_cert_chain(self.cert, self.key or None)
        except OSError as e:  # ssl.SSLError is one
            files = ", ".join(filter(None, (self.ca, self.cert, self.key)))
            raise _refused(f"names {files}, which cannot be read as PEM: {e}") from None
        return context


def parse(url: str) -> Connection:
    """Raises InvalidSettings."""
    scheme, _, rest = url.rpartition("://")
    if scheme not in ("", "kafka"):
        raise _refused(f"begins with {scheme!r}")
    where, _, query = rest.partition("?")
    login, _, hosts = where.rstrip("/").rpartition("@")
    servers = tuple(_server(one) for one in hosts.split(","))
    user, _, password = login.partition(":")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := set(options) - set(OPTIONS):
        raise _refused(f"has the option {min(unknown)!r}; known: {', '.join(OPTIONS)}")
    security = options.pop("security", "sasl_ssl" if user else "plaintext").lower()
    mechanism = options.pop("mechanism", "SCRAM-SHA-256" if user else "PLAIN").upper()
    found = Connection(servers, security, mechanism, unquote(user), unquote(password), **options)
    _check(found)
    return found


def _check(c: Connection) -> None:
    if c.security not in SECURITY:
        raise _refused(f"has security={c.security}; known: {', '.join(SECURITY)}")
    if c.mechanism not in MECHANISMS:
        raise _refused(f"has mechanism={c.mechanism}; known: {', '.join(MECHANISMS)}")
    if c.security.startswith("sasl") != bool(c.user):
        wanted = "a user and a password" if not c.user else "security=sasl_ssl or sasl_plaintext"
        raise _refused(f"has security={c.security} and {'a' if c.user else 'no'} user; it needs {wanted}")


def _server(text: str) -> str:
    host, _, port = text.strip().rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise _refused(f"names the broker {text.strip()!r}, which is not host:port")
    return f"{host}:{port}"


def _refused(what: str) -> InvalidSettings:
    return InvalidSettings(f"setting events.kafka_url {what}. Its form: {FORM}", key="events.kafka_url")
