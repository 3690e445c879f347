"""The frozen values that travel between packages.

Times (`*_at`) are integer milliseconds since 1970-01-01 UTC. Durations end in `_s` and are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.int32]
Scores: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]
Matrix: TypeAlias = NDArray[np.float32]

DAY_S, DAY_MS = 86_400, 86_400_000
BehaviorType = Literal[
    "impression", "click", "like", "favourite", "share", "comment",
    "cart", "purchase", "play", "dislike", "hide",
]  # fmt: skip
BEHAVIOR_TYPES: tuple[str, ...] = get_args(BehaviorType)


Id: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Behavior(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One thing that a visitor did. Exactly one of `user_id` and `session_id` is set.

    Each flow makes one for every event. A Struct, since it is made from JSON in one go, with its limits checked there
    and only there: a fifth of what a dictionary and then a tuple of it cost. It holds nothing that could form a cycle,
    so the garbage collector need not visit it."""

    event_id: Id
    tenant: Id
    item_id: Id
    type: str
    occurred_at: Annotated[int, msgspec.Meta(ge=0)]
    user_id: Id | None = None
    session_id: Id | None = None
    value: float | None = None
    scenario: Id | None = None
    request_id: Id | None = None
    position: Annotated[int, msgspec.Meta(ge=0, lt=10_000)] | None = None

    @property
    def visitor(self) -> str:
        """`u:<user>` or `s:<session>`: the partition key and the name of the profile."""
        return f"u:{self.user_id}" if self.user_id else f"s:{self.session_id}"


@dataclass(frozen=True, slots=True)
class Item:
    """Something to recommend; `version` orders updates, `status` is available or unavailable. `published_at` 0: not
    said, so that the items flow keeps what is stored."""

    tenant: str
    id: str
    type: str
    title: str
    version: int
    text: str = ""
    category: str = ""
    tags: tuple[str, ...] = ()
    price: float | None = None
    media: tuple[str, ...] = ()
    published_at: int = 0
    status: str = "available"
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scored:
    """Candidates of one channel, best first: rows int32 [n], scores float32 [n]."""

    channel: str
    rows: Rows
    scores: Scores


@dataclass(frozen=True, slots=True)
class Visitor:
    """What is known of who asks, as rows of the pinned shelf.

    recent: newest first, int32 [r]; weights: float32 [r], of the behaviour that put each there;
    ages_s: float32 [r], seconds between that behaviour and the request;
    seen: int32, every item already bought, clicked or hidden; context: row of the item looked at, or None.
    counts: float32 [r], how often each recent item was bought.
    """

    name: str
    recent: Rows
    weights: Scores
    ages_s: Scores
    counts: Scores
    seen: Rows
    context: int | None = None

    def interest(self, half_life_s: float) -> Scores:
        """float32 [r]: how much each recent item still says, 1 for a purchase of this moment."""
        return np.asarray(np.sqrt(self.weights / 5.0) * np.exp2(-self.ages_s / half_life_s), np.float32)


@dataclass(frozen=True, slots=True)
class Interactions:
    """History of one tenant sorted by time: users int32, rows int32, at int64 (ms), weights float32; equal lengths."""

    users: NDArray[np.int32]
    rows: Rows
    at: NDArray[np.int64]
    weights: Scores
    n_users: int
    n_rows: int

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Degraded:
    """A stage that was cut short, and why."""

    stage: str
    reason: str
    channel: str | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Placed:
    """One item of a slate; `features` are the values the ranker saw, in the view's order; `shadow` is the score of the
    ranker beside the live one, where there is one. `propensity`: with which probability it came to its place, given the
    places before it; below 1 only where a scenario explores."""

    item_id: str
    score: float
    channels: tuple[str, ...]
    reason: Reason
    features: tuple[float, ...] = ()
    shadow: float | None = None
    propensity: float = 1.0


@dataclass(frozen=True, slots=True)
class Slate:
    """What was answered to one request; also what is logged to topic `slates`."""

    request_id: str
    tenant: str
    scenario: str
    visitor: str
    answered_at: int
    items: tuple[Placed, ...]
    degraded: tuple[Degraded, ...] = ()
    arms: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
