"""The ports Embedder and Recaller, held by every model: one suite each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
from ray_app.models.itemcf import ItemCF
from ray_app.models.text import TextEmbedder
from ray_app.recommend.channels import LOCAL
from ray_app.registry.registry import Registry
from ray_app.stores.blobs import Blobs
from ray_app.stores.memory import MemoryDocuments
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
        item = Item("t", f"i{k}", "item", f"t{k}", 1, category=f"c{k % 3}", published_at=NOW - k * DAY_MS)
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


def _local(name: str) -> Find:
    return lambda s, who, n, allowed: LOCAL[name](who, n, allowed, s.moment())


def _item_cf(s: Shop, who: Visitor, n: int, allowed: Mask) -> Scored:
    return ItemCF.fit(s.history, NOW).recommend(who, n, allowed)


RECALLERS: dict[str, Find] = {"item_cf": _item_cf, **{name: _local(name) for name in LOCAL}}


@pytest.fixture(params=RECALLERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def find(name: str) -> Find:
    return RECALLERS[name]


def test_what_is_found_is_best_first_without_repeats_and_no_more_than_asked(name: str, find: Find) -> None:
    s = shop(items=60, users=20, events=400)
    for n in (1, 7, 100):
        found = find(s, visitor(3, 9, 27), n, s.everything())
        assert found.channel == name
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


async def test_item_cf_comes_back_from_the_registry_to_the_bit(registry: Registry) -> None:
    s = shop(items=60, users=20, events=400)
    model = ItemCF.fit(s.history, NOW)
    again = ItemCF.load(await through(registry, model.arrays()))
    a, b = (m.recommend(visitor(3, 9), 20, s.everything()) for m in (model, again))
    assert np.array_equal(a.rows, b.rows)
    assert np.array_equal(a.scores, b.scores)


def test_item_cf_that_is_older_than_the_shelf_serves_what_it_knows() -> None:
    old, grown = shop(items=40, users=20, events=400), shop(items=60, users=20, events=400)
    model = ItemCF.fit(old.history, NOW)
    found = model.recommend(visitor(55, 3), 50, grown.everything())
    assert len(found.rows) > 0
    assert found.rows.max() < 40
    assert not len(model.recommend(visitor(55), 50, grown.everything()).rows)
    assert model.nearest(np.array([55, 3], np.int32), np.array([55], np.int32)) == [-1, -1]
