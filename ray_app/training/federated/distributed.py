"""A federation on a Ray cluster: an actor for each store, which reads what is its own; only answers leave it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import ray

from ray_app.training.federated.average import Update
from ray_app.training.federated.demand import Floats
from ray_app.training.federated.network import Steps
from ray_app.training.federated.rounds import Judged
from ray_app.training.federated.shop import Shop

logger = logging.getLogger(__name__)
Make = Callable[[str], Shop]
T = TypeVar("T")


class StoreFailed(Exception):
    """A store could not answer. Of what went wrong the name of its class leaves the actor: its words may hold a line of
    an order."""


class StoreActor:
    """`make` is called here, so that neither connections nor orders come from anywhere else."""

    def __init__(self, make: Make, store_id: str) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        os.nice(max(0, 10 - os.nice(0)))
        self._shop = make(store_id)

    def update(self, weights: Floats, steps: Steps) -> Update:
        return _silent(lambda: self._shop.update(weights, steps))

    def judge(self, weights: Floats | None) -> Judged:
        return _silent(lambda: self._shop.judge(weights))


def _silent(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except Exception as e:  # of whatever kind: Ray would carry it to the driver
        name = type(e).__name__
    raise StoreFailed(name)


class Actors:
    """The port Shops. An actor that ends is started again by Ray and is asked again in the next round; one that is
    still busy with an earlier question is not asked before it has answered, and what it says then is let go."""

    def __init__(self, names: Sequence[str], make: Make) -> None:
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)(StoreActor)
        self._actors: dict[str, Any] = {name: actor.remote(make, name) for name in names}
        self._late: dict[str, Any] = {}

    @property
    def names(self) -> Sequence[str]:
        return list(self._actors)

    def update(self, who: Sequence[str], weights: Floats, steps: Steps, wait_s: float) -> Mapping[str, Update]:
        """As Shops.update."""
        if self._late:
            over, _ = ray.wait(list(self._late.values()), num_returns=len(self._late), timeout=0)
            self._late = {name: ref for name, ref in self._late.items() if ref not in over}
        given = ray.put(weights)
        asked = {name: self._actors[name].update.remote(given, steps) for name in who if name not in self._late}
        return self._answers(asked, wait_s)

    def judge(self, who: Sequence[str], weights: Floats | None, wait_s: float) -> Mapping[str, Judged]:
        """As Shops.judge; one that is busy is waited for."""
        return self._answers({name: self._actors[name].judge.remote(weights) for name in who}, wait_s)

    def close(self) -> None:
        for actor in self._actors.values():
            ray.kill(actor)

    def _answers(self, asked: Mapping[str, Any], wait_s: float) -> dict[str, Any]:
        done, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=wait_s) if asked else ([], [])
        self._late |= {name: ref for name, ref in asked.items() if ref not in done}
        found = {name: _answer(name, ref) for name, ref in asked.items() if ref in done}
        return {name: answer for name, answer in found.items() if answer is not None}


def _answer(name: str, ref: Any) -> Any:
    """None of a store whose actor ended, or could not read its orders."""
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as e:
        logger.warning("a store is left out", extra={"store": name, "why": str(e)[-300:]})
        return None
