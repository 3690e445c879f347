"""Train the ranker: examples of weekly slices of time and of logged answers, every kind fitted on the older and judged
on the newest, gate, the winner fitted on all, register, promote."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import HOME, Scenarios
from ray_app.errors import BrokenArtifact, Unavailable
from ray_app.features.view import NAMES
from ray_app.models.base import Ranker
from ray_app.registry.version import Version
from ray_app.registry.watch import OF_KIND, RANKER, Live, Models
from ray_app.training.contest import FIGURE, Entry, NoneLeft, hold, winner
from ray_app.training.gate import Made, Policy, release
from ray_app.training.history import History
from ray_app.training.judge import Slice, judge
from ray_app.training.logged import Logged, is_of_slates, read
from ray_app.training.past import Example
from ray_app.training.rankers import Away, Designs, Parts, fit, parts, reloaded
from ray_app.training.report import Refused, Report, Tell
from ray_app.training.stores import Ground, Stores, catalogue, history, origin_of
from ray_app.training.weeks import LEAST_USERS, SLICES, Slicing, weeks
from ray_app.types import DAY_MS

OWN_SHARE = 0.8  # of the live version's own figure, where it cannot be judged on the same slice
DESIGNS = Designs()


@dataclass(frozen=True, slots=True)
class How(Slicing):
    """Which slices, and by which rankers; `away`: as in rankers.parts. `logged`: answers that teach beside the
    history. `named`: kinds that get a version of their own, whichever is the best."""

    designs: Designs = DESIGNS
    away: Away | None = None
    logged: Logged = field(default_factory=Logged)
    named: Sequence[str] = ()


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
    alone. `away`: as in rankers.parts; `named`: as in How."""

    label_days: int = 14
    policy: Policy = "live"
    dataset: str | None = None
    away: Away | None = None
    named: Sequence[str] = ()


async def train(stores: Stores, tenant: str, tell: Tell, plan: Plan = Plan()) -> Report:
    """Fit the rankers for scenario `home` and release the best as the plan says, or say why not; beside it one of each
    kind that a scenario names, which a shadow does not concern."""
    live, registry = Live(stores.registry), stores.registry
    origin = await origin_of(stores, tenant)
    pinned = await catalogue(stores, live, tenant)
    wanted = {s.ranker for s in await Scenarios(stores.documents, stores.clock).list(tenant)}
    plan = replace(plan, named=[kind for kind in OF_KIND if kind in wanted])
    before = {n: v for n in (RANKER, *map(OF_KIND.__getitem__, plan.named)) if (v := await registry.live(tenant, n))}
    try:
        made = await made_of(stores, tenant, Ground(pinned, live.of(tenant), origin), tell, plan, before)
    except Refused as e:
        return Report(RANKER, None, e.metrics, str(e))
    report = await release(stores, tenant, made[0], plan.policy)
    for one in made[1:]:
        tell(str(await release(stores, tenant, one, "staged" if plan.policy == "shadow" else plan.policy)))
    return report


async def made_of(
    stores: Stores, tenant: str, on: Ground, tell: Tell, plan: Plan, before: Mapping[str, Version]
) -> list[Made]:
    """Fitted for scenario `home`, the best first, and better than what it is to replace: `before`, by name. Raises
    Refused."""
    scenario = await Scenarios(stores.documents, stores.clock).get(tenant, HOME.id)
    how = How(scenario, plan.label_days, stores.settings.features, away=plan.away, named=plan.named)
    of_slates = await is_of_slates(stores, tenant, plan.dataset)
    events, build = await history(stores, tenant, on.pinned, None if of_slates else plan.dataset)
    try:
        if of_slates or plan.dataset is None:
            how = replace(how, logged=await read(stores, tenant, events, on.pinned, how, plan.dataset))
    except Unavailable as e:
        if of_slates:
            raise
        tell(f"logged answers cannot be read, history alone teaches: {e.message}")
    found = await asyncio.to_thread(fit_ranker, events, on.pinned, on.models, how, tell, before)
    about = {"features": list(NAMES), "label_days": plan.label_days, "until": int(events.events.at[-1]),
             "dataset": build, "parameters": asdict(how.designs), **on.origin}  # fmt: skip
    return [
        Made(name, t.ranker.arrays(), t.metrics,
             {**about, "kind": t.ranker.kind, "evaluated_from": t.evaluated_from, "slates": t.slates}, on.pinned.n)
        for name, t in found.items()
    ]  # fmt: skip


def fit_ranker(
    events: History,
    pinned: Pinned,
    live: Models,
    how: How = How(),
    tell: Tell = lambda line: None,
    before: Mapping[str, Version] = MappingProxyType({}),
) -> dict[str, Trained]:
    """By name, the best first, then one of each kind that is named and could be fitted. Raises Refused when there is
    too little history, or when the best is worse than what it would replace."""
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
    designs = replace(how.designs, kinds=tuple(dict.fromkeys((*how.designs.kinds, *how.named))))
    try:
        entries = hold(parts([*learned, *taught], names, how.away), newest, designs, tell)
        best = winner(entries, tell)
        every = parts([*(e for cut in cuts[:SLICES] for e in found[cut]), *taught], names, how.away)
        last = Last(entries, newest, every, how, how.logged.about(taught), live, before)
        return {RANKER: last.trained(RANKER, best, tell), **last.named(tell)}
    except (ValueError, BrokenArtifact, NoneLeft) as e:
        raise Refused(str(e)) from None


@dataclass(frozen=True)
class Last:
    """The last step: who was judged on the newest slice goes live, fitted on `every` slice, if it is good enough.
    `finals`: by kind, since the best may be named too."""

    entries: Mapping[str, Entry]
    newest: Slice
    every: Parts
    how: How
    slates: Mapping[str, Any]
    live: Models
    before: Mapping[str, Version]
    finals: dict[str, Ranker] = field(default_factory=dict)

    def trained(self, name: str, kind: str, tell: Tell) -> Trained:
        """Raises Refused when it is worse than what it would replace."""
        metrics = dict(self.entries[kind].metrics)
        metrics |= {f"{k}_{FIGURE}": e.figure for k, e in self.entries.items()}
        before, cut = self.before.get(name), self.newest.cut
        now = self.live.ranker if name == RANKER else self.live.rankers.get(kind)
        comparable = now if before is not None and _same_view(before) else None
        rankers = {"slates_": self.entries[kind].ranker, "live_slates_": comparable}
        metrics |= self.how.logged.judged(rankers, cut, tell)
        _gate(metrics, self.newest, comparable, before)
        if kind not in self.finals:
            designs = self.how.designs
            kept = replace(designs, neural=replace(designs.neural, attention="attention" in self.entries))
            self.finals[kind] = reloaded(fit(kind, self.every, "final", kept, lambda line: None))
        return Trained(self.finals[kind], metrics, cut, self.slates)

    def named(self, tell: Tell) -> dict[str, Trained]:
        """Of the kinds that scenarios name; what cannot be had is told, and harms none of the others."""
        found = {}
        for kind in self.how.named:
            try:
                if kind not in self.entries:
                    raise Refused("it could not be fitted")
                found[OF_KIND[kind]] = self.trained(OF_KIND[kind], kind, tell)
            except (Refused, ValueError, BrokenArtifact) as e:
                tell(f"{OF_KIND[kind]}: no new version, {e}")
        return found


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
