"""Training examples as named queries: what was shown, with the feature values as shown, and what followed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_app.types import DAY_S

if TYPE_CHECKING:
    from ray_app.stores.olap import Olap

NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Asked:
    """Of which answers (ms, from `since` to before `until`), and how long after an answer a behaviour still counts for
    it. Labels are whole where `until` lies at least a window back. `scenario`: of this one alone, "" of every one.
    `one_in`: of so many answers one, where all would be too many."""

    tenant: str
    since: int
    until: int
    window_s: int = DAY_S
    scenario: str = ""
    one_in: int = 1


def named(file: Path) -> dict[str, str]:
    """The queries of a file by their names; the lines after a name say what it finds."""
    parts = NAME.split(file.read_text())[1:]
    return {name: sql.strip().rstrip(";") for name, sql in zip(parts[::2], parts[1::2], strict=True)}


QUERIES: Mapping[str, str] = named(Path(__file__).parent / "examples.sql")


async def examples(olap: Olap, asked: Asked) -> dict[str, Any]:
    """The columns of the examples as arrays, by time: request_id, item_id, visitor, scenario, answered_at, position,
    score, channels, features (float32 in the order of the view, NaN where missing, none of an item that no channel
    found), propensity, arms and versions (JSON), clicked, converted, watch_time; {} when there are none.
    Raises Unavailable."""
    parameters = {
        "tenant": asked.tenant, "since": asked.since, "until": asked.until, "window_ms": asked.window_s * 1000,
        "scenario": asked.scenario, "one_in": asked.one_in,
    }  # fmt: skip
    return await olap.columns(QUERIES["examples"], parameters)


async def confirmed_answers(olap: Olap, asked: Asked) -> list[dict[str, Any]]:
    """Per scenario how many answers there were, and how many of them were confirmed by an impression."""
    parameters = {
        "tenant": asked.tenant, "since": asked.since, "until": asked.until, "window_ms": asked.window_s * 1000,
    }  # fmt: skip
    return await olap.query(QUERIES["confirmed_answers"], parameters)


async def shadow(olap: Olap, asked: Asked) -> list[dict[str, Any]]:
    """Per live and shadow version: answers, same_best (share), items and clicks (of what was seen), live_auc,
    shadow_auc; a version without a click has AUC 0. Raises Unavailable."""
    parameters = {
        "tenant": asked.tenant, "since": asked.since, "until": asked.until, "window_ms": asked.window_s * 1000,
    }  # fmt: skip
    return await olap.query(QUERIES["shadow"], parameters)
