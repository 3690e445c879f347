"""The script of the queue: queue.lua with the table of moves above it, and what of a call can be told apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from ray_app.tasks.task import MOVES, State, Task


def _table() -> str:
    rows = (f"{a.value} = {{{', '.join(f'{b.value} = true' for b in to)}}}" for a, to in MOVES.items())
    return f"local MOVES = {{{', '.join(rows)}}}\n"


SCRIPT = _table() + (Path(__file__).parent / "queue.lua").read_text()
NUMBERS = ("attempt", "submitted_at", "eta", "started_at", "ended_at")
TEXTS = ("id", "name", "tenant", "queue", "error", "parent", "group", "trace", "key", "owner", "following")


def prefix_of(redis_prefix: str) -> str:
    """Of every key of the queue."""
    return f"{redis_prefix}:tasks"


def workers_key(redis_prefix: str) -> str:
    """A sorted set: guards by when they were last seen (ms)."""
    return f"{redis_prefix}:workers"


def arguments(op: str, keep_s: float, ask: Any) -> list[Any]:
    return [op, int(keep_s * 1000), orjson.dumps(ask)]


def fields_of(text: bytes) -> dict[str, str]:
    """A hash as `turn` of queue.lua returns it."""
    flat = orjson.loads(text)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def task_of(h: Mapping[str, str]) -> Task:
    """The task of a hash."""
    plain: dict[str, Any] = {**{n: h.get(n, "") for n in TEXTS}, **{n: int(h.get(n) or 0) for n in NUMBERS}}
    return Task(
        **plain,
        argument=orjson.loads(h["argument"]),
        state=State(h["state"]),
        result=orjson.loads(h["result"]) if h.get("result") else None,
        after=tuple(_list(h.get("after"))),
        progress=orjson.loads(h["progress"]) if h.get("progress") else {},
    )


def _list(text: str | None) -> list[str]:
    found = orjson.loads(text) if text else []
    return found if isinstance(found, list) else []  # Lua writes an empty list as {}
