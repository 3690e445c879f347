"""Why an item is in a slate, and why another is not: not eligible, not recalled, or recalled and lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ray_app.catalog.rule import HIDE
from ray_app.catalog.scenario import Channel
from ray_app.clock import FixedClock
from ray_app.errors import NotFound, Unavailable
from ray_app.features.view import NAMES
from ray_app.recommend import Decision, limits
from ray_app.recommend.ask import Ask
from ray_app.recommend.budget import Budget
from ray_app.recommend.place import Ranked
from ray_app.recommend.recall import recall
from ray_app.recommend.request import Request
from ray_app.recommend.rerank import LEAST, POOL, SLATE
from ray_app.recommend.trace import applied, said_of, short
from ray_app.types import Scored

SHOWN, FILTERED, NOT_RECALLED, LOST = "shown", "filtered", "not_recalled", "lost"
Plain = dict[str, Any]


def explain(decision: Decision, ask: Ask, item_id: str) -> Plain:
    """`verdict` and `why` in words, and what they stand on: the item's place in each channel when that is asked for
    every eligible item, its features, scores, places after each step of reranking, and rules. Raises NotFound for an
    item that the catalogue of this answer does not have, and Unavailable where no catalogue was loaded."""
    r, ranked, slate = decision.request, decision.ranked, decision.slate
    if r is None or ranked is None:
        raise Unavailable(f"item {item_id!r} cannot be explained: {slate.degraded[0].reason}. Try again later")
    row = r.moment.pinned.row_of(item_id)
    if row is None:
        raise NotFound(f"item {item_id!r} is unknown to tenant {slate.tenant!r}", field="item_id", value=item_id)
    shown = {i.item_id: k for k, i in enumerate(decision.slate.items)}
    found: Plain = {"item_id": item_id, "request_id": decision.slate.request_id}
    if item_id in shown:
        placed = decision.slate.items[shown[item_id]]
        found |= {"verdict": SHOWN, "why": placed.reason.text, "place": shown[item_id]}
        found |= {"reason": placed.reason.code, "propensity": short(placed.propensity)}
        by: list[str] = []
    elif by := list(_barred(r, ask, row)):
        return {**found, "verdict": FILTERED, "why": f"it is not eligible: {'; '.join(by)}", "by": by}
    else:
        found |= _missed(r, ranked, row)
    return {**found, **_facts(r, ranked, row), "versions": dict(decision.slate.versions)}


def _barred(r: Request, ask: Ask, row: int) -> Iterator[str]:
    """What keeps the item from being eligible."""
    pinned, one = r.moment.pinned, np.array([row], np.int32)
    id = pinned.ids[row]
    if not pinned.available[row]:
        yield "it is unavailable"
    if id in ask.exclude:
        yield "the request excludes it"
    if id in r.scenario.hidden:
        yield f"scenario {r.scenario.id!r} hides it"
    if row == r.visitor.context:
        yield "it is the item looked at"
    for f in ask.filters:
        if not pinned.fits(one, (f,))[0]:
            yield f"filter {f.field} {f.op} {f.value!r}"
    for rule in r.rules:
        if rule.action == HIDE and pinned.fits(one, rule.items)[0]:
            yield f"rule {rule.id!r} hides it"
    if r.allowed[row] and not r.fresh[row]:
        yield "the visitor has seen it"


def _missed(r: Request, ranked: Ranked, row: int) -> Plain:
    at = np.flatnonzero(ranked.candidates.rows == row)
    return _lost(r, ranked, row) if len(at) else _not_recalled(r, ranked, row)


def _not_recalled(r: Request, ranked: Ranked, row: int) -> Plain:
    """The channel that came nearest: its place there, against the channel's quota."""
    brought = [name for name, s in ranked.candidates.found.items() if row in s.rows]
    if brought:
        why = f"{', '.join(brought)} found it, but the merge kept {r.scenario.candidates} better ones"
        return {"verdict": NOT_RECALLED, "why": why, "nearest": brought[0]}
    near = [c for c in _in_channels(r, ranked, row) if c["place"] is not None]
    if not near:
        return {"verdict": NOT_RECALLED, "why": "no channel has a score for it", "nearest": None}
    first = min(near, key=lambda c: c["place"] / c["quota"])
    why = f"nearest was {first['channel']}: place {first['place']} there, of which {first['quota']} are taken"
    return {"verdict": NOT_RECALLED, "why": why, "nearest": first["channel"]}


