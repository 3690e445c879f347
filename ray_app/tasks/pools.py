"""Pools: named sets of queues with weights, and what operators want of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ray_app.config import Tasks
from ray_app.errors import InvalidSettings

QUEUES: Mapping[str, int] = {
    "high_priority": 10, "default": 5, "low_priority": 1, "processing": 1,
    "model_training": 1, "item_processing": 1, "user_profile": 1, "bulk": 1,
}  # fmt: skip
LEVELS: Mapping[int, str] = {10: "high_priority", 5: "default", 1: "low_priority"}
ALL = "general"  # the one pool of a laptop
NAME = re.compile(r"[a-z0-9_-]{1,64}")
QUEUE = re.compile(NAME.pattern + r":[1-9]\d{0,3}")


@dataclass(frozen=True, slots=True)
class Pool:
    """`queues`: their weights. `slots`: processes of each of its replicas."""

    name: str
    queues: Mapping[str, int]
    slots: int

    @property
    def written(self) -> str:
        """As settings and queue.lua have it."""
        return "+".join(f"{q}:{w}" for q, w in self.queues.items())


def parse_queues(text: str, key: str) -> dict[str, int]:
    """`high_priority:10+default:5`. Raises InvalidSettings, naming `key`."""
    parts = text.split("+")
    if not all(QUEUE.fullmatch(p) for p in parts):
        raise InvalidSettings(f"{key} is {text!r}; allowed: queue:weight+queue:weight, weights from 1 to 9999", key=key)
    return {p.partition(":")[0]: int(p.partition(":")[2]) for p in parts}


def pools(settings: Tasks) -> dict[str, Pool]:
    """By name; one of all queues where the settings name none."""
    if not settings.pools:
        return {ALL: Pool(ALL, QUEUES, settings.slots)}
    return {n: Pool(n, parse_queues(q, f"tasks.pools.{n}"), settings.slots) for n, q in settings.pools.items()}


def queue_of(priority: int) -> str:
    """The queue of the nearest level; between two the higher. Larger is more urgent."""
    return LEVELS[min(LEVELS, key=lambda level: (abs(level - priority), -level))]
