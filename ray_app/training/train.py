"""Train the ranker: examples of weekly slices of time, every kind fitted on the older and judged on the newest, gate,
the winner fitted on all, register, promote."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

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
from ray_app.training.past import Example
from ray_app.training.rankers import Away, Designs, fit, parts, reloaded
from ray_app.training.report import Refused, Report, Tell
from ray_app.training.stores import Ground, Stores, catalogue, history, origin_of
from ray_app.training.weeks import LEAST_USERS, SLICES, Slicing, weeks
from ray_app.types import DAY_MS

OWN_SHARE = 0.8  # of the live version's own figure, where it cannot be judged on the same slice
DESIGNS = Designs()


@dataclass(frozen=True, slots=True)
class How(Slicing):
    """Which slices, and by which rankers; `away`: as in rankers.parts."""

    designs: Designs = DESIGNS
    away: Away | None = None


@dataclass(frozen=True)
class Trained:
    """The winner fitted on the newest slices, and the honest figures of one fitted only on those before the newest."""

    ranker: Ranker
    metrics: dict[str, float]
    evaluated_from: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`label_days`: length of each slice. `policy`: what a good one becomes. `dataset`: learn from its newest build
    instead of the live tables. `away`: as in rankers.parts."""

    label_days: int = 14
    policy: Policy = "live"
    dataset: str | None = None
    away: Away | None = None


async def train(stores: Stores, tenant: str, tell: Tell, plan: Plan = Plan()) -> Report:
    """Fit the rankers for scenario `home` and release the best as the plan says, or say why not."""
    live = Live(stores.registry)
    origin = await origin_of(stores, tenant)
    pinned = await catalogue(stores, live, tenant)
    before = await stores.registry.live(tenant, RANKER)
    try:
        made = await made_of(stores, tenant, Ground(pinned, live.of(tenant), origin), tell, plan, before)
    except Refused as e:
        return Report(RANKER, None, e.metrics, str(e))
    return await release(stores, tenant, made, plan.policy)


async def made_of(stores: Stores, tenant: str, on: Ground, tell: Tell, plan: Plan, before: Version | None) -> Made:
    """Fitted for scenario `home`, and better than `before`, what it is to replace. Raises Refused."""
    scenario = await Scenarios(stores.documents, stores.clock).get(tenant, HOME.id)
    how = How(scenario, plan.label_days, stores.settings.features, away=plan.away)
    events, build = await history(stores, tenant, on.pinned, plan.dataset)
    found = await asyncio.to_thread(fit_ranker, events, on.pinned, on.models, how, tell, before)
    about = {"kind": found.ranker.kind, "features": list(NAMES), "label_days": plan.label_days,
             "evaluated_from": found.evaluated_from, "until": int(events.events.at[-1]), "dataset": build,
             "parameters": asdict(how.designs), **on.origin}  # fmt: skip
    return Made(RANKER, found.ranker.arrays(), found.metrics, about, on.pinned.n)


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
    try:
        entries = hold(parts(learned, events.visitors, how.away), newest, how.designs, tell)
        kind = winner(entries, tell)
        metrics = dict(entries[kind].metrics)
        metrics |= {f"{k}_{FIGURE}": e.figure for k, e in entries.items()}
        _gate(metrics, newest, live.ranker, before)
        every = parts([e for cut in cuts[:SLICES] for e in found[cut]], events.visitors, how.away)
        kept = replace(how.designs, neural=replace(how.designs.neural, attention="attention" in entries))
        final = reloaded(fit(kind, every, "final", kept, lambda line: None))
    except (ValueError, BrokenArtifact, NoneLeft) as e:
        raise Refused(str(e)) from None
    return Trained(final, metrics, cuts[0])


def _gate(metrics: dict[str, float], on: Slice, live: Ranker | None, before: Version | None) -> None:
    """Raises Refused when nothing was found, or when the winner is worse than the live one: measured on this slice
    where that one was trained before it and is of the same features, else against its own figure of its day."""
    if not metrics[FIGURE]:
        raise Refused(f"{FIGURE} is 0: no list has anything that was taken later", metrics)
    if before is None:
        return
    same = live is not None and tuple(before.about.get("features", ())) == NAMES
    if live is not None and same and not on.seen_by(before.about):
        bar = judge(live, on)[FIGURE]
    else:
        bar = OWN_SHARE * before.metrics.get(FIGURE, 0.0)
    if metrics[FIGURE] < bar:
        raise Refused(f"{FIGURE} {metrics[FIGURE]:.4f} is below the live version's bar {bar:.4f}", metrics)