def _lost(r: Request, ranked: Ranked, row: int) -> Plain:
    """The step in which it fell out of the first n, and who had the last place then."""
    ids, n = r.moment.pinned.ids, r.n
    steps = {} if row in ranked.pins else ranked.reranked.steps  # reranking has left out what is pinned
    for name, order in steps.items():
        place = np.flatnonzero(order == row)
        if len(place) and place[0] < n:
            continue
        last = ids[int(order[:n][-1])]
        stands = f"place {place[0]}" if len(place) else "no place"
        why = f"{stands} after {name}, of {n} that are shown; the last of them was {last!r}"
        closed = _closed(r, ranked, row) if name == SLATE else []
        if closed:
            why += f"; the limits {', '.join(closed)} let it in no more"
        return {"verdict": LOST, "why": why, "by": name, "limits": closed, "last": last}
    pinned = ", ".join(repr(ids[p]) for p in ranked.pins if p != row)
    return {"verdict": LOST, "why": f"pinned items took its place: {pinned}", "by": "pins"}


def _closed(r: Request, ranked: Ranked, row: int) -> list[str]:
    """Limits that are full for the item once the slate is there."""
    before = list(ranked.reranked.steps.values())[-2]
    sets = limits.of(r.scenario.caps, r.rules, before, r.n, r.moment.pinned)
    same = limits.copies_of(before, r.scenario.duplicate_likeness, max(LEAST, POOL * r.n), r.moment.pinned)
    if same is not None:
        sets.append(limits.Limit("copies", same, 1))
    for chosen in ranked.picked.tolist():
        for one in sets:
            one.take(int(np.flatnonzero(before == chosen)[0]))
    at = int(np.flatnonzero(before == row)[0])
    return [one.name for one in sets if not one.open()[at]]


def _facts(r: Request, ranked: Ranked, row: int) -> Plain:
    facts: Plain = {"channels": list(_in_channels(r, ranked, row))}
    at = np.flatnonzero(ranked.candidates.rows == row)
    if len(at):
        k = int(at[0])
        values = ranked.features[k].tolist() if len(ranked.features) else []
        steps = {name: np.flatnonzero(order == row) for name, order in ranked.reranked.steps.items()}
        facts |= {
            "merged": short(ranked.candidates.scores[k]), "scores": said_of(ranked, k),
            "features": dict(zip(NAMES, map(short, values), strict=False)),
            "places": {name: int(p[0]) if len(p) else None for name, p in steps.items()},
        }  # fmt: skip
    one = np.array([row], np.int32)
    mine = [rule for rule in r.rules if r.moment.pinned.fits(one, rule.items)[0]]
    return {**facts, "rules": [applied(rule, r, ranked) for rule in mine]}


def _in_channels(r: Request, ranked: Ranked, row: int) -> Iterator[Plain]:
    """Its place in each channel, first among what was found, else among everything eligible; None: no score."""
    whole = _everything(r)
    for name, channel in r.scenario.channels.items():
        scored = ranked.candidates.found.get(name)
        taken = scored is not None and row in scored.rows
        place, score = _place(scored if taken else whole.get(name), row)
        yield {"channel": name, "quota": channel.quota, "found": taken, "place": place, "score": score}


def _place(scored: Scored | None, row: int) -> tuple[int | None, float | None]:
    at = [] if scored is None else np.flatnonzero(scored.rows == row).tolist()
    return (at[0], short(float(scored.scores[at[0]]))) if scored is not None and at else (None, None)


def _everything(r: Request) -> dict[str, Scored]:
    """What each channel of this process finds when it is asked for all that is eligible."""
    n = r.moment.pinned.n
    asked = replace(r.scenario, channels={name: Channel(c.weight, n) for name, c in r.scenario.channels.items()})
    budget = Budget(FixedClock(), 1.0)
    found = recall(r.visitor, asked, r.models.recallers, r.fresh, r.moment, budget).found
    return dict(found)
