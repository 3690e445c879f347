"""Copies: exact ones by text or canonical URL, near ones by MinHash; over all processes, and whatever was restarted.

Broder, "On the resemblance and containment of documents" (1997); bands as in Leskovec, Rajaraman and Ullman, Mining of
Massive Datasets, 3.4. A document's keys (one for its text, one for its canonical URL, one a band) lie in Redis as
sorted sets of document ids; a document's place in the order of arrival is given once, in the same Lua call that
writes its keys, so that of any two copies each process names the same one the original. What lies in Redis can be made
again from the documents (`deduplicate`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ray_app.content.document import Document, Found, Status

if TYPE_CHECKING:
    from redis.asyncio import Redis

PERMUTATIONS, BANDS, ROWS = 126, 21, 6  # two texts of which 80% is common meet in a band with 99.8%
SHINGLE = 3  # words
SOMEWHAT = 0.3  # as alike texts of one canonical URL must be: some sites name their front page as that of every page
EXACT, NEAR = "exact", "near"
PLACE = (Path(__file__).parent / "place.lua").read_text()
_EAST = "぀-ヿ㐀-鿿"  # written without spaces: each character is a word
_WORD = re.compile(rf"[{_EAST}]|[^\W{_EAST}]+")


@dataclass(frozen=True, slots=True)
class Print:
    """By what a text is found again: `hash` of the normalised text, `signature` as hex, `bands`: a value each."""

    hash: str
    signature: str
    bands: tuple[str, ...]


def normalised(text: str) -> list[str]:
    """Its words without case, accents of another spelling, punctuation and spaces."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def fingerprint(found: Found) -> Print:
    """Of the title and the text where the text is short; else of the text alone."""
    from datasketch import MinHash

    words = normalised(found.text)
    if len(words) < 4 * SHINGLE:
        words = normalised(f"{found.title} {found.text}")
    sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
    sketch.update_batch(
        sorted({" ".join(words[k : k + SHINGLE]).encode() for k in range(max(1, len(words) - SHINGLE + 1))})
    )
    values = np.asarray(sketch.hashvalues, np.uint32)
    bands = values.reshape(BANDS, ROWS)
    told = tuple(blake2b(b.tobytes(), digest_size=8).hexdigest() for b in bands)
    return Print(sha256(" ".join(words).encode()).hexdigest(), values.tobytes().hex(), told)


def likeness(a: str, b: str) -> float:
    """The share of common parts of two texts, as their signatures say."""
    return float(np.mean(_values(a) == _values(b))) if len(a) == len(b) and a else 0.0


def _values(signature: str) -> Any:
    return np.frombuffer(bytes.fromhex(signature), np.uint32)


def keys_of(made: Print, canonical: str) -> tuple[str, ...]:
    """The names of a document's keys; the exact ones first."""
    url = (f"u:{sha256(canonical.encode()).hexdigest()[:32]}",) if canonical else ()
    return (f"h:{made.hash[:32]}", *url, *(f"{k}:{band}" for k, band in enumerate(made.bands)))


@dataclass(frozen=True, slots=True)
class Copy:
    """What a document is a copy of; `kind` is exact or near."""

    of: str
    kind: str


class Copies:
    """One tenant's. Raises what Redis raises."""

    def __init__(self, redis: Redis, prefix: str, tenant: str) -> None:
        self._redis, self._at = redis, f"{prefix}:content:{tenant}:copies"

    async def place(self, id: str, keys: Sequence[str], before: Sequence[str] = ()) -> dict[str, list[str]]:
        """Write the document under its keys, and no longer under those that it had `before`. Returns by key the ids
        that came earlier. Done again it changes nothing."""
        gone = [k for k in before if k not in keys]
        names = [f"{self._at}:order", f"{self._at}:last", *(f"{self._at}:{k}" for k in (*keys, *gone))]
        found: Any = await self._redis.eval(PLACE, len(names), *names, id, len(keys))
        return {k: [m.decode() for m in members] for k, members in zip(keys, found, strict=True)}

    async def forget(self, documents: Sequence[Document]) -> None:
        """They are gone: nothing is a copy of them any more."""
        pipe = self._redis.pipeline(transaction=False)
        for d in documents:
            pipe.hdel(f"{self._at}:order", d.id)
            for key in d.keys:
                pipe.zrem(f"{self._at}:{key}", d.id)
        await pipe.execute()


def original(document: Document, earlier: dict[str, list[str]], known: dict[str, Document], near: float) -> Copy | None:
    """What `document` is a copy of, of the `known` ones among those that came `earlier`; None where it is none."""
    for key, ids in earlier.items():
        least = {"h": 0.0, "u": SOMEWHAT}.get(key[0], 2.0)
        for id in ids:
            if id in known and likeness(document.signature, known[id].signature) >= least:
                return Copy(_root(known[id]), EXACT)
    alike = {i: likeness(document.signature, known[i].signature) for ids in earlier.values() for i in ids if i in known}
    best = max(alike, key=lambda i: alike[i], default="")
    return Copy(_root(known[best]), NEAR) if best and alike[best] >= near else None


def _root(found: Document) -> str:
    return found.duplicate_of if found.status is Status.DUPLICATE else found.id
