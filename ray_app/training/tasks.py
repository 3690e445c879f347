"""The handlers of batch work: each follows a Ray Job, for one tenant or for every tenant."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from ray_app.catalog.tenant import SYSTEM, parse_tenant
from ray_app.errors import Forbidden, InvalidField, InvalidSettings
from ray_app.tasks.running import ANSWER
from ray_app.tasks.task import State, Submission
from ray_app.tasks.work import Fail, Handler, Run
from ray_app.training.federated import privacy
from ray_app.training.federated.ask import FederatedAsk
from ray_app.training.stores import Stores

REFUSED = {Forbidden: "fail", InvalidField: "fail", InvalidSettings: "fail"}  # the next try would end alike
Report = Mapping[str, Any]  # of one run, as training.runs tells it
Shape = Callable[[Sequence[Report]], dict[str, Any]]


class Ask(BaseModel):
    """`tenant`: of a task of the house itself, whose; every one where it is not said."""

    model_config = ConfigDict(extra="forbid")

    tenant: str | None = None


class TrainAsk(Ask):
    label_days: int = Field(14, ge=1, le=400)
    policy: str = Field("live", pattern="^(live|shadow|staged)$")
    dataset: str | None = None


class SliceAsk(Ask):
    label_days: int = Field(14, ge=1, le=400)
    dataset: str | None = None


class LearnAsk(Ask):
    dataset: str | None = None


class DatasetAsk(Ask):
    name: str = Field(min_length=1, max_length=128)


class CompactAsk(Ask):
    least: float = Field(0.25, ge=0, le=1)


@dataclass(frozen=True, slots=True)
class Batch:
    """One of the handlers: `job` is run with the ask's other fields as options, and `shape` makes the result of the
    reports that it told: at least `least`, 0 where the scenarios of a tenant may name nothing to learn."""

    name: str
    job: str
    shape: Shape
    asks: type[Ask] = Ask
    queue: str = "default"
    aliases: tuple[str, ...] = field(default=())
    least: int = 1

    def handler(self) -> Handler:
        async def call(ask: Ask, run: Run) -> dict[str, Any]:
            return await for_tenants(self.name, ask, run, lambda tenant: self._one(ask, tenant, run))

        return Handler(call, self.asks, name=self.name, queue=self.queue, aliases=self.aliases, verdicts=REFUSED)

    async def _one(self, ask: Ask, tenant: str, run: Run) -> dict[str, Any]:
        options = ask.model_dump(exclude={"tenant"}, exclude_none=True)
        said = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
        return self.shape(reports(await run.job(self.job, ["--tenant", tenant, *said]), self.least))


async def for_tenants(name: str, ask: Ask, run: Run, one: Callable[[str], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """What `one` answers for the task's tenant, or for the one that a task of the house names. Where it names none: a
    child for each tenant, and {tenants: {tenant: its result}, failed: {tenant: why}}; Fail where none succeeded.
    Raises Forbidden for a tenant that is not the task's own."""
    wanted = parse_tenant(ask.tenant) if ask.tenant is not None else run.tenant
    if run.tenant not in (SYSTEM, wanted):
        raise Forbidden(f"the task is of tenant {run.tenant!r} and may not work for {wanted!r}")
    if wanted != SYSTEM:
        return await one(wanted)
    from ray_app.access.keys import Keys

    stores: Stores = run.stores
    tenants = await Keys(stores.documents, stores.clock).tenants()
    argument = ask.model_dump(exclude={"tenant"}, exclude_none=True)
    found = await run.gather(*(Submission(name, argument, tenant, id=f"{run.id}.{tenant}") for tenant in tenants))
    results = {t.tenant: t.result for t in found if t.state is State.SUCCESS}
    failed = {t.tenant: t.error or t.state.value for t in found if t.state is not State.SUCCESS}
    if failed and not results:
        raise Fail(f"{name} succeeded for no tenant: {'; '.join(f'{k}: {why[:200]}' for k, why in failed.items())}")
    return {"tenants": results, "failed": failed}


def reports(log: str, least: int = 1) -> list[Report]:
    """Those that a job told, in order. Raises Fail for fewer than `least`."""
    found = [orjson.loads(x.removeprefix(ANSWER)) for x in log.splitlines() if x.startswith(ANSWER)]
    if len(found) < least:
        raise Fail(f"the job told no result: {log[-500:]}")
    return found


