"""Request ids that carry their scenario and arms, signed: metrics of both need no join, and nobody can make one up."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from urllib.parse import quote, unquote

SIZE = 8  # bytes of the signature
LONGEST = 256  # bytes of an id: a client sends it back with each behaviour


@dataclass(frozen=True, slots=True)
class Shown:
    """What an answer was made by: its scenario, and {experiment: arm}."""

    scenario: str
    arms: Mapping[str, str] = field(default_factory=dict)


class RequestIds:
    """Makes and reads ids; `secret` is the same in every process."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, unique: str, scenario: str, arms: Mapping[str, str] | None = None) -> str:
        """`<unique>.<scenario>.<signature>`, or `<unique>~<experiment>=<arm>~....<scenario>.<signature>`. `unique` has
        neither a dot nor a tilde; arms that make it longer than an id may be are left out."""
        first = unique
        for experiment, arm in sorted((arms or {}).items()):
            longer = f"{first}~{_quoted(experiment)}={_quoted(arm)}"
            if len(f"{longer}.{scenario}.".encode()) + 2 * SIZE <= LONGEST:
                first = longer
        return f"{first}.{scenario}.{self._sign(f'{first}.{scenario}')}"

    def read(self, request_id: str) -> Shown | None:
        """None for an id that is not ours."""
        body, _, signature = request_id.rpartition(".")
        first, _, scenario = body.partition(".")
        if not first or not hmac.compare_digest(self._sign(body).encode(), signature.encode()):
            return None
        pairs = (part.split("=") for part in first.split("~")[1:])
        return Shown(scenario, {unquote(experiment): unquote(arm) for experiment, arm in pairs})

    def _sign(self, body: str) -> str:
        return blake2b(body.encode(), digest_size=SIZE, key=self._secret).hexdigest()


def _quoted(name: str) -> str:
    """Without the signs that part an id."""
    return quote(name, safe="").replace(".", "%2E").replace("~", "%7E")
