"""Every handler of the task queue, in one list."""

from __future__ import annotations

from typing import Any

from ray_app.content.retention import clean as clean_content
from ray_app.content.tasks import HANDLERS as CONTENT
from ray_app.neural.retention import clean as clean_events
from ray_app.neural.tasks import HANDLERS as NEURAL
from ray_app.operations import schedules
from ray_app.operations import tasks as operations
from ray_app.operations.health import Look
from ray_app.tasks.work import Handler
from ray_app.training.tasks import HANDLERS as TRAINING


def _pool(w: Any) -> Any:
    from ray_app.wiring import pool

    return pool(w)


def _looks(w: Any) -> dict[str, Look]:
    from ray_app.wiring.schedules import schedules_of

    return {"schedules": lambda: schedules.trouble(schedules_of(w))}


HANDLERS: tuple[Handler, ...] = (
    *CONTENT,
    *NEURAL,
    *TRAINING,
    *operations.handlers(_pool, (clean_content, clean_events), _looks),
)
