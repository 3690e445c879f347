"""Limits on a slate: caps per category, type, attribute or rule, and one of each set of copies."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.filter import FREE
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.reranking import Cap, limit
from ray_app.catalog.rule import CAP, Rule
from ray_app.models.diversity import copies
from ray_app.types import Mask, Rows

Codes = NDArray[np.intp]
WORD = re.compile(r"\w+")


class Limit:
    """At most `most` candidates of one code in any `window` places in a row, 0: in all. Codes intp [m]; below 0: not
    limited."""

    def __init__(self, name: str, codes: Codes, most: int, window: int = 0) -> None:
        self.name, self._most = name, most
        free = int(codes.max(initial=-1)) + 1
        self._codes = np.where(codes < 0, free, codes)
        self._free, self._full, self._counts = free, np.zeros(free + 1, np.bool_), [0] * (free + 1)
        self._recent: deque[int] | None = deque(maxlen=window - 1) if window > 1 else None
        self._idle = window == 1

    def open(self) -> Mask:
        """bool [m]: which candidates the next place may have."""
        return ~self._full[self._codes]

    def take(self, at: int) -> None:
        """The next place has candidate `at`."""
        if self._idle:
            return
        code = int(self._codes[at])
        if self._recent is not None:
            if len(self._recent) == self._recent.maxlen:
                self._count(self._recent[0], -1)
            self._recent.append(code)
        self._count(code, 1)

    def _count(self, code: int, by: int) -> None:
        if code != self._free:
            self._counts[code] += by
            self._full[code] = self._counts[code] >= self._most


def of(caps: Sequence[Cap], rules: Iterable[Rule], rows: Rows, n: int, pinned: Pinned) -> list[Limit]:
    """Those of the scenario and of the rules, for candidates `rows` and a slate of n."""
    found = [
        Limit(c.by, codes, limit(c.most, c.window, n), c.window)
        for c in caps
        if (codes := _codes(c.by, rows, pinned)) is not None
    ]
    for rule in rules:
        if rule.action == CAP:
            codes = pinned.fits(rows, rule.items).astype(np.intp) - 1
            found.append(Limit(f"rule {rule.id}", codes, limit(rule.most, rule.window, n), rule.window))
    return found


def copies_of(rows: Rows, likeness: float, pool: int, pinned: Pinned) -> Codes | None:
    """The same number for copies among the first `pool` of `rows`, which stand best first, -1 for all others; None
    where there are none, or nobody looks."""
    if likeness >= 1:
        return None
    first = rows[:pool]
    titles = [_plain(pinned.titles[r]) for r in first.tolist()]
    codes = np.full(len(rows), -1, np.intp)
    codes[: len(first)] = copies(pinned.vectors.take(first), titles, likeness)
    return codes if (codes >= 0).any() else None


def _codes(by: str, rows: Rows, pinned: Pinned) -> Codes | None:
    """None where no candidate has a value."""
    if by in ("category", "type"):
        codes, names = (pinned.category, pinned.categories) if by == "category" else (pinned.type, pinned.types)
        found = codes[rows].astype(np.intp)
        if "" in names:
            found[found == names.index("")] = -1
        return found if (found >= 0).any() else None
    numbers: dict[str, int] = {}
    values = _attributes(by.removeprefix(FREE), rows, pinned)
    made = np.array([numbers.setdefault(v, len(numbers)) if v else -1 for v in values], np.intp)
    return made if numbers else None


def _attributes(name: str, rows: Rows, pinned: Pinned) -> Iterator[str]:
    for r in rows.tolist():
        body: Mapping[str, object] = pinned.bodies[r] or {}
        attributes = body.get("attributes")
        value = attributes.get(name) if isinstance(attributes, Mapping) else None
        yield "" if value is None else str(value)


def _plain(title: str) -> str:
    """Without case, punctuation and the number of spaces."""
    return " ".join(WORD.findall(title.casefold()))
