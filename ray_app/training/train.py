"""Train the ranker: examples of weekly slices of time and of logged answers, every kind fitted on the older and judged
on the newest, gate, the winner fitted on all, register, promote."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import HOME, Scenarios
from ray_app.errors import BrokenArtifact
from ray_app.features.view import NAMES
from ray_app.models.base import Ranker
from ray_app.registry.version import Version
from ray_app.registry.watch import RANKER, Live, Models
from ray_app.training.contest import FIGURE, NoneLeft, hold, winner
from ray_app.training.gate import Made, Policy, release
from ray_app.training.history import History
from ray_app.training.judge import Slice, judge
from ray_app.training.logged import Logged, is_of_slates, read
from ray_app.training.past import Example
from ray_app.training.rankers import Away, Designs, fit, parts, reloaded
from ray_app.training.report import Refused, Report, Tell
from ray_app.training.stores import Stores, catalogue, history, origin_of
from ray_app.training.weeks import LEAST_USERS, SLICES, Slicing, weeks
from ray_app.types import DAY_MS

OWN_SHARE = 0.8  # of the live version's own figure, where it cannot be judged on the same slice
DESIGNS = Designs()


@dataclass(frozen=True, slots=True)
class How(Slicing):
    """Which slices, and by which rankers; `away`: as in rankers.parts. `logged`: answers that teach beside the
    history."""

    designs: Designs = DESIGNS
    away: Away | None = None
    logged: Logged = field(default_factory=Logged)


@dataclass(frozen=True)
class Trained:
    """The winner fitted on the newest slices, and the honest figures of one fitted only on those before the newest.
    `slates`: what it learned of logged answers."""

    ranker: Ranker
    metrics: dict[str, float]
    evaluated_from: int
    slates: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """`label_days`: length of each slice. `policy`: what a good one becomes. `dataset`: learn from its newest build
    instead of the live tables: of logged answers beside the live history where it is made of them, else of history
    alone. `away`: as in rankers.parts."""

    label_days: int = 14
    policy: Policy = "live"
    dataset: str | None = None
    away: Away | None = None


async def train(stores: Stores, tenant: str, tell: Tell, plan: Plan = Plan()) -> Report:
    """Fit the rankers for scenario `home` and release the best as the plan says, or say why not."""
    live = Live(stores.registry)
    origin = await origin_of(stores, tenant)
    pinned = await catalogue(stores, live, tenant)
    scenario = await Scenarios(stores.documents, stores.clock).get(tenant, HOME.id)
    before = await stores.registry.live(tenant, RANKER)
    how = How(scenario, plan.label_days, stores.settings.features, away=plan.away)
    of_slates = await is_of_slates(stores, tenant, plan.dataset)
    try:
        events, build = await history(stores, tenant, pinned, None if of_slates else plan.dataset)
        if of_slates or plan.dataset is None:
            how = replace(how, logged=await read(stores, tenant, events, pinned, how, plan.dataset))
        found = await asyncio.to_thread(fit_ranker, events, pinned, live.of(tenant), how, tell, before)
    except Refused as e:
        return Report(RANKER, None, e.metrics, str(e))
    about = {"kind": found.ranker.kind, "features": list(NAMES), "label_days": plan.label_days,
             "evaluated_from": found.evaluated_from, "until": int(events.events.at[-1]), "dataset": build,
             "slates": found.slates, "parameters": asdict(how.designs), **origin}  # fmt: skip
    made = Made(RANKER, found.ranker.arrays(), found.metrics, about, pinned.n)
    return await release(stores, tenant, made, plan.policy)


def fit_ranker(
    events: History,
    pinned: Pinned,
    live: Models,
    how: How = How(),
    tell: Tell = lambda line: None,
    before: Version | None = None,
) -> Trained:
    """Raises Refused when there is too little history, or when the result is worse than what it would replace."""
    if not len(events.events):
        raise Refused("there are no behaviours yet")
    found: dict[int, Sequence[Example]] = {}
    newest = None
    for one in weeks(events, pinned, live, how, tell):
        newest = newest or one  # of the older ones nothing but the examples is kept
        found[one.cut] = one.examples
    cuts = list(found)
    learned = [e for cut in cuts if cut + how.label_days * DAY_MS <= cuts[0] for e in found[cut]] if cuts else []
    if newest is None or not learned:
        raise Refused(
            f"too little history: at least {LEAST_USERS} visitors must have taken something new in each of two "
            f"consecutive slices of {how.label_days} days"
        )
    taught, names = how.logged.teaching(cuts[0], tell), how.logged.names or events.visitors
    try:
        entries = hold(parts([*learned, *taught], names, how.away), newest, how.designs, tell)
        kind = winner(entries, tell)
        metrics = dict(entries[kind].metrics)
        metrics |= {f"{k}_{FIGURE}": e.figure for k, e in entries.items()}
        comparable = live.ranker if before is not None and _same_view(before) else None
        metrics |= how.logged.judged({"slates_": entries[kind].ranker, "live_slates_": comparable}, cuts[0], tell)
        _gate(metrics, newest, comparable, before)
        every = parts([*(e for cut in cuts[:SLICES] for e in found[cut]), *taught], names, how.away)
        kept = replace(how.designs, neural=replace(how.designs.neural, attention="attention" in entries))
        final = reloaded(fit(kind, every, "final", kept, lambda line: None))
    except (ValueError, BrokenArtifact, NoneLeft) as e:
        raise Refused(str(e)) from None
    return Trained(final, metrics, cuts[0], how.logged.about(taught))


def _same_view(before: Version) -> bool:
    return tuple(before.about.get("features", ())) == NAMES


def _gate(metrics: dict[str, float], on: Slice, live: Ranker | None, before: Version | None) -> None:
    """Raises Refused when nothing was found, or when the winner is worse than the live one: measured on this slice
    where that one was trained before it and is of the same features (`live`), else against its own figure of its
    day."""
    if not metrics[FIGURE]:
        raise Refused(f"{FIGURE} is 0: no list has anything that was taken later", metrics)
    if before is None:
        return
    if live is not None and not on.seen_by(before.about):
        bar = judge(live, on)[FIGURE]
    else:
        bar = OWN_SHARE * before.metrics.get(FIGURE, 0.0)
    if metrics[FIGURE] < bar:
        raise Refused(f"{FIGURE} {metrics[FIGURE]:.4f} is below the live version's bar {bar:.4f}", metrics)
