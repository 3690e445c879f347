"""API keys: machine access to one tenant. Stored hashed; the demo key of a laptop alone is kept readable."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from ray_app.clock import Clock
from ray_app.errors import Unauthenticated
from ray_app.stores.base import Document, Documents

SYSTEM, DEMO, KIND = "system", "demo", "keys"  # tenants, as in catalog.tenant, which no access depends on
HELD_S = 30.0  # a deleted key works no longer than this
MOST_HELD = 10_000


class Keys:
    """Of every tenant. A key that was found is believed for HELD_S without another look."""

    def __init__(self, documents: Documents, clock: Clock) -> None:
        self._documents, self._clock = documents, clock
        self._held: dict[str, tuple[float, str]] = {}

    async def create(self, tenant: str) -> str:
        """A new key, shown this once."""
        key = f"lemo_{secrets.token_urlsafe(24)}"
        await self.add(tenant, key)
        return key

    async def add(self, tenant: str, key: str) -> None:
        """`key` opens `tenant`; added again it stays."""
        body = {"tenant": tenant, "made_at": self._clock.now()}
        await self._documents.upsert(SYSTEM, KIND, [Document(_hash(key), self._clock.now(), body)])

    async def tenants(self) -> list[str]:
        """Every tenant that has a key."""
        found = await self._documents.find(SYSTEM, KIND, limit=100_000)
        return sorted({str(d.body["tenant"]) for d in found} - {SYSTEM})

    async def secret(self, name: str) -> bytes:
        """32 random bytes of this name, made by the first who asks; the oldest one counts."""
        kind = f"secret-{name}"
        if not await self._documents.find(SYSTEM, kind, limit=1):
            id = f"{self._clock.now():015d}-{secrets.token_hex(4)}"
            await self._documents.upsert(SYSTEM, kind, [Document(id, 0, {"hex": secrets.token_hex(32)})])
        return bytes.fromhex((await self._documents.find(SYSTEM, kind, limit=1))[0].body["hex"])

    async def tenant_of(self, key: str | None) -> str:
        """Raises Unauthenticated."""
        if not key:
            raise Unauthenticated(
                "no API key was sent. Send it as X-API-Key or Authorization: Bearer; lemo key prints one"
            )
        name, now = _hash(key), self._clock.monotonic()
        held = self._held.get(name)
        if held is None or now - held[0] > HELD_S:
            held = (now, await self._look_up(name))
            if len(self._held) >= MOST_HELD:
                self._held.clear()
            self._held[name] = held
        return held[1]

    async def _look_up(self, name: str) -> str:
        found = await self._documents.get(SYSTEM, KIND, name)
        if found is None:
            raise Unauthenticated("the API key is unknown. lemo key prints the one of tenant demo")
        return str(found.body["tenant"])


async def demo_key(keys: Keys, data: Path) -> str:
    """The key of tenant DEMO in `<data>/demo.key`, mode 0600, made at the first start. Two replicas that start at once
    agree: the file is linked into place whole, by one of them."""
    file = data / "demo.key"
    if not file.exists():
        _write_once(file, f"lemo_{secrets.token_urlsafe(24)}\n")
    key = file.read_text().strip()
    await keys.add(DEMO, key)
    return key


def _write_once(file: Path, text: str) -> None:
    part = file.with_suffix(f".{os.getpid()}")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    with suppress(FileExistsError):  # another replica was first
        os.link(part, file)
    part.unlink()


def _hash(key: str) -> str:
    """Keys are 24 random bytes, so a plain hash is enough; nobody can guess what it stands for."""
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
