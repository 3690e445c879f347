"""Streams: a Serve deployment around the engine that runs the flows."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ray import serve
from ray.util.metrics import Gauge

from ray_app.events.base import Place
from ray_app.streams.scaling import LAG, WANTED

logger = logging.getLogger(__name__)
TELL_S = 2.0


class Runs(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def alive(self) -> bool: ...
    def lags(self) -> Mapping[str, Mapping[Place, int]]: ...
    def wanted(self) -> int: ...


class Streams:
    """`make` builds the engine here, in the replica, so that no connection is ever pickled."""

    def __init__(self, make: Callable[[], Runs]) -> None:
        self._engine = make()
        self._engine.start()
        self._ending = threading.Event()
        threading.Thread(target=self._tell, daemon=True, name="tell-lag").start()

    async def check_health(self) -> None:
        """Fails for a dead thread, never for an absent store: a restart would not bring the store back."""
        if not self._engine.alive():
            raise RuntimeError("a flow's thread has died; Serve restarts this replica")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What the policy ByLag reads. The name is Serve's."""
        behind = sum(sum(places.values()) for places in self._engine.lags().values())
        return {LAG: float(behind), WANTED: float(self._engine.wanted())}

    def _tell(self) -> None:
        """Lag per partition as a Prometheus metric, by the member that holds it."""
        gauge = Gauge("lemo_stream_lag", "Entries that a flow is behind.", ("flow", "topic", "partition"))
        told: set[tuple[str, Place]] = set()
        while not self._ending.wait(TELL_S):
            try:
                now = {(flow, place): n for flow, places in self._engine.lags().items() for place, n in places.items()}
                for flow, (topic, partition) in told | now.keys():
                    lag = now.get((flow, (topic, partition)), 0)  # 0 for a partition that another member has now
                    gauge.set(lag, {"flow": flow, "topic": topic, "partition": str(partition)})
                told |= now.keys()
            except Exception:  # it may not end what tells of all flows
                logger.exception("the lag was not told; it is tried again")

    async def __del__(self) -> None:
        self._ending.set()
        await asyncio.to_thread(self._engine.stop)


streams: Any = serve.deployment(Streams, name="Streams")
