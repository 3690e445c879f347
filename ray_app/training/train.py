"""Train the ranker: examples of weekly slices of time, fit on the older, evaluate on the newest, gate, fit on all,
register, promote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import HOME, Scenario, Scenarios
from ray_app.config import Features
from ray_app.models.base import Ranker
from ray_app.models.evaluate import evaluate
from ray_app.models.ranker import DenseRanker
from ray_app.recommend.rank import by_popularity
from ray_app.registry.version import Version
from ray_app.registry.watch import RANKER, Live, Models
from ray_app.training.dataset import FEATURES, Example, Past, examples, past
from ray_app.training.fit import Network, fit
from ray_app.training.history import History
from ray_app.training.report import Report, Tell
from ray_app.training.stores import Stores, catalogue, history, origin_of

K = 20
DAY_MS = 86_400_000
SMALL = Network()
SLICES = 5
LEAST_USERS = 20  # with something taken, in each slice


@dataclass(frozen=True, slots=True)
class How:
    """For which scenario, with labels from how many days after each moment, by which network; `features`: of the hot
    sums that serving reads."""

    scenario: Scenario = HOME
    label_days: int = 14
    network: Network = SMALL
    features: Features = FEATURES


@dataclass(frozen=True)
class Trained:
    """The ranker fitted on the newest slices, and the honest figures of one fitted only on those before the newest."""

    ranker: DenseRanker
    metrics: dict[str, float]
    evaluated_from: int


class Refused(Exception):
    """The result may not go live; says why, with the figures."""

    def __init__(self, why: str, metrics: dict[str, float] | None = None) -> None:
        super().__init__(why)
        self.metrics = metrics or {}


async def train(stores: Stores, tenant: str, tell: Tell, label_days: int = 14) -> Report:
    live = Live(stores.registry)
    origin = await origin_of(stores, tenant)
    pinned = await catalogue(stores, live, tenant)
    events = await history(stores, tenant, pinned)
    scenario = await Scenarios(stores.documents, stores.clock).get(tenant, HOME.id)
    before = await stores.registry.live(tenant, RANKER)
    how = How(scenario, label_days, features=stores.settings.features)
    try:
        found = fit_ranker(events, pinned, live.of(tenant), how, tell, before)
    except Refused as e:
        return Report(RANKER, None, e.metrics, str(e))
    about = {"features": list(found.ranker.names), "label_days": label_days, "evaluated_from": found.evaluated_from,
             "until": int(events.events.at[-1]), **origin}  # fmt: skip
    version = await stores.registry.register(tenant, RANKER, found.ranker.arrays(), found.metrics, about, pinned.n)
    await stores.registry.promote(tenant, version)
    return Report(RANKER, version.id, found.metrics)


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
    label_days = how.label_days
    asked = {name: r for name, r in live.recallers.items() if name in how.scenario.channels}
    kept = Models(live.embedder, asked, None, live.versions)
    found: dict[int, Sequence[Example]] = {}
    state = None
    for cut, until in _slices(int(events.events.at[-1]) + 1, label_days):
        then = past(events, pinned, cut, until, kept, how.features)
        if len(then.wanted) < LEAST_USERS:
            break
        state = state or then
        found[cut] = list(examples(then, how.scenario))
        tell(f"{label_days} days from {_day(cut)}: {len(then.wanted):,} visitors took something new")
    cuts = list(found)
    learned = [e for cut in cuts if cut + label_days * DAY_MS <= cuts[0] for e in found[cut]]
    if state is None or not learned:
        raise Refused(
            f"too little history: at least {LEAST_USERS} visitors must have taken something new in each of two "
            f"consecutive slices of {label_days} days"
        )
    try:
        honest = fit(learned, "honest", how.network, tell)
        metrics = _judge(honest, found[cuts[0]], state, live.ranker, before)
        final = fit([e for cut in cuts[:SLICES] for e in found[cut]], "final", how.network)
    except ValueError as e:
        raise Refused(str(e)) from None
    return Trained(final, metrics, cuts[0])


def _slices(end: int, label_days: int) -> list[tuple[int, int]]:
    """(cut, until) in ms, the newest first, a week apart: the first judges, those that end before it teach, and the
    newest SLICES of all make the final fit."""
    length = label_days * DAY_MS
    more = -(-label_days // 7)  # slices that overlap the one that judges
    return [(end - length - k * 7 * DAY_MS, end - k * 7 * DAY_MS) for k in range(SLICES + more)]


def _day(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).date().isoformat()


def _judge(
    ranker: Ranker, judged: Sequence[Example], state: Past, live: Ranker | None, before: Version | None
) -> dict[str, float]:
    """Figures on the later slice. Raises Refused when the ranker is not better than popularity, or worse than the
    live one: measured on this slice where that one was trained before it, else against its own figure of its day."""
    name = f"ndcg@{K}"
    metrics = ndcg(ranker, judged, state)
    rule = ndcg(None, judged, state)
    figures = {**metrics, f"popularity_{name}": rule[name]}
    if metrics[name] <= rule[name]:
        raise Refused(f"{name} {metrics[name]:.4f} is not above popularity's {rule[name]:.4f}", figures)
    if live is not None and before is not None:
        unseen = int(before.about.get("until", 0)) < state.moment.now
        bar = ndcg(live, judged, state)[name] if unseen else 0.8 * before.metrics.get(name, 0.0)
        if metrics[name] < bar:
            raise Refused(f"{name} {metrics[name]:.4f} is below the live version's bar {bar:.4f}", figures)
    return figures


def ndcg(ranker: Ranker | None, judged: Sequence[Example], state: Past) -> dict[str, float]:
    """recall and ndcg at 20 of the candidates in this ranker's order; None is popularity."""
    lists = {}
    for e in judged:
        c = e.candidates
        scores = by_popularity(c, state.moment.board) if ranker is None else ranker.score(e.features)
        lists[str(e.user)] = [str(r) for r in c.rows[np.argsort(-scores, kind="stable")][:K]]
    wanted = {str(e.user): {str(r) for r in state.wanted[e.user]} for e in judged}
    found = evaluate(wanted, lists, K)
    return {k: found[k] for k in (f"recall@{K}", f"ndcg@{K}")}
