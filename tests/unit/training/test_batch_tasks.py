"""What the handlers of batch work make of a job's log, and for whom they work; tests/ray runs them whole."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ray_app.access.keys import Keys
from ray_app.tasks.names import Names
from ray_app.tasks.task import State
from ray_app.tasks.work import Fail, Handler, Run
from ray_app.training import tasks as batch
from ray_app.training.report import Report
from ray_app.training.runs import recorded
from ray_app.training.tasks import BATCHES, HANDLERS, REFUSED, Ask, for_tenants, reports
from ray_app.wiring.stores import World, world
from tests.tasks_world import TasksWorld, settings_of

SHAPES = {
    "train-model-daily": {"version", "metrics", "status", "why"},
    "compute-item-similarity-hourly": {"items", "shards", "versions"},
    "generate-item-vectors": {"items", "vectors"},
    "update-user-profiles-2hours": {"users"},
    "precompute-recommendations-4hours": {"users", "lists"},
}
FIGURES = {"items": 40, "vectors": 39, "shards": 3, "profiles": 12, "visitors": 7, "popular": 9}


@pytest.fixture
async def house(redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    opened = world(settings_of(redis_url, tmp_path))
    for tenant in ("one", "two"):
        await Keys(opened.documents, opened.clock).create(tenant)
    yield opened
    await opened.close()


async def one(ask: Ask, run: Run) -> dict[str, Any]:
    async def work(tenant: str) -> dict[str, Any]:
        if tenant == "two" and ask.tenant is None:
            raise Fail("two has no history")
        return {"worked": tenant}

    return await for_tenants("batch", ask, run, work)


@pytest.fixture
async def tasks(house: World) -> AsyncIterator[TasksWorld]:
    made = TasksWorld(house.settings, (Handler(one, Ask, name="batch", verdicts=REFUSED),))
    yield made
    await made.close()


async def done(tasks: TasksWorld, *asked: tuple[str, dict[str, Any]]) -> Sequence[Any]:
    ids = [await tasks.submit("batch", argument, tenant=tenant) for tenant, argument in asked]
    await tasks.work_off()
    return [await tasks.queue.get(id) for id in ids]


async def test_a_task_of_the_house_works_for_every_tenant_and_says_who_failed(tasks: TasksWorld) -> None:
    (found,) = await done(tasks, ("system", {}))
    assert found.state is State.SUCCESS, found.error
    assert found.result["tenants"] == {"one": {"worked": "one"}}
    assert "two has no history" in found.result["failed"]["two"]


async def test_a_tenant_works_for_itself_alone(tasks: TasksWorld) -> None:
    own, named, foreign = await done(tasks, ("one", {}), ("system", {"tenant": "two"}), ("one", {"tenant": "two"}))
    assert own.result == {"worked": "one"}
    assert named.result == {"worked": "two"}
    assert (foreign.state, foreign.attempt) == (State.FAILURE, 1)  # it would not be allowed the next time either
    assert "may not work for 'two'" in foreign.error


async def test_a_job_s_reports_are_read_from_its_log(house: World, capsys: pytest.CaptureFixture[str]) -> None:
    made = Report("embedder", "v1", {k: float(v) for k, v in FIGURES.items()})

    async def work(tell: Any) -> Report:
        tell("half of it")
        return made

    await recorded(house, "one", "embed", {}, work)
    (found,) = reports(capsys.readouterr().out + "embedder: version v1 is live.\n")
    assert (found["version"], found["status"], found["metrics"]["items"]) == ("v1", "live", 40)
    assert batch.vectors([found]) == {"items": 40, "vectors": 39}
    assert batch.users([found]) == {"users": 12}
    assert batch.lists([found]) == {"users": 7, "lists": 9}
    assert batch.similarity([found, found]) == {"items": 40, "shards": 6, "versions": {"embedder": "v1"}}
    for b in BATCHES:
        assert SHAPES.get(b.name, set()) <= set(b.shape([found]))
    refused = {**found, "version": None, "why": "worse"}
    assert batch.version([refused])["status"] == "refused"


async def test_noise_without_the_accountant_fails_before_a_job_is_made(
    house: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opacus", None)
    tasks = TasksWorld(house.settings, HANDLERS)
    noisy = {"clip_norm": 1.0, "noise_multiplier": 1.0}
    id = await tasks.submit("train_federated_model", noisy, tenant="one")
    await tasks.work_off()
    found = await tasks.queue.get(id)
    assert (found.state, found.attempt) == (State.FAILURE, 1)
    assert "pip install 'lemo[privacy]'" in found.error
    await tasks.close()


class Told:
    """A run whose job ended well with this log; what it was asked is kept."""

    def __init__(self, log: str) -> None:
        self.tenant, self._log, self.asked = "one", log, list[tuple[str, Sequence[str]]]()

    async def job(self, script: str, args: Sequence[str] = ()) -> str:
        self.asked.append((script, args))
        return self._log


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("learn-recallers", {"versions": {}}),
        ("compute-item-similarity-hourly", {"items": 0, "shards": 0, "versions": {}}),
    ],
)
async def test_a_tenant_whose_scenarios_name_no_such_channel_has_nothing_to_learn(
    name: str, wanted: dict[str, Any]
) -> None:
    """The job goes over no channel, and ends well without a word."""
    handler = Names(HANDLERS).of(name)
    assert await handler.call(handler.asks(), Told("")) == wanted


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "argument", "script", "parameters"),
    [
        ("learn-recallers", {"dataset": "daily"}, "recall", ["--dataset", "daily"]),
        ("evaluate-models", {"label_days": 7}, "evaluate", ["--label-days", "7"]),
        ("build-dataset", {"name": "daily"}, "dataset", ["--name", "daily"]),
        ("compact-rows", {"least": 0.5}, "compact", ["--least", "0.5"]),
        ("train-model-daily", {"policy": "shadow"}, "train", ["--label-days", "14", "--policy", "shadow"]),
    ],
)
async def test_what_is_asked_is_what_the_script_takes(
    name: str, argument: dict[str, Any], script: str, parameters: list[str]
) -> None:
    """The help of the real script names every option."""
    handler, log = (
        Names(HANDLERS).of(name),
        'answer: {"name": "n", "version": "v", "metrics": {}, "why": "", "status": "s"}',
    )
    run = Told(log)
    found = await handler.call(handler.asks(**argument), run)
    assert found.get("version", found.get("versions")) in ("v", {"n": "v"})
    assert run.asked == [(script, ["--tenant", "one", *parameters])]
    line = [sys.executable, f"jobs/{script}.py", *run.asked[0][1]]
    read = await asyncio.create_subprocess_exec(*line, "--help", stdout=asyncio.subprocess.PIPE)
    said, _ = await read.communicate()
    assert read.returncode == 0
    assert all(option in said.decode() for option in run.asked[0][1] if option.startswith("--"))


def test_a_log_without_a_report_is_a_failure() -> None:
    with pytest.raises(Fail, match="the job told no result: what is this"):
        reports("what is this")


@pytest.mark.parametrize(
    ("old", "name", "queue"),
    [
        ("app.tasks.model_tasks.train_model", "train-model-daily", "model_training"),
        ("app.tasks.item_tasks.compute_similarity", "compute-item-similarity-hourly", "item_processing"),
        ("app.tasks.item_tasks.generate_item_vectors", "generate-item-vectors", "item_processing"),
        ("app.tasks.user_tasks.update_profiles", "update-user-profiles-2hours", "user_profile"),
        ("app.tasks.recommendation_tasks.precompute", "precompute-recommendations-4hours", "default"),
        ("src.core.celery_tasks.train_federated_model", "train_federated_model", "low_priority"),
    ],
)
def test_old_names_are_known(old: str, name: str, queue: str) -> None:
    found = Names(HANDLERS).of(old)
    assert (found.name, found.queue) == (name, queue)


@pytest.mark.parametrize("name", [b.name for b in BATCHES])
async def test_no_batch_handler_works_for_another_tenant(house: World, name: str) -> None:
    tasks = TasksWorld(house.settings, HANDLERS)
    argument = {"tenant": "two", **({"name": "d"} if name == "build-dataset" else {})}
    id = await tasks.submit(name, argument, tenant="one")
    await tasks.work_off()
    found = await tasks.queue.get(id)
    assert (found.state, found.attempt) == (State.FAILURE, 1)
    assert "may not work for 'two'" in found.error
    await tasks.close()
