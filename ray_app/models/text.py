"""Text embedding: hashed TF-IDF of words, word pairs and parts of words, reduced by SVD. Deterministic."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.models.base import Arrays
from ray_app.types import Matrix

BUCKETS = 1 << 15
LEAST_STRENGTH, NO_STRENGTH = 0.05, 1e-6  # of the strongest direction: a weaker one is not made larger; it is none
PART = 4  # characters of a part of a word
_WORD = re.compile(r"\w+")


class TextEmbedder:
    """components float32 [BUCKETS, d]: the idf of each bucket times its direction. `version` is their checksum."""

    def __init__(self, components: Matrix) -> None:
        self._components = components
        self.size = int(components.shape[1])
        self.version = f"text-{sha256(np.ascontiguousarray(components).tobytes()).hexdigest()[:12]}"

    @classmethod
    def fit(cls, texts: Sequence[str], size: int = 128) -> TextEmbedder:
        """At most `size` dimensions: fewer for fewer texts; of texts without a common word no word is known.

        Latent semantic analysis (Deerwester et al., 1990), each direction divided by the root of its strength: what
        few texts have in common says more than by its share of all words (figures: docs/benchmarks.md).
        """
        from scipy.sparse.linalg import svds

        counts = _counts(texts)
        known = np.bincount(counts.indices, minlength=BUCKETS)
        idf = np.where(known > 1, np.log((1.0 + len(texts)) / (1.0 + known)) + 1.0, 0.0)
        weighed = _unit(counts.multiply(idf[None, :]).tocsr())
        size = max(1, min(size, len(texts) - 1, BUCKETS - 1))
        if not weighed.count_nonzero():  # no two texts share a word: there is no direction to find
            return cls(np.zeros((BUCKETS, size), np.float32))
        _, strength, directions = svds(weighed, size, random_state=np.random.default_rng(0))
        sign = np.sign(directions[np.arange(size), np.abs(directions).argmax(axis=1)])
        even = sign / np.sqrt(np.maximum(strength, strength.max() * LEAST_STRENGTH))
        even[strength < strength.max() * NO_STRENGTH] = 0.0  # any direction: the texts say nothing of it
        return cls(np.ascontiguousarray((directions * even[:, None]).T * idf[:, None], np.float32))

    def embed(self, texts: Sequence[str]) -> Matrix:
        """float32 [n, size], rows of length 1; 0 for a text without a known word."""
        if not texts:
            return np.zeros((0, self.size), np.float32)
        found = np.asarray(_counts(texts) @ self._components, np.float32)
        return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9), np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"components": self._components}

    @classmethod
    def load(cls, arrays: Arrays) -> TextEmbedder:
        return cls(arrays["components"])


@cache
def projection(size: int = 256) -> TextEmbedder:
    """One that needs no texts to learn from, and is the same everywhere: each bucket's direction is drawn as signs (a
    random projection with the entries of Achlioptas, 2003). It finds shared words; it knows no meaning."""
    signs = np.random.RandomState(0).randint(0, 2, (BUCKETS, size))  # of this generator NumPy promises the same numbers
    return TextEmbedder(np.asarray((2 * signs - 1) / np.sqrt(size), np.float32))


def parts(text: str) -> Iterator[str]:
    """Words, neighbouring pairs, and overlapping parts of each word; case is ignored."""
    words = _WORD.findall(text.casefold())
    yield from words
    for a, b in pairwise(words):
        yield f"{a} {b}"
    for word in words:
        edged = f"<{word}>"
        for k in range(len(edged) - PART + 1):
            yield "#" + edged[k : k + PART]


def _counts(texts: Sequence[str]) -> Any:
    """Sparse [n, BUCKETS]: 1 + ln(how often), by hash of the part."""
    import scipy.sparse as sp

    columns, ends = [], [0]
    for text in texts:
        columns += [zlib.crc32(p.encode()) % BUCKETS for p in parts(text)]
        ends.append(len(columns))
    counts = sp.csr_matrix((np.ones(len(columns), np.float32), columns, ends), (len(texts), BUCKETS))
    counts.sum_duplicates()
    counts.data = np.asarray(1.0 + np.log(counts.data), np.float32)
    return counts


def _unit(matrix: Any) -> Any:
    import scipy.sparse as sp

    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sp.diags(1.0 / np.maximum(length, 1e-9)) @ matrix
