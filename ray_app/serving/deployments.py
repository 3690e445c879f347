"""Gateway: the Serve ingress behind both doors, a class made from the table of use cases. Recall, Rank and Rerank:
the stages in deployments of their own, where the settings say `placement: graph`."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from ray_app.recommend.graph import Elsewhere, RankAnswer, RankAsk, RecallAsk, Recalled, RerankAsk
from ray_app.recommend.rerank import Reranked
from ray_app.recommend.station import ModelServer, Station
from ray_app.serving.app import App
from ray_app.serving.grpc import METHODS
from ray_app.serving.http import build

Open = Callable[..., Awaitable[App]]
OpenStage = Callable[..., Awaitable[tuple[Any, Callable[[], Awaitable[None]]]]]
OPTIONS: dict[str, Any] = {
    "max_ongoing_requests": 1000, "max_surge_percent": 100, "ray_actor_options": {"num_cpus": 0.1},
}  # fmt: skip
MOST_AT_ONCE, GATHER_S = 32, 0.001  # requests of one turn, and how long the first of them waits for others


class Doors:
    """`open_app` connects here, in the replica, so that no connection is ever pickled. `others` are only there to be
    deployed with it; `stages` are asked for answers. Serve awaits `__init__`."""

    async def __init__(self, open_app: Open, *others: Any, **stages: DeploymentHandle[Any]) -> None:  # type: ignore[misc]
        self.lemo = await open_app(**{name: handle.answer.remote for name, handle in stages.items()})
        settle()

    def __serve_build_asgi_app__(self) -> Any:  # the name that Serve looks for
        return build(lambda: self.lemo)

    async def __del__(self) -> None:
        await self.lemo.close()


def settle() -> None:
    """What is loaded by now stays: the garbage collector, which took a twentieth of each answer, need not visit it."""
    gc.collect()
    gc.freeze()


def gateway() -> Any:
    shell = type("Gateway", (Doors,), dict(METHODS))
    return serve.deployment(serve.ingress()(shell), name="Gateway")


class Stage:
    """One stage over what `open_stage` connects here."""

    async def __init__(self, open_stage: OpenStage, **how: bool) -> None:  # type: ignore[misc]
        self.seat, self._close = await open_stage(**how)
        settle()

    async def __del__(self) -> None:
        await self._close()


class Recall(Stage):
    seat: Station

    async def answer(self, ask: RecallAsk) -> Recalled | Elsewhere:
        return await self.seat.recall(ask)


class Rank(Stage):
    """What comes at the same time is ranked in one turn: on a GPU and by trees in one pass, in numpy one by one."""

    seat: ModelServer

    @serve.batch(max_batch_size=MOST_AT_ONCE, batch_wait_timeout_s=GATHER_S)
    async def answer(self, asks: list[RankAsk]) -> list[RankAnswer | Elsewhere]:
        return await self.seat.rank(asks)


class Rerank(Stage):
    seat: Station

    async def answer(self, ask: RerankAsk) -> Reranked | Elsewhere:
        return await self.seat.rerank(ask)


def options(gpus: float = 0.0) -> dict[str, Any]:
    """Of a stage's deployment. One with GPUs is stopped before its successor starts, which could wait for ever for a
    second GPU; meanwhile answers are degraded."""
    if not gpus:
        return OPTIONS
    return {**OPTIONS, "max_surge_percent": 0, "ray_actor_options": {"num_cpus": 0.1, "num_gpus": gpus}}


def stages(open_stage: OpenStage, rank_gpus: float = 0.0) -> dict[str, Any]:
    """Bound deployments by the name of their stage; `rank_gpus` of each replica of Rank."""

    def made(shell: type[Stage], gpus: float = 0.0, **how: bool) -> Any:
        deployment: Any = serve.deployment(shell, name=shell.__name__, **options(gpus))
        return deployment.bind(open_stage, **how)

    return {"recall": made(Recall), "rank": made(Rank, rank_gpus, models_alone=True), "rerank": made(Rerank)}
