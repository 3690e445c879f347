"""Lists made beforehand: for active visitors, by the stages that serve, and popular ones per scenario and category."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ray_app.catalog import lists
from ray_app.catalog.lists import MOST
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import HOME, Scenario, Scenarios
from ray_app.clock import FixedClock
from ray_app.features.boards import board
from ray_app.features.view import Moment
from ray_app.models.precomputed import Precomputed
from ray_app.recommend.budget import Budget
from ray_app.recommend.request import Request
from ray_app.recommend.stages import choose
from ray_app.registry.watch import Live, Models
from ray_app.training.gate import Made, release
from ray_app.training.history import History, visitors_at
from ray_app.training.report import Refused, Report, Tell
from ray_app.training.stores import Ground, Stores, catalogue, history, origin_of
from ray_app.types import Mask, Rows, Scored, Visitor

BATCH = 500  # lists of a write
ACTIVE_S = 90 * 86400  # a visitor with a behaviour in this time has a list
Listed = tuple[str, str, Sequence[str]]  # scenario, category, items


async def precompute(stores: Stores, tenant: str, tell: Tell) -> Report:
    """A version of the channel `precomputed` with a list for each active visitor, as `home` would have answered; and
    popular lists as catalog.lists keeps them. Made again at once they are the same."""
    live, origin = Live(stores.registry), await origin_of(stores, tenant)
    pinned = await catalogue(stores, live, tenant)
    events, _ = await history(stores, tenant, pinned)
    scenarios = await Scenarios(stores.documents, stores.clock).list(tenant)
    moment = _moment(stores, events, pinned)
    now = moment.now
    found: list[Listed] = [x for s in scenarios for x in popular(s, moment)]
    tell(f"{len(found):,} popular lists of {len(scenarios)} scenarios")
    for k in range(0, len(found), BATCH):
        batch = [lists.document(*one, now) for one in found[k : k + BATCH]]
        await stores.documents.upsert(tenant, lists.KIND, batch)
    try:
        made = await made_of(stores, tenant, Ground(pinned, live.of(tenant), origin), events, tell)
    except Refused as e:
        return Report(Precomputed.name, None, {"popular": float(len(found)), **e.metrics}, str(e))
    return await release(stores, tenant, replace(made, metrics={"popular": float(len(found)), **made.metrics}))


async def made_of(stores: Stores, tenant: str, on: Ground, events: History, tell: Tell) -> Made:
    """The lists of visitors. Raises Refused where nobody is to have one."""
    home = await Scenarios(stores.documents, stores.clock).get(tenant, HOME.id)
    moment = _moment(stores, events, on.pinned)
    models = on.models.ranked_by(home.ranker) or on.models
    of_visitors = await asyncio.to_thread(lambda: dict(personal(events, home, models, moment, tell)))
    model, metrics = Precomputed.fit(of_visitors), {"visitors": float(len(of_visitors))}
    if model.empty():
        raise Refused(f"no visitor did anything in the last {ACTIVE_S // 86400} days", metrics)
    about = {"until": int(events.events.at[-1]), **on.origin}
    return Made(Precomputed.name, model.arrays(), metrics, about, on.pinned.n)


def _moment(stores: Stores, events: History, pinned: Pinned) -> Moment:
    now, settings, e = stores.clock.now(), stores.settings.features, events.events
    buckets = e.at - e.at % (settings.hot_bucket_s * 1000)
    return Moment(pinned, board((e.rows, buckets, e.weights), now, pinned.n, settings.hot_half_life_s), now)


def popular(scenario: Scenario, moment: Moment) -> Iterator[Listed]:
    """What is hot among the items that the scenario may show, whole and per category; none where nothing is."""
    pinned = moment.pinned
    order = moment.board.hottest
    order = order[pinned.eligible((), tuple(scenario.hidden))[order]]
    for number, category in (*enumerate(pinned.categories), (-1, "")):
        rows = order if number < 0 else order[pinned.category[order] == number]
        if len(rows):
            yield scenario.id, category, _ids(rows[:MOST], pinned)


def personal(
    events: History, scenario: Scenario, models: Models, moment: Moment, tell: Tell
) -> Iterator[tuple[str, Scored]]:
    """Each active visitor's list, as a request without a time limit would have found it, of other channels than the
    one that is being made."""
    visitors = visitors_at(events, moment.now)
    active = [v for _, v in sorted(visitors.items()) if len(v.recent) and float(v.ages_s.min()) < ACTIVE_S]
    allowed = moment.pinned.eligible((), tuple(scenario.hidden))
    others = {name: c for name, c in scenario.channels.items() if name != Precomputed.name}
    for done, visitor in enumerate(active, 1):
        rows = _chosen(visitor, replace(scenario, channels=others), models, moment, allowed.copy())
        yield visitor.name, Scored(Precomputed.name, rows, (1.0 / np.arange(1, len(rows) + 1)).astype(np.float32))
        if done % BATCH == 0 or done == len(active):
            tell(f"{done:,} of {len(active):,} visitors")


def _chosen(visitor: Visitor, scenario: Scenario, models: Models, moment: Moment, fresh: Mask) -> Rows:
    allowed = fresh.copy()
    if scenario.exclude_seen:
        fresh[visitor.seen] = False
    budget = Budget(FixedClock(), 1.0)
    return choose(Request(MOST, visitor, scenario, models, moment, budget, allowed, fresh)).picked


def _ids(rows: Rows, pinned: Pinned) -> list[str]:
    return [pinned.ids[r] for r in rows.tolist()]