def _number(report: Report, *names: str) -> int:
    return int(next((report["metrics"][n] for n in names if n in report["metrics"]), 0))


def version(of: Sequence[Report]) -> dict[str, Any]:
    """{version, metrics, status, why}: `version` None where it was refused, and why."""
    last = of[-1]
    status = last["status"] if last["version"] is not None else "refused"
    return {"version": last["version"], "metrics": last["metrics"], "status": status, "why": last["why"]}


def similarity(of: Sequence[Report]) -> dict[str, Any]:
    """{items, shards, versions}: of all channels."""
    shards, items = sum(_number(r, "shards") for r in of), max((_number(r, "items") for r in of), default=0)
    return {"items": items, "shards": shards, **versions(of)}


def versions(of: Sequence[Report]) -> dict[str, Any]:
    """By name; None of what was refused."""
    return {"versions": {r["name"]: r["version"] for r in of}}


def vectors(of: Sequence[Report]) -> dict[str, Any]:
    """{items, vectors}: embedded items, and written vectors."""
    return {"items": _number(of[-1], "items"), "vectors": _number(of[-1], "vectors", "items")}


def users(of: Sequence[Report]) -> dict[str, Any]:
    return {"users": _number(of[-1], "profiles")}


def lists(of: Sequence[Report]) -> dict[str, Any]:
    """{users, lists}: visitors with a list of their own, and popular lists."""
    return {"users": _number(of[-1], "visitors"), "lists": _number(of[-1], "popular")}


def built(of: Sequence[Report]) -> dict[str, Any]:
    return {"name": of[-1]["name"], "version": of[-1]["version"], "rows": _number(of[-1], "rows")}


async def federated(ask: FederatedAsk, run: Run) -> dict[str, Any]:
    """{model, version, rounds, metrics, why}; `version` None where it was refused. A task of the house needs a store
    that tells the tenant."""
    privacy.check(ask.noise_multiplier)  # before a job is made
    tenant = run.tenant if run.tenant != SYSTEM else await _of_store(ask.store_id, run.stores)
    asked = ask.model_dump_json(exclude_defaults=True)
    last = reports(await run.job("federated", ["--tenant", tenant, "--ask", asked]))[-1]
    rounds = _number(last, "rounds")
    return {k: last[k] for k in ("version", "metrics", "why")} | {"model": last["name"], "rounds": rounds}


async def _of_store(store_id: str, stores: Stores) -> str:
    found = await stores.documents.get(SYSTEM, "stores", store_id) if store_id else None
    if found is None:
        raise Fail(f"store {store_id!r} is unknown, and the task has no tenant. Send it with a tenant's key")
    return str(found.body["tenant"])


BATCHES = (
    Batch("train-model-daily", "train", version, TrainAsk, "model_training", ("app.tasks.model_tasks.*",)),
    Batch("compute-item-similarity-hourly", "similarity", similarity, LearnAsk, "item_processing",
          ("app.tasks.item_tasks.*",), least=0),
    Batch("generate-item-vectors", "embed", vectors, Ask, "item_processing",
          ("app.tasks.item_tasks.generate_item_vectors",)),
    Batch("update-user-profiles-2hours", "profiles", users, Ask, "user_profile", ("app.tasks.user_tasks.*",)),
    Batch("precompute-recommendations-4hours", "precompute", lists, Ask, "default",
          ("app.tasks.recommendation_tasks.*",)),
    Batch("learn-recallers", "recall", versions, LearnAsk, "model_training", least=0),
    Batch("evaluate-models", "evaluate", version, SliceAsk, "model_training"),
    Batch("build-dataset", "dataset", built, DatasetAsk, "model_training"),
    Batch("compact-rows", "compact", version, CompactAsk, "item_processing"),
)  # fmt: skip
HANDLERS: tuple[Handler, ...] = (
    *(batch.handler() for batch in BATCHES),
    Handler(
        federated, FederatedAsk, name="train_federated_model", queue="low_priority",
        aliases=("src.core.celery_tasks.train_federated_model",), positional=("store_id", "model_type"),
        verdicts=REFUSED,
    ),
)  # fmt: skip
