"""Logged answers as examples: the features to the bit, who asked as of that moment, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import orjson
import pytest

from ray_app.features.view import IDENTITY, NAMES, VIEW
from ray_app.models.popularity import Popularity
from ray_app.training import logged
from ray_app.training.history import History
from ray_app.training.logged import NEEDED, WINDOW_MS, Logged
from ray_app.training.rankers import parts
from ray_app.types import Behavior
from tests.unit.analytics.test_examples import ASKED, House, house
from tests.unit.make import DAY_MS, NOW, behavior, pinned
from tests.unit.training.test_past import history

__all__ = ["house"]
SHELF = pinned(8)
SHOWN_AT = NOW - 3 * DAY_MS
EVENTS = [
    behavior("e1", "i1", SHOWN_AT - DAY_MS), behavior("e2", "i2", SHOWN_AT - 1, type="click"),
    behavior("e3", "i5", SHOWN_AT - 2 * DAY_MS, user_id="2"),
]  # fmt: skip
STANDS = orjson.dumps({"ranker": "7", VIEW: IDENTITY}).decode()


def drawn(count: int) -> list[np.ndarray[Any, Any]]:
    found = np.random.default_rng(count).normal(size=(count, len(NAMES))).astype(np.float32)
    found[0, 0], found[0, 1] = np.nan, -0.0
    return list(found)


def answer(
    request: str = "r", items: str = "034", visitor: str = "u:1", at: int = SHOWN_AT, **changed: Any
) -> list[dict[str, Any]]:
    """Its rows, of which the second was clicked."""
    known = {"request_id": request, "visitor": visitor, "answered_at": at, "versions": STANDS, "converted": 0,
             "watch_time": 0.0}  # fmt: skip
    return [
        {**known, "item_id": f"i{i}", "position": k, "score": 1.0 - k / 10, "features": f, "clicked": int(k == 1),
         **changed}
        for k, (i, f) in enumerate(zip(items, drawn(len(items)), strict=True))
    ]  # fmt: skip


def table(*rows: dict[str, Any]) -> dict[str, Any]:
    """As the query gives it."""
    plain = {c: np.array([r[c] for r in rows]) for c in NEEDED if c != "features"}
    return {**plain, "features": np.fromiter((r["features"] for r in rows), object, len(rows))}


def read(*rows: dict[str, Any], events: list[Behavior] = EVENTS) -> Logged:
    known: History = history(events, SHELF)
    return logged.made(table(*rows), SHELF, known, "slates")


def test_an_example_has_the_logged_features_to_the_bit_and_what_followed() -> None:
    rows = answer(items="0347")
    rows[2] |= {"converted": 1}
    rows[3] |= {"watch_time": 2.5}
    (one,) = read(*rows[::-1]).examples  # in any order
    assert one.features.tobytes() == np.stack(drawn(4)).tobytes()
    assert one.candidates.rows.tolist() == [0, 3, 4, 7]
    assert one.labels.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 0, 2.5]]


def test_who_asked_is_as_the_history_knew_him_then() -> None:
    found = read(*answer())
    visitor = found.examples[0].visitor
    assert (visitor.name, visitor.recent.tolist()) == ("u:1", [2, 1])
    assert visitor.ages_s.tolist() == pytest.approx([0.001, 86_400])
    assert visitor.weights.tolist() == [1, 5]
    assert sorted(visitor.seen.tolist()) == [1, 2]


@pytest.mark.parametrize("planted", [
    behavior("p", "i3", SHOWN_AT), behavior("p", "i1", SHOWN_AT + 1), behavior("p", "i6", NOW),
    behavior("p", "i2", SHOWN_AT + 5, type="hide"), behavior("p", "i1", SHOWN_AT + 1, user_id="2"),
])  # fmt: skip
def test_what_came_later_changes_no_bit_of_an_example(planted: Behavior) -> None:
    rows = [*answer(), *answer("s", "12", "u:2", SHOWN_AT + 1)]
    assert bits(read(*rows, events=[*EVENTS, planted])) == bits(read(*rows))
    earlier = behavior("p", "i6", SHOWN_AT - 5)
    assert bits(read(*rows, events=[*EVENTS, earlier])) != bits(read(*rows))


def bits(found: Logged) -> list[bytes]:
    return [
        b"".join(part.tobytes() for part in (
            e.features, e.labels, e.candidates.rows, e.visitor.recent, e.visitor.weights, e.visitor.ages_s,
            e.visitor.counts, e.visitor.seen,
        )) for e in found.examples
    ]  # fmt: skip


@pytest.mark.parametrize("changed", [
    {"versions": orjson.dumps({VIEW: "another"}).decode()}, {"versions": '{"ranker":"7"}'},
    {"features": np.zeros(len(NAMES) - 1, np.float32)},
])  # fmt: skip
def test_an_answer_of_another_view_is_left_out_and_counted(changed: dict[str, Any]) -> None:
    found = read(*answer("other", **changed), *answer("ours"))
    assert (len(found.examples), found.others) == (1, 1)
    assert read(*answer("other", **changed)).examples == []


def test_what_has_no_row_or_no_features_is_left_out_of_its_answer() -> None:
    rows = answer(items="0399"[:3])
    rows[0] |= {"features": np.zeros(0, np.float32)}
    found = read(*rows, *answer("gone", "9"))
    assert [e.candidates.rows.tolist() for e in found.examples] == [[3]]
    assert found.others == 0


def test_visitors_without_a_history_have_numbers_after_the_others() -> None:
    found = read(*answer(), *answer("s", visitor="u:new", at=SHOWN_AT + 1), *answer("t", visitor="", at=SHOWN_AT + 2))
    assert [found.names[e.user] for e in found.examples] == ["u:1", "u:new", "t"]
    assert found.examples[2].visitor.name == ""
    assert found.names[:2] == ("u:1", "u:2")
    assert [len(e.visitor.recent) for e in found.examples] == [2, 0, 0]
    assert len(parts(found.examples, found.names).data) + len(parts(found.examples, found.names).kept) == 3


async def test_of_the_table_answers_of_the_scenario_alone_are_read(house: House) -> None:
    """Another's may be a thousand times as many."""
    for request, scenario in (("r", "home"), ("s", "related"), ("t", "related")):
        await house.show(request, scenario=scenario)
        await house.see(request)
    found = await logged._read(cast(Any, house), replace(ASKED, scenario="home"))
    assert found["request_id"].tolist() == ["r"] * 3
    assert await logged._read(cast(Any, house), replace(ASKED, scenario="buy_again")) == {}


