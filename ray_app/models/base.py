"""The ports of what we believe: an embedder of text, recallers that find candidates, a ranker that scores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.pinned import Pinned
from ray_app.types import Mask, Matrix, Rows, Scored, Scores, Visitor

Arrays = Mapping[str, NDArray[Any]]  # by name: what is saved of a model, and what a fit far away is given and makes


class Embedder(Protocol):
    """Text to unit vectors. `version` names the space in which its vectors lie."""

    version: str
    size: int

    def embed(self, texts: Sequence[str]) -> Matrix:
        """float32 [n, size], rows of length 1 (or 0 for a text without a known word). Deterministic."""
        ...


class Recaller(Protocol):
    """One channel with a versioned artifact. `allowed` is bool by row of the pinned shelf: only True rows may be
    returned. A visitor who was not there at the fit is served by his recent items.

    A version may cover fewer rows than the shelf (`allowed` is then longer than its arrays), never more.
    """

    @property
    def name(self) -> str:
        """The channel's name, as scenarios and the registry call it."""
        ...

    @property
    def variant(self) -> str:
        """By which of the channel's ways it was fitted; the same way fits it again on another history."""
        ...

    def recommend(self, visitor: Visitor, n: int, allowed: Mask, pinned: Pinned) -> Scored:
        """At most n rows, best first, without repeats; scores above 0."""
        ...

    def empty(self) -> bool:
        """Nothing was learned: it would serve nobody."""
        ...

    def prepared(self) -> Self:
        """The same with what only a version that serves needs: an index, checked against brute force."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `load` makes the same recaller of, to the bit."""
        ...

    @classmethod
    def load(cls, arrays: Arrays) -> Self: ...


@dataclass(frozen=True, slots=True)
class Scene:
    """What a ranker sees of one request: features float32 [n, features.view.NAMES], NaN where one is missing; the
    candidates' rows int32 [n]; and who asks, with the recent items."""

    features: Matrix
    rows: Rows
    visitor: Visitor


class Ranker(Protocol):
    """Predicts for all candidates of a request in one forward pass. `kind` says how its arrays are read."""

    version: str
    kind: str

    def predict(self, scene: Scene) -> Matrix:
        """float32 [n, catalog.expression.TASKS]: probability of a click, probability of a conversion after a click,
        expected watch time (s). A task that was not learned is 0."""
        ...

    def arrays(self) -> Mapping[str, NDArray[Any] | bytes]:
        """What is saved: arrays by name, and files of other formats by file name."""
        ...


@runtime_checkable
class Batched(Protocol):
    """A ranker that has one pass for several requests, where that is faster than one after another: it is not in
    numpy."""

    def predict_many(self, scenes: Sequence[Scene]) -> list[Matrix]:
        """As `predict` of each; at least one."""
        ...


def predict_many(ranker: Ranker, scenes: Sequence[Scene]) -> list[Matrix]:
    """`predict` of each, in one pass where there are several and the ranker has one."""
    if len(scenes) > 1 and isinstance(ranker, Batched):
        return ranker.predict_many(scenes)
    return [ranker.predict(scene) for scene in scenes]


def parted(predicted: Matrix, scenes: Sequence[Scene]) -> list[Matrix]:
    """What was predicted for all candidates, request by request."""
    return np.split(predicted, np.cumsum([len(s.rows) for s in scenes])[:-1])


class Diversifier(Protocol):
    """Orders candidates by what they are worth beside those before them."""

    def __call__(self, relevance: Scores, vectors: Matrix, n: int, diversity: float) -> Rows:
        """Positions of the n picked, in order: int32, without repeats. relevance float32 [m], the pool's best 1 and
        its last 0; vectors float32 [m, d] of length 1 or 0; diversity 0 (relevance alone) to 1 (difference alone)."""
        ...
