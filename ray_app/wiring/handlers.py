"""Every handler of the task queue, in one list."""

from __future__ import annotations

from ray_app.content.tasks import HANDLERS as CONTENT
from ray_app.neural.tasks import HANDLERS as NEURAL
from ray_app.tasks.work import Handler

HANDLERS: tuple[Handler, ...] = (*CONTENT, *NEURAL)
