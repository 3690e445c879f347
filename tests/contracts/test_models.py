"""The ports Embedder and Recaller, held by every model: one suite each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_app.catalog.changes import Change
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.shelf import Shelf
from ray_app.clock import FixedClock
from ray_app.events.schema import item_to_dict
from ray_app.features.boards import Board, board
from ray_app.features.view import Moment
from ray_app.models import covisit, itemcf
from ray_app.models.base import Recaller
from ray_app.models.covisit import Covisit
from ray_app.models.factors import HALF_LIVES, Factors
from ray_app.models.factors import Fit as OfFactors
from ray_app.models.itemcf import ItemCF
from ray_app.models.precomputed import Precomputed
from ray_app.models.text import TextEmbedder
from ray_app.recommend.channels import KNOWN, LISTED, LOCAL, listed
from ray_app.registry.registry import Registry
from ray_app.registry.watch import RECALLERS
from ray_app.stores.blobs import Blobs
from ray_app.stores.memory import MemoryDocuments
from ray_app.training import towers
from ray_app.types import Interactions, Item, Mask, Scored, Visitor

NOW, DAY_MS = 1_800_000_000_000, 86_400_000
TEXTS = ["red tea cup", "green tea pot", "blue cup of tea", "red pot", "Grüne Tasse", "日本 茶", "", "  \n"]
EMBEDDERS: dict[str, Callable[[list[str]], TextEmbedder]] = {"text": lambda texts: TextEmbedder.fit(texts, 4)}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    clock = FixedClock(NOW)
    return Registry(MemoryDocuments(clock), Blobs(tmp_path / "blobs"), clock)


async def through(registry: Registry, arrays: dict[str, Any]) -> dict[str, Any]:
    """Saved and read back, as a serving replica gets it."""
    return await registry.load("t", await registry.register("t", "model", arrays))


@pytest.fixture(params=EMBEDDERS)
def fit_embedder(request: pytest.FixtureRequest) -> Callable[[list[str]], TextEmbedder]:
    return EMBEDDERS[request.param]


def test_vectors_are_unit_float32_or_zero_for_a_text_without_a_known_word(fit_embedder: Any) -> None:
    embedder = fit_embedder(TEXTS)
    vectors = embedder.embed([*TEXTS, "qqq xxx"])
    assert (vectors.shape, vectors.dtype) == ((len(TEXTS) + 1, embedder.size), np.float32)
    lengths = np.linalg.norm(vectors, axis=1)
    assert lengths[:3] == pytest.approx([1, 1, 1], abs=1e-5)
    assert lengths[6:].tolist() == [0, 0, 0]


def test_a_text_has_one_vector_in_whatever_company_and_however_often(fit_embedder: Any) -> None:
    embedder = fit_embedder(TEXTS)
    alone = np.concatenate([embedder.embed([t]) for t in TEXTS])
    assert np.allclose(embedder.embed(TEXTS), alone, atol=1e-6)
    assert np.array_equal(embedder.embed(TEXTS), embedder.embed(TEXTS))


def test_a_fit_on_the_same_texts_is_the_same_space(fit_embedder: Any) -> None:
    assert fit_embedder(TEXTS).version == fit_embedder(TEXTS).version
    assert fit_embedder(TEXTS).version != fit_embedder(TEXTS[:4]).version


def test_like_texts_are_nearer_than_others_and_case_says_nothing(fit_embedder: Any) -> None:
    red, also_red, pot = fit_embedder(TEXTS).embed(["red tea cup", "RED Tea CUP", "green pot"])
    assert red @ also_red == pytest.approx(1.0, abs=1e-6)
    assert red @ pot < 0.9


def test_no_texts_are_no_vectors(fit_embedder: Any) -> None:
    embedder = fit_embedder(TEXTS)
    assert embedder.embed([]).shape == (0, embedder.size)


@pytest.mark.parametrize("texts", [["one text"] * 2, ["a", "b"], ["", ""]])
def test_a_fit_on_hardly_anything_still_embeds(fit_embedder: Any, texts: list[str]) -> None:
    vectors = fit_embedder(texts).embed(["one text", ""])
    assert np.isfinite(vectors).all()
    assert not vectors[1].any()


async def test_an_embedder_comes_back_from_the_registry_to_the_bit(fit_embedder: Any, registry: Registry) -> None:
    embedder = fit_embedder(TEXTS)
    again = type(embedder).load(await through(registry, embedder.arrays()))
    assert (again.version, again.size) == (embedder.version, embedder.size)
    assert np.array_equal(again.embed(TEXTS), embedder.embed(TEXTS))


@dataclass(frozen=True)
class Shop:
    """Catalogue, board and history at one moment."""

    pinned: Pinned
    history: Interactions
    board: Board

    def moment(self) -> Moment:
        return Moment(self.pinned, self.board, NOW)

    def everything(self) -> Mask:
        return np.ones(self.pinned.n, np.bool_)


def shop(items: int, users: int, events: int, seed: int = 1) -> Shop:
    drawn, made = np.random.default_rng(seed), Shelf()
    for k in range(items):
        item = Item(
            "t",
            f"i{k}",
            "item",
            f"t{k}",
            1,
            category=f"c{k % 3}",
            tags=(f"g{k % 5}", f"g{k % 7}"),
            published_at=NOW - k * DAY_MS,
        )
        made.apply([Change(item.id, k, 1, item_to_dict(item))])
    vectors = drawn.normal(size=(items, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    made.replace_vectors("s", np.arange(items, dtype=np.int32), vectors)
    at = np.sort(NOW - drawn.integers(1, 6 * DAY_MS, events))
    rows = drawn.integers(0, max(1, items), events).astype(np.int32)
    weights = np.full(events, 5, np.float32)
    history = Interactions(drawn.integers(0, max(1, users), events).astype(np.int32), rows, at, weights, users, items)
    return Shop(made.pin(), history, board((rows, at, weights), NOW, items, 7 * 86400))


def visitor(*recent: int) -> Visitor:
    r = len(recent)
    ones, none = np.ones(r, np.float32), np.zeros(0, np.int32)
    return Visitor("u:1", np.array(recent, np.int32), 5 * ones, 3600 * ones, ones, none)


Find = Callable[[Shop, Visitor, int, Mask], Scored]
Fitted = Callable[[Shop], Recaller]
SMALL = towers.How(size=8, hidden=8, epochs=8, batch=64, uniform=16, learning_rate=1e-2)


def _precomputed(s: Shop) -> Recaller:
    rows = np.random.default_rng(5).permutation(s.pinned.n).astype(np.int32)
    lists = {
        f"u:{k}": Scored("any", np.roll(rows, k), np.linspace(1, 0.1, len(rows), dtype=np.float32)) for k in (1, 2)
    }
    return Precomputed.fit(lists if len(s.history) else {})


LEARNED: dict[str, Fitted] = {
    **{f"item_cf {v}": lambda s, v=v: ItemCF.fit(s.history, NOW, itemcf.Fit(v)) for v in itemcf.FORMS},
    **{f"factors {v}": lambda s, v=v: Factors.fit(s.history, NOW, OfFactors(8, variant=v)) for v in HALF_LIVES},
    "covisit": lambda s: Covisit.fit(s.history, NOW, covisit.Fit(gap_s=86400.0)),
    "two_tower": lambda s: towers.fit(s.history, NOW, s.pinned, SMALL),
}  # fmt: skip
TRAINED: dict[str, Fitted] = {**LEARNED, "precomputed": _precomputed}


def _local(name: str) -> Find:
    find = {**LOCAL, LISTED: partial(listed, tuple(f"i{k}" for k in (5, 9, 27, 11, 999, *range(40, 60))))}[name]
    return lambda s, who, n, allowed: find(who, n, allowed, s.moment())


def _trained(fitted: Fitted) -> Find:
    return lambda s, who, n, allowed: fitted(s).recommend(who, n, allowed, s.pinned)


CHANNELS: dict[str, Find] = {
    **{name: _trained(fitted) for name, fitted in TRAINED.items()},
    **{name: _local(name) for name in (*LOCAL, LISTED)},
}


def test_every_channel_that_a_scenario_may_name_is_held_by_this_suite() -> None:
    assert {name.split()[0] for name in CHANNELS} == set(KNOWN)
    assert {name.split()[0] for name in TRAINED} == set(RECALLERS)


@pytest.fixture(params=CHANNELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def find(name: str) -> Find:
    return CHANNELS[name]


def test_what_is_found_is_best_first_without_repeats_and_no_more_than_asked(name: str, find: Find) -> None:
    s = shop(items=60, users=20, events=400)
    for n in (1, 7, 100):
        found = find(s, visitor(3, 9, 27), n, s.everything())
        assert found.channel == name.split(maxsplit=1)[0]
        assert (found.rows.dtype, found.scores.dtype) == (np.int32, np.float32)
        assert 0 < len(found.rows) == len(found.scores) <= n
        assert len(set(found.rows.tolist())) == len(found.rows)
        assert (np.diff(found.scores) <= 0).all()
        assert (found.scores > 0).all()


def test_the_same_question_has_the_same_answer(find: Find) -> None:
    first, second = (find(s, visitor(3, 9), 30, s.everything()) for s in (shop(60, 20, 400), shop(60, 20, 400)))
    assert np.array_equal(first.rows, second.rows)
    assert np.array_equal(first.scores, second.scores)


def test_only_allowed_rows_are_found_and_the_best_of_them(find: Find) -> None:
    s = shop(items=60, users=20, events=400)
    allowed = np.random.default_rng(0).random(60) < 0.3
    allowed[[3, 9, 27]] = True, True, False
    every = find(s, visitor(3, 9, 27), 60, s.everything())
    some = find(s, visitor(3, 9, 27), 60, allowed)
    assert some.rows.tolist() == [r for r in every.rows.tolist() if allowed[r]]
    assert not len(find(s, visitor(3), 60, np.zeros(60, np.bool_)).rows)


def test_a_question_leaves_the_mask_as_it_was(find: Find) -> None:
    s, allowed = shop(items=30, users=10, events=100), np.random.default_rng(0).random(30) < 0.5
    before = allowed.copy()
    find(s, visitor(3), 10, allowed)
    assert np.array_equal(allowed, before)


@pytest.mark.parametrize(
    ("items", "users", "events"), [(0, 0, 0), (1, 0, 0), (5, 0, 0), (1, 1, 1), (1, 1, 9), (9, 1, 9)]
)
def test_hardly_any_data_is_no_error(find: Find, items: int, users: int, events: int) -> None:
    s = shop(items, users, events)
    for who in (visitor(), visitor(0) if items else visitor()):
        found = find(s, who, 10, s.everything())
        assert set(found.rows.tolist()) <= set(range(items))
        assert np.isfinite(found.scores).all()


def test_a_cold_item_as_the_only_history_is_no_error(find: Find) -> None:
    """Nobody took row 59, and its category and vector are all that is known."""
    s = shop(items=60, users=20, events=400)
    keep = s.history.rows != 59
    history = replace(
        s.history, users=s.history.users[keep], rows=s.history.rows[keep], at=s.history.at[keep],
        weights=s.history.weights[keep],
    )  # fmt: skip
    found = find(replace(s, history=history), visitor(59), 10, s.everything())
    assert np.isfinite(found.scores).all()


@pytest.fixture(params=TRAINED)
def trained(request: pytest.FixtureRequest) -> Fitted:
    return TRAINED[request.param]


@pytest.fixture(params=LEARNED)
def learned(request: pytest.FixtureRequest) -> Fitted:
    return LEARNED[request.param]


async def test_a_recaller_comes_back_from_the_registry_to_the_bit(trained: Fitted, registry: Registry) -> None:
    s = shop(items=60, users=20, events=400)
    model = trained(s)
    again = RECALLERS[model.name].load(await through(registry, model.arrays()))
    a, b = (m.recommend(visitor(3, 9), 20, s.everything(), s.pinned) for m in (model, again))
    assert (again.name, again.variant, again.empty()) == (model.name, model.variant, False)
    assert np.array_equal(a.rows, b.rows)
    assert np.array_equal(a.scores, b.scores)


def test_what_was_learned_of_nothing_is_empty(trained: Fitted) -> None:
    assert trained(shop(items=5, users=0, events=0)).empty()


def test_a_recaller_that_is_older_than_the_shelf_serves_what_it_knows(trained: Fitted) -> None:
    old, grown = shop(items=40, users=20, events=400), shop(items=60, users=20, events=400)
    model = trained(old)
    found = model.recommend(visitor(55, 3), 50, grown.everything(), grown.pinned)
    assert len(found.rows) > 0
    late = found.rows[found.rows >= 40]
    assert len(late) == 0 or model.name == "two_tower"


def planted() -> Shop:
    """Visitors 0 .. 39 took rows 0 .. 9 alone, visitors 40 .. 79 rows 10 .. 19; the text says nothing of it."""
    s, drawn = shop(items=20, users=80, events=800), np.random.default_rng(2)
    users = s.history.users
    rows = (drawn.integers(0, 10, len(users)) + 10 * (users >= 40)).astype(np.int32)
    return replace(s, history=replace(s.history, rows=rows))


def test_a_visitor_who_was_not_there_is_understood_by_what_he_took(learned: Fitted) -> None:
    s = planted()
    model = learned(s)
    for taken, mine in (((0, 1, 2), range(10)), ((13, 17), range(10, 20))):
        allowed = s.everything()
        allowed[list(taken)] = False
        found = model.recommend(replace(visitor(*taken), name="u:new"), 5, allowed, s.pinned)
        assert len(found.rows) == 5
        assert set(found.rows.tolist()) <= set(mine)


def test_nobody_took_it_and_yet_two_towers_find_it_by_its_text() -> None:
    """Those who like texts along the first axis and those who like the second: row 30 came after the training."""
    s = shop(items=31, users=60, events=600)
    axis = np.arange(31) % 2
    vectors = np.eye(4, dtype=np.float32)[axis]
    made = Shelf()
    for k in range(31):
        made.apply([Change(f"i{k}", k, 1, item_to_dict(Item("t", f"i{k}", "item", "t", 1)))])
        if k == 29:
            made.replace_vectors("s", np.arange(30, dtype=np.int32), vectors[:30])
            before = made.pin()
    made.replace_vectors("s", np.arange(31, dtype=np.int32), vectors)
    after = made.pin()
    drawn, users = np.random.default_rng(2), s.history.users
    rows = (2 * drawn.integers(0, 15, len(users)) + users % 2).astype(np.int32)
    history = replace(s.history, rows=rows, n_rows=30)
    model = towers.fit(history, NOW, before, replace(SMALL, epochs=10, without_id=0.5))
    allowed = np.ones(31, np.bool_)
    places = [
        model.recommend(visitor(*taken), 31, allowed, after).rows.tolist().index(30) for taken in ((0, 2, 4), (1, 3, 5))
    ]
    assert places[0] < 15 < places[1]
    moved = replace(after, space="another")
    assert np.array_equal(model.late(moved)[0], model.category[0])  # of a text in another space nothing is read


def test_a_list_is_for_the_visitor_that_it_was_made_for() -> None:
    s = shop(items=30, users=5, events=50)
    model, everything = _precomputed(s), s.everything()
    lists = [
        model.recommend(replace(visitor(), name=f"u:{k}"), 9, everything, s.pinned).rows.tolist() for k in (1, 2, 3)
    ]
    assert lists[0] != lists[1]
    assert lists[2] == []
