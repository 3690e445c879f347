"""What a scenario says of the order of its slates: caps, freshness, exploration; and how a client writes them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ray_app.catalog.fields import parse_fields, parse_number
from ray_app.catalog.filter import FREE
from ray_app.errors import InvalidField
from ray_app.events.schema import is_number

MOST_WINDOW = 200
GROUPS = ("category", "type")
LONGEST_S = 400 * 86400.0


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `most` items with the same `by` (category, type or attributes.<name>) in any `window` places in a row;
    0: in the whole slate. Below 1, `most` is a share of those places. Items without a value are not capped."""

    by: str
    most: float
    window: int = 0


@dataclass(frozen=True, slots=True)
class Freshness:
    """Added to the relevance (0..1): `weight` for an item of this moment, half of it after `half_life_s`."""

    weight: float
    half_life_s: float


@dataclass(frozen=True, slots=True)
class Exploration:
    """`share` of the places are drawn, not chosen: by a softmax of the relevance over `temperature` among what may
    still stand there. Each place keeps the probability (propensity) with which its item came to it."""

    share: float
    temperature: float = 0.3


def limit(most: float, window: int, n: int) -> int:
    """How many items `most` allows in `window` places (0: in all n); at least one."""
    return int(most) if most >= 1 else max(1, math.ceil(most * (window or n)))


def parse_cap(name: str, raw: object) -> Cap:
    """`name` is what errors call it, here and below. Raises InvalidField."""
    found = parse_fields(name, raw, needed=("by", "most"), also=("window",))
    by = found["by"]
    if by not in GROUPS and not (isinstance(by, str) and by.startswith(FREE) and by != FREE):
        raise InvalidField(f"{name}.by", by, f"{', '.join(GROUPS)} or attributes.<name>")
    return Cap(by, parse_most(f"{name}.most", found["most"]), parse_window(f"{name}.window", found.get("window", 0)))


def parse_freshness(name: str, raw: object) -> Freshness | None:
    """None takes it away. Raises InvalidField."""
    if raw is None:
        return None
    found = parse_fields(name, raw, needed=("weight", "half_life_s"))
    weight = parse_number(f"{name}.weight", found["weight"], 0.0, 10.0)
    return Freshness(weight, parse_number(f"{name}.half_life_s", found["half_life_s"], 60.0, LONGEST_S))


def parse_exploration(name: str, raw: object) -> Exploration | None:
    """None takes it away. Raises InvalidField."""
    if raw is None:
        return None
    found = parse_fields(name, raw, needed=("share",), also=("temperature",))
    share = parse_number(f"{name}.share", found["share"], 0.0, 1.0)
    return Exploration(share, parse_number(f"{name}.temperature", found.get("temperature", 0.3), 0.01, 100.0))


def parse_most(name: str, value: object) -> float:
    """As `Cap.most`. Raises InvalidField."""
    if not is_number(value) or not 0 < value <= MOST_WINDOW or (value >= 1 and value != int(value)):
        raise InvalidField(name, value, f"a share above 0 and below 1, or a whole number from 1 to {MOST_WINDOW}")
    return float(value)


def parse_window(name: str, value: object) -> int:
    """As `Cap.window`. Raises InvalidField."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_WINDOW:
        raise InvalidField(name, value, f"0..{MOST_WINDOW}, 0 for the whole answer")
    return value
