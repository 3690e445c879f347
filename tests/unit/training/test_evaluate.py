"""Evaluation: the figures that training would record, what has seen the slice marked, and nothing changed by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ray_app.catalog.scenario import HOME
from ray_app.errors import NotFound
from ray_app.features.view import NAMES
from ray_app.registry.version import Version
from ray_app.registry.watch import ITEM_CF, RANKER, Live, Models
from ray_app.training.contest import hold
from ray_app.training.evaluate import Asked, contenders, evaluate, scores
from ray_app.training.judge import Slice
from ray_app.training.rankers import parts
from ray_app.training.recallers import figures_of
from ray_app.training.report import Report
from ray_app.training.runs import history as runs_of
from ray_app.training.runs import recorded
from ray_app.training.scorecard import FOUND
from ray_app.training.stores import catalogue, history
from ray_app.training.train import fit_ranker
from ray_app.training.weeks import DAY_MS, weeks
from tests.unit.make import NOW, TENANT
from tests.unit.training.test_gate import Told, World, columns, listwise, quiet, world

__all__ = ["world"]
pytestmark = pytest.mark.long
CUT = NOW - 14 * DAY_MS  # about where the slice begins
LEARNING = listwise(3, 2e-2)


async def slices(world: World) -> tuple[Any, Any, list[Slice]]:
    """The catalogue, the history, and its slices, the newest first."""
    pinned = await catalogue(world, Live(world.registry), TENANT)
    events, _ = await history(world, TENANT, pinned)
    return pinned, events, list(weeks(events, pinned, Models(), LEARNING, quiet))


async def registered(world: World, until: int | None, status: str = "live") -> Version:
    """The listwise ranker of the older slices, as training judged it."""
    _, events, found = await slices(world)
    learned = [e for s in found if s.cut + 14 * DAY_MS <= found[0].cut for e in s.examples]
    entry = hold(parts(learned, events.visitors), found[0], LEARNING.designs, quiet)["listwise"]
    about = {"kind": entry.ranker.kind, "features": list(NAMES), "evaluated_from": found[0].cut}
    about |= {} if until is None else {"until": until}
    version = await world.registry.register(TENANT, RANKER, entry.ranker.arrays(), entry.metrics, about)
    await (world.registry.promote if status == "live" else world.registry.shadow)(TENANT, version)
    return version


async def told(world: World, *versions: str) -> tuple[Report, list[str]]:
    lines: list[str] = []
    return await evaluate(world, TENANT, lines.append, Asked(versions=versions)), lines


async def test_figures_are_those_that_training_recorded_of_the_same_ranker_on_the_same_slice(world: World) -> None:
    pinned, events, _ = await slices(world)
    recorded_then = fit_ranker(events, pinned, Models(), LEARNING)[RANKER].metrics
    version = await registered(world, CUT - DAY_MS)
    report, lines = await told(world)
    assert report.version == version.id
    assert report.metrics == {**version.metrics, "seen": 0.0}
    assert {k: recorded_then[k] for k in version.metrics} == version.metrics
    popularity = next(line for line in lines if line.startswith("popularity "))
    assert f"{recorded_then['popularity_ndcg@20']:.4f}" in popularity
    assert not any("(seen)" in line for line in lines)


@pytest.mark.parametrize(("until", "says"), [(CUT + DAY_MS, "it learned until 20"), (None, "until an unknown day")])
async def test_a_version_that_may_have_learned_from_the_slice_is_marked(
    world: World, until: int | None, says: str
) -> None:
    await registered(world, until)
    report, lines = await told(world)
    assert report.metrics["seen"] == 1.0
    assert "(seen): recall@20" in report.why
    (note,) = [line for line in lines if "(seen): it " in line]
    assert says in note
    assert "A fit of its kind without what came from" in note
    assert f"ndcg@20 {report.metrics['ndcg@20']:.4f}" in note


@pytest.mark.long
async def test_beside_what_serves_stand_the_shadow_and_any_named_version(world: World) -> None:
    live = await registered(world, CUT - DAY_MS)
    world.clock.pass_s(1)
    shadow = await registered(world, NOW, "shadow")
    world.clock.pass_s(1)
    odd = await world.registry.register(TENANT, RANKER, {"x": np.ones(1)}, about={"features": ["price"]})
    _, lines = await told(world, odd.id, live.id)
    assert sum(line.startswith("judged: live") for line in lines) == 1
    assert any(line.startswith(f"shadow {shadow.id}, listwise (seen)") for line in lines)
    (left,) = [line for line in lines if "left out" in line and odd.id in line]
    assert "was trained on features ['price']" in left
    with pytest.raises(NotFound, match="no version 'none'"):
        await told(world, "none")


def strangers(at: int) -> Told:
    """The history, and 500 purchases of the rarest items by somebody who was never there before."""
    whole, n = columns(), np.arange(500)
    planted = {
        "visitor": np.array([f"s:{k % 9}" for k in n]), "item_id": np.array([f"i{70 + k % 10}" for k in n]),
        "type": np.array(["purchase"] * len(n)), "occurred_at": at + n,
    }  # fmt: skip
    both = {k: np.concatenate([v, planted[k]]) for k, v in whole.items()}
    order = np.argsort(both["occurred_at"], kind="stable")
    return Told({k: v[order] for k, v in both.items()})


async def test_what_strangers_do_after_the_cut_changes_nothing_to_the_bit(world: World) -> None:
    await registered(world, CUT - DAY_MS)
    report, lines = await told(world)
    world.olap = strangers(CUT + DAY_MS)
    assert await told(world) == (report, lines)
    world.olap = strangers(CUT - 3 * DAY_MS)  # or what is above would hold for an evaluation that sees nothing
    seen = (await told(world))[0].metrics
    for name in ("auc", "log_loss", "calibration", "novelty"):  # recall takes a change of the twenty best
        assert seen[name] != report.metrics[name], name


async def test_nothing_that_is_live_changes_and_the_run_has_the_figures(world: World) -> None:
    version = await registered(world, CUT - DAY_MS)
    before = (await world.registry.list(TENANT), await world.registry.pointers(TENANT), world.blobs.names(TENANT))
    report = await recorded(world, TENANT, "evaluate", {}, lambda tell: evaluate(world, TENANT, tell))
    assert (
        await world.registry.list(TENANT),
        await world.registry.pointers(TENANT),
        world.blobs.names(TENANT),
    ) == before
    (run,) = await runs_of(world, TENANT)
    assert (run["job"], run["state"], run["version"]) == ("evaluate", "done", version.id)
    assert run["metrics"] == dict(report.metrics)


async def test_before_the_first_training_popularity_serves_and_is_judged(world: World) -> None:
    report, lines = await told(world)
    assert report.version == "popularity"
    assert report.metrics["recall@20"] > 0
    assert not {k for k in report.metrics if k.startswith(("log_loss", "calibration"))}  # of no probabilities
    assert any(line == "channel factors is left out: no version of it is live" for line in lines)
    assert {f"{s} visitors" for s in ("all", "light")} <= {line.split(" (")[0] for line in lines}


async def test_each_channel_has_the_figures_of_its_own_list_and_candidates(world: World) -> None:
    _, _, (on, *_) = await slices(world)
    found = {s.name: s.figures for s in scores(await contenders(world.registry, TENANT), HOME, on, quiet)}
    model = on.state.models.recallers[ITEM_CF]
    assert found[f"channel {ITEM_CF}"]["recall@20"] == pytest.approx(figures_of(model, on.state)["recall@20"])
    shown = [{str(r) for r in e.candidates.found["hot"].rows} for e in on.examples]
    hot = [len(w & s) / len(w) for w, s in zip(on.wanted, shown, strict=True)]
    assert found["channel hot"][FOUND] == pytest.approx(np.mean(hot))
    narrow = replace(HOME, channels={"hot": HOME.channels["hot"]}, candidates=25)
    found = {s.name: s.figures for s in scores((), narrow, on, quiet)}
    assert set(found) == {"merged order", "channel hot"}
    assert found["merged order"]["recall@20_low"] < found["merged order"]["recall@20"] <= found["merged order"][FOUND]


@pytest.mark.parametrize("few", [{}, {k: v[-200:] for k, v in columns().items()}])
async def test_too_little_history_is_refused_with_what_is_needed(world: World, few: dict[str, Any]) -> None:
    world.olap = Told(few)
    report, lines = await told(world)
    assert report.version is None
    assert "in its last 14 days at least 20 visitors" in report.why
    assert lines == []
