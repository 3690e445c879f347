"""Request ids that carry their scenario, signed: metrics per scenario need no join, and nobody can make one up."""

from __future__ import annotations

import hmac
from hashlib import blake2b

SIZE = 8  # bytes of the signature


class RequestIds:
    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, unique: str, scenario: str) -> str:
        """`<unique>.<scenario>.<signature>`"""
        return f"{unique}.{scenario}.{self._sign(f'{unique}.{scenario}')}"

    def scenario_of(self, request_id: str) -> str | None:
        """None for an id that is not ours."""
        body, _, signature = request_id.rpartition(".")
        unique, _, scenario = body.partition(".")
        ours = bool(unique) and hmac.compare_digest(self._sign(body).encode(), signature.encode())
        return scenario if ours else None

    def _sign(self, body: str) -> str:
        return blake2b(body.encode(), digest_size=SIZE, key=self._secret).hexdigest()
