"""Bodies as they come: gzip taken apart within a limit, so that a small one cannot become a large one."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable

from ray_app.content.failed import FetchFailed

GZIP = b"\x1f\x8b"
MOST_MEMBERS = 1000  # each costs a look at all that follows; real bodies have one, or one for each 64 KiB


class Gunzip:
    """Parts of a gzip body, also of several members one after another."""

    def __init__(self) -> None:
        self._z, self._members = zlib.decompressobj(31), 0

    def __call__(self, part: bytes, most: int) -> bytes:
        """What `part` says, at most `most` bytes of it. Raises FetchFailed for what is no gzip."""
        out = bytearray()
        try:
            while part and len(out) < most:
                out += self._z.decompress(part, most - len(out))
                part = self._z.unconsumed_tail
                if self._z.eof:
                    part = self._next()
        except zlib.error as e:
            raise FetchFailed(f"the body is no gzip: {e}") from None
        return bytes(out)

    def _next(self) -> bytes:
        """Begin with the next member; returns what is there of it."""
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise FetchFailed(f"the body has more than {MOST_MEMBERS} gzip members")
        rest, self._z = self._z.unused_data, zlib.decompressobj(31)
        return rest if rest.startswith(GZIP) else b""


def too_large(limit: int) -> FetchFailed:
    return FetchFailed(f"the body is larger than {limit} bytes, packed or unpacked. Raise content.max_bytes")


def gunzip(body: bytes, limit: int) -> bytes:
    """Raises FetchFailed for more than `limit` bytes."""
    found = Gunzip()(body, limit + 1)
    if len(found) > limit:
        raise too_large(limit)
    return found


async def read(parts: AsyncIterable[bytes], coding: str, limit: int) -> bytes:
    """A body whose Content-Encoding is `coding`. Raises FetchFailed as soon as it has more than `limit` bytes, and for
    a coding that nobody asked for, as one in another."""
    if coding not in ("", "identity", "gzip", "x-gzip"):
        raise FetchFailed(f"the body is coded as {coding[:80]!r}; allowed: gzip, identity")
    unpack = Gunzip() if "gzip" in coding else None
    body, came = bytearray(), 0
    async for part in parts:
        came += len(part)
        body += unpack(part, limit + 1 - len(body)) if unpack else part
        if max(came, len(body)) > limit:
            raise too_large(limit)
    return bytes(body)
