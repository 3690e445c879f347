"""A scenario as a client writes it: only the fields to change, each checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray_app.catalog import expression, reranking
from ray_app.catalog.fields import parse_number, parse_whole
from ray_app.catalog.scenario import BEST, Channel, Pin, Scenario
from ray_app.errors import InvalidField
from ray_app.events.schema import parse_id, refuse_unknown

FIELDS = (
    "title", "channels", "candidates", "budget_s", "exclude_seen", "ranked", "ranker", "score",
    "from_context", "diversity", "diversifier", "caps", "duplicate_likeness", "freshness", "exploration", "pins",
    "hidden", "listed",
)  # fmt: skip
FLAGS = ("exclude_seen", "ranked", "from_context")
SHARES = ("diversity", "duplicate_likeness")
MOST_CAPS = 10
MOST_ID_BYTES = 128
MOST_CANDIDATES, MOST_QUOTA, MOST_POSITION, MOST_LISTED, MOST_BUDGET_S = 2000, 1000, 199, 1000, 10.0


@dataclass(frozen=True, slots=True)
class Known:
    """The names that a scenario may use."""

    channels: Sequence[str]
    diversifiers: Sequence[str]
    rankers: Sequence[str]


def parse(raw: Mapping[str, Any], base: Scenario, known: Known) -> Scenario:
    """`base` with the fields of `raw`. Raises InvalidField for the first that is not allowed."""
    refuse_unknown(raw, FIELDS)
    changed: dict[str, Any] = {}
    if "title" in raw:
        changed["title"] = parse_id("title", raw["title"])
    if "channels" in raw:
        changed["channels"] = _channels(raw["channels"], known.channels)
    if "candidates" in raw:
        changed["candidates"] = parse_whole("candidates", raw["candidates"], 10, MOST_CANDIDATES)
    if "budget_s" in raw:
        changed["budget_s"] = parse_number("budget_s", raw["budget_s"], 0.001, MOST_BUDGET_S)
    changed |= {name: _flag(name, raw[name]) for name in FLAGS if name in raw}
    changed |= {name: parse_number(name, raw[name], 0.0, 1.0) for name in SHARES if name in raw}
    if "ranker" in raw:
        changed["ranker"] = _one_of("ranker", raw["ranker"], (BEST, *known.rankers))
    if "score" in raw:
        changed["score"] = expression.parse("score", raw["score"])
    if "diversifier" in raw:
        changed["diversifier"] = _one_of("diversifier", raw["diversifier"], known.diversifiers)
    if "caps" in raw:
        changed["caps"] = tuple(reranking.parse_cap(f"caps[{i}]", c) for i, c in enumerate(_caps(raw["caps"])))
    if "freshness" in raw:
        changed["freshness"] = reranking.parse_freshness("freshness", raw["freshness"])
    if "exploration" in raw:
        changed["exploration"] = reranking.parse_exploration("exploration", raw["exploration"])
    if "pins" in raw:
        changed["pins"] = tuple(_pin(i, p) for i, p in enumerate(_list("pins", raw["pins"])))
    if "hidden" in raw:
        changed["hidden"] = frozenset(parse_id("hidden", h) for h in _list("hidden", raw["hidden"]))
    if "listed" in raw:
        changed["listed"] = tuple(dict.fromkeys(parse_id("listed", i) for i in _list("listed", raw["listed"])))
    return replace(base, **changed)


def parse_scenario_id(value: object) -> str:
    """Shorter than other ids, since each request_id carries it."""
    id = parse_id("scenario", value)
    if len(id.encode()) > MOST_ID_BYTES:
        raise InvalidField("scenario", id, f"a string of 1 to {MOST_ID_BYTES} bytes")
    return id


def _channels(value: object, known: Sequence[str]) -> dict[str, Channel]:
    if not isinstance(value, Mapping) or not value:
        raise InvalidField("channels", value, "an object of channel: {weight, quota}")
    found = {}
    for name, c in value.items():
        if name not in known:
            raise InvalidField(f"channels.{name}", name, ", ".join(known))
        if not isinstance(c, Mapping) or set(c) != {"weight", "quota"}:
            raise InvalidField(f"channels.{name}", c, "an object with exactly weight and quota")
        weight = parse_number(f"channels.{name}.weight", c["weight"], 0.0, 1000.0)
        found[name] = Channel(weight, parse_whole(f"channels.{name}.quota", c["quota"], 1, MOST_QUOTA))
    return found


def _pin(i: int, value: object) -> Pin:
    if not isinstance(value, Mapping) or set(value) != {"item_id", "position"}:
        raise InvalidField(f"pins[{i}]", value, "an object with exactly item_id and position")
    position = parse_whole(f"pins[{i}].position", value["position"], 0, MOST_POSITION)
    return Pin(parse_id(f"pins[{i}].item_id", value["item_id"]), position)


def _caps(value: object) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > MOST_CAPS:
        raise InvalidField("caps", value, f"a list of at most {MOST_CAPS}")
    return value


def _one_of(field: str, value: object, known: Sequence[str]) -> str:
    if value not in known:
        raise InvalidField(field, value, ", ".join(known))
    return str(value)


def _list(field: str, value: object) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > MOST_LISTED:
        raise InvalidField(field, value, f"a list of at most {MOST_LISTED}")
    return value


def _flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidField(field, value, "true or false")
    return value
