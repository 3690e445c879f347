"""Two towers: a visitor's vector from the recent items, an item's from its text, its category and itself.

Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations" (2019). Served in numpy;
an item that came after the training has a vector by its text and category alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.pinned import Pinned
from ray_app.models.base import Arrays
from ray_app.models.index import Search, build, built_of
from ray_app.models.top import none, pick
from ray_app.types import Mask, Matrix, Rows, Scored, Scores, Visitor

PARTS = ("items", "text", "category", "hidden", "hidden_bias", "out", "space", "categories", "memory_s")


@dataclass(frozen=True)
class TwoTower:
    """items float32 [m, d]: the vectors of rows 0 .. m-1; the last of the d numbers adds to every score. text [t, d]
    and category [c, d] make those of later rows, where `categories` names the c. hidden [d-1, h] and its bias [h], out
    [h, d-1]: the visitor's tower. `space`: the embedder's, in which `text` reads; `memory_s`: the half-life of what a
    recent item says."""

    items: Matrix
    text: Matrix
    category: Matrix
    hidden: Matrix
    hidden_bias: Scores
    out: Matrix
    space: NDArray[np.str_]
    categories: NDArray[np.str_]
    memory_s: NDArray[np.float64]
    search: Search
    _late: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    name, variant = "two_tower", "text"

    def recommend(self, visitor: Visitor, n: int, allowed: Mask, pinned: Pinned) -> Scored:
        if not len(visitor.recent):
            return none(self.name)
        late, m = self.late(pinned), min(len(self.items), pinned.n)
        recent = _taken(self.items, late, visitor.recent)
        who = self.visitor(recent, visitor.interest(float(self.memory_s[0])))
        rows, likes = self.search.best(who, n, allowed[:m])
        new = np.flatnonzero(allowed[m:]).astype(np.int32)
        rows, likes = np.concatenate([rows, new + m]), np.concatenate([likes, late[new] @ who])
        return Scored(self.name, *pick(rows, np.logaddexp(0.0, likes).astype(np.float32), n))  # above 0, in one order

    def visitor(self, recent: Matrix, say: Scores) -> Scores:
        """float32 [d] of the recent items' vectors [r, d] and what each says [r]; the last number is 1."""
        mean = say @ recent[:, :-1] / (1.0 + say.sum())
        seen = np.maximum(mean @ self.hidden + self.hidden_bias, 0.0)
        return np.append(mean + seen @ self.out, 1.0).astype(np.float32)

    def late(self, pinned: Pinned) -> Matrix:
        """float32 [pinned.n - m, d]: the vectors of rows that came after the training, made once a catalogue."""
        held = self._late.get("of")
        if held is None or held[0] is not pinned:
            rows = np.arange(len(self.items), pinned.n, dtype=np.int32)
            held = self._late["of"] = (pinned, self._made(rows, pinned))
        found: Matrix = held[1]
        return found

    def _made(self, rows: Rows, pinned: Pinned) -> Matrix:
        """Text counts where the shelf's vectors lie in the space of the training, a category where it was known."""
        at = {name: k for k, name in enumerate(self.categories.tolist())}
        known = np.array([at.get(name, -1) for name in pinned.categories], np.int64)[pinned.category[rows]]
        made = np.where(known[:, None] >= 0, self.category[known], 0.0).astype(np.float32)
        if str(self.space[0]) == pinned.space and pinned.vectors.size == len(self.text):
            made += pinned.vectors.take(rows) @ self.text
        return made

    def empty(self) -> bool:
        return not self.items.any()

    def prepared(self) -> Self:
        return replace(self, search=Search(self.items, build(self.items)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {**{name: getattr(self, name) for name in PARTS}, **self.search.arrays()}

    @classmethod
    def load(cls, arrays: Arrays) -> Self:
        parts: dict[str, Any] = {name: arrays[name] for name in PARTS}
        return cls(**parts, search=Search(arrays["items"], built_of(arrays)))


def _taken(items: Matrix, late: Matrix, rows: Rows) -> Matrix:
    m = len(items)
    if not len(late) or (rows < m).all():
        return items[rows]
    found = np.empty((len(rows), items.shape[1]), np.float32)
    found[rows < m], found[rows >= m] = items[rows[rows < m]], late[rows[rows >= m] - m]
    return found
