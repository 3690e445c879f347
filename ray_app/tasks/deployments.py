"""Workers: Serve deployments around the guards that run tasks. Steward: one that keeps the detached actors alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from ray import serve
from ray.util.metrics import Counter, Gauge, Histogram

from ray_app.cancel import cancel
from ray_app.tasks.desk import Crew, Tell
from ray_app.tasks.figures import COUNT, GAUGE, MEASURES, SECONDS, Figure

DRAIN_S = 5.0  # a running task has this long when its replica ends; then it is given back
BOUNDS = [0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0]  # seconds, of the histograms


class Workers:
    """One pool's slots. `make` starts nothing yet; it is given what tells figures. Serve awaits `__init__`."""

    async def __init__(self, make: Callable[[Tell], Crew]) -> None:  # type: ignore[misc]
        self._crew = make(Meters().tell)
        self._crew.worker.start()
        self._desk = asyncio.create_task(self._crew.desk.run())

    async def check_health(self) -> None:
        """Fails where no guard runs, never for an absent store."""
        if not self._crew.worker.alive():
            raise RuntimeError("the guard has ended; Serve restarts this replica")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What the policy ByBacklog reads. The name is Serve's."""
        return await self._crew.backlog()

    async def __del__(self) -> None:
        await asyncio.to_thread(self._crew.worker.drain, DRAIN_S)
        await cancel([self._desk])
        await self._crew.close()


class Meters:
    """The measures of the queue as Prometheus metrics of this process. Ray puts `ray_` before each name."""

    def __init__(self) -> None:
        makers: dict[str, Callable[[str, str, tuple[str, ...]], Any]] = {
            GAUGE: Gauge, COUNT: Counter, SECONDS: lambda name, about, labels: Histogram(name, about, BOUNDS, labels),
        }  # fmt: skip
        self._meters = {name: makers[m.kind](name, m.about, m.labels) for name, m in MEASURES.items()}

    def tell(self, figures: Sequence[Figure]) -> None:
        how = {GAUGE: "set", COUNT: "inc", SECONDS: "observe"}
        for figure in figures:
            getattr(self._meters[figure.name], how[MEASURES[figure.name].kind])(figure.value, figure.tags)


def workers(pool: str = "") -> Any:
    """Of the one pool of a laptop, or of that name."""
    return serve.deployment(Workers, name=f"Workers-{pool}" if pool else "Workers")


class Steward:
    """`ensure` makes the detached actors that are absent and returns their handles."""

    def __init__(self, ensure: Callable[[], list[Any]]) -> None:
        self._ensure = ensure
        ensure()

    async def check_health(self) -> None:
        """Called by Serve every few seconds; a detached actor that was lost is made again here."""
        for actor in self._ensure():
            await actor.status.remote()


steward: Any = serve.deployment(Steward, name="Steward")