def test_of_a_build_answers_of_the_scenario_alone_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logged, "MOST", 3)
    rows = [row for k in range(7) for row in answer(f"r{k}", "0")]
    built = {**table(*rows), "scenario": np.array(["home", "related", "home", *["related"] * 4])}
    found = logged._within(built, "home", 0, NOW)
    assert found["request_id"].tolist() == ["r0", "r2"]
    assert logged._within(built, "related", 0, NOW)["request_id"].tolist() == ["r1", "r4", "r6"]


def test_answers_to_somebody_unknown_teach_too() -> None:
    """Each is taken for one of a visitor of its own: as one visitor all of them would be kept aside."""
    found = read(*(row for k in range(60) for row in answer(f"r{k}", visitor="", at=SHOWN_AT + k)))
    split = parts(found.examples, found.names)
    assert len(split.held) < 20 < len(split.learned)


def test_no_answers_are_no_examples() -> None:
    found = logged.made({}, SHELF, history(EVENTS, SHELF), "slates")
    assert (list(found.examples), found.names) == ([], ("u:1", "u:2"))
    assert found.judged({"slates_": Popularity("v", NAMES)}, NOW, print) == {}


CUT = NOW - DAY_MS


def many(monkeypatch: pytest.MonkeyPatch, least: int) -> Logged:
    """An answer before the window that ends at the cut, one within it, and one that judges."""
    monkeypatch.setattr(logged, "LEAST", least)
    times = (CUT - WINDOW_MS, CUT - WINDOW_MS + 1, CUT - 1, CUT, NOW)
    return read(*(row for k, at in enumerate(times) for row in answer(f"r{k}", at=at)))


def test_only_answers_whose_windows_ended_before_the_judging_slice_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    found = many(monkeypatch, 1)
    assert list(found.teaching(CUT, said.append)) == list(found.examples[:1])
    assert said == ["history teaches, and 1 logged answers; something was taken of 1"]
    assert found.about(found.examples[:1]) == {"source": "slates", "answers": 1, "taken": 1, "other_view": 0}


def test_with_too_few_history_alone_teaches_and_the_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    found = replace(many(monkeypatch, 2), others=3)
    assert found.teaching(CUT, said.append) == ()
    assert said[0] == "3 logged answers are left out: their features are of another view"
    assert said[1].startswith("history alone teaches: of 1 logged answers before")
    assert Logged().teaching(CUT, said.append) == ()


def test_the_newest_answers_judge_where_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    found, ranker = many(monkeypatch, 2), Popularity("v", NAMES)
    figures = found.judged({"slates_": ranker, "live_slates_": None}, CUT, said.append)
    assert set(figures) == {f"slates_{n}{end}" for n in ("auc", "gauc") for end in ("", "_low", "_high")}
    scores = ranker.predict(found.examples[0].scene)[:, 0]
    assert figures["slates_gauc"] == np.mean([scores[1] > scores[0], scores[1] > scores[2]])
    assert said[0].startswith("on 2 logged answers from")
    assert many(monkeypatch, 3).judged({"slates_": ranker}, CUT, said.append) == {}
