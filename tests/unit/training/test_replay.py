"""Requests as they were answered and logged, replayed: training has the values that were shown, to the bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ray_app.events.schema import read_slate, slate_entry
from ray_app.features import profile
from ray_app.features.boards import Boards
from ray_app.features.view import NAMES, Moment
from ray_app.models.itemcf import ItemCF
from ray_app.models.popularity import Popularity
from ray_app.recommend import requested
from ray_app.recommend.ask import Ask
from ray_app.recommend.budget import Budget
from ray_app.recommend.place import place
from ray_app.recommend.stages import choose
from ray_app.registry.watch import ITEM_CF, Models
from ray_app.training.past import examples, past
from ray_app.types import Slate
from tests.unit.make import TENANT
from tests.unit.training.test_past import CUT, EVENTS, PINNED, SCENARIO, UNTIL, Features, apply, at, history

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.clock import FixedClock
    from ray_app.types import Behavior

PLANTED = {
    "nothing": [],
    "a later one of the visitor": [at(CUT, "i7", "3")],
    "a later one of another": [at(CUT + 1, "i7", "4")],
}


async def answered(redis: Redis, clock: FixedClock, users: list[str], unborn: tuple[str, ...]) -> dict[str, Slate]:
    """By visitor the slate of the moment, as it comes back from the log. `unborn`: what came to the shop later."""
    boards = Boards(redis, lambda: "p", Features())
    await boards.refresh(TENANT, PINNED.rows, PINNED.n, CUT)
    moment = Moment(PINNED, boards.of(TENANT, PINNED.n), CUT)
    before = [b for b in EVENTS if b.occurred_at < CUT]
    cf = ItemCF.fit(history(before, PINNED).events, CUT)
    models = Models(recallers={ITEM_CF: cf}, ranker=Popularity("v", NAMES))
    found = {}
    for user in users:
        ask = Ask("home", n=20, user_id=user.removeprefix("u:"), exclude=unborn)
        known = await profile.read(redis, "p", TENANT, user)
        request = requested(ask, SCENARIO, known, models, moment, Budget(clock, 5.0))
        items = place(request, choose(request))
        slate = Slate(f"r-{user}", TENANT, "home", user, CUT, items)
        found[user] = read_slate(slate_entry(slate).body)
    return found


@pytest.mark.parametrize("planted", PLANTED)
async def test_what_was_logged_is_what_training_makes_of_the_past(
    planted: str, redis: Redis, clock: FixedClock
) -> None:
    later: list[Behavior] = PLANTED[planted]
    await apply(redis, [b for b in EVENTS if b.occurred_at < CUT], CUT)
    known = history([*EVENTS, *later], PINNED)
    state = past(known, PINNED, CUT, UNTIL)
    made = {known.visitors[e.user]: e for e in examples(state, SCENARIO)}
    unborn = tuple(PINNED.ids[r] for r in np.flatnonzero(~state.known))
    compared = 0
    for user, slate in (await answered(redis, clock, list(made), unborn)).items():
        e = made[user]
        places = {PINNED.ids[r]: k for k, r in enumerate(e.candidates.rows.tolist())}
        for shown in slate.items:
            if shown.item_id in places and shown.features:
                logged = np.array(shown.features, np.float32)
                assert logged.tobytes() == e.features[places[shown.item_id]].tobytes()
                compared += 1
    assert compared > 100
