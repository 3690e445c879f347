"""The view: its order, its shape, and figures worked out by hand; and the text that embedders read."""

from __future__ import annotations

import numpy as np
import pytest

from ray_app.features import content
from ray_app.features.boards import DAYS, Board
from ray_app.features.view import CHANNELS, NAMES, Moment, view
from ray_app.models.text import TextEmbedder
from ray_app.types import Matrix, Scored, Visitor
from tests.unit.make import DAY_MS, NOW, board, item, moment, shelf, visitor

ITEMS = [
    item("a", category="tea", price=1.0, published_at=NOW - DAY_MS),
    item("b", category="tea", price=3.0, published_at=NOW),
    item("c", category="cup", price=None, published_at=NOW + DAY_MS),
    item("d", category="cup", price=7.0, published_at=0),
]
VECTORS = [[1, 0], [0.6, 0.8], [0, 1], [0, 0]]


def rows(*r: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(r, np.int32)


def scored(channel: str, *pairs: tuple[int, float]) -> Scored:
    return Scored(channel, rows(*(r for r, _ in pairs)), np.array([s for _, s in pairs], np.float32))


@pytest.fixture
def now() -> Moment:
    return moment(shelf(ITEMS, VECTORS).pin(), [0, 4, 1, 0])


def seen_by(who: Visitor, now: Moment, *r: int, **found: Scored) -> dict[str, list[float]]:
    merged = np.full(len(r), 0.5, np.float32)
    values = view(who, rows(*r), found, merged, now)
    return {name: values[:, k].tolist() for k, name in enumerate(NAMES)}


def test_names_are_a_contract_with_every_trained_ranker() -> None:
    """A version that was trained on other names, or another order, is refused when it is loaded."""
    assert NAMES == (
        "item_cf_place", "content_place", "hot_place", "hot_category_place", "new_place",
        "factors_place", "two_tower_place", "covisit_place", "similar_place", "tags_place", "precomputed_place",
        "item_cf_score", "item_cf_share", "content_score", "content_share", "factors_score", "factors_share",
        "two_tower_score", "two_tower_share", "covisit_score", "covisit_share", "merged",
        "hot_1d", "hot_3d", "hot_7d", "hot_14d", "hot_30d",
        "trend_1d_3d", "trend_3d_7d", "trend_7d_14d", "trend_14d_30d",
        "age", "price", "price_above_usual", "price_from_usual",
        "likeness", "likeness_all", "likeness_last", "category_share", "popularity_above", "history", "away",
    )  # fmt: skip


@pytest.mark.parametrize("recent", [(), (0,), (0, 1, 2, 3)])
@pytest.mark.parametrize("candidates", [(), (2,), (3, 0, 1)])
def test_the_view_is_finite_float32_of_one_column_a_name(
    now: Moment, recent: tuple[int, ...], candidates: tuple[int, ...]
) -> None:
    found = {c: scored(c, (1, 0.5), (0, 0.25)) for c in CHANNELS}
    values = view(visitor(recent), rows(*candidates), found, np.zeros(len(candidates), np.float32), now)
    assert (values.shape, values.dtype) == ((len(candidates), len(NAMES)), np.float32)
    assert np.isfinite(values).all()


def test_a_place_falls_with_the_rank_and_is_zero_where_the_channel_did_not_look(now: Moment) -> None:
    seen = seen_by(visitor(), now, 0, 1, 2, hot=scored("hot", (1, 9.0), (0, 3.0)))
    assert seen["hot_place"] == pytest.approx([10 / 11, 1.0, 0.0])
    assert seen["new_place"] == [0, 0, 0]


def test_scores_are_a_logarithm_and_a_share_of_the_best(now: Moment) -> None:
    seen = seen_by(visitor(), now, 0, 1, 3, item_cf=scored("item_cf", (1, 4.0), (0, 1.0)), content=scored("content"))
    assert seen["item_cf_score"] == pytest.approx([np.log(2), np.log(5), 0])
    assert seen["item_cf_share"] == pytest.approx([0.25, 1.0, 0.0])
    assert seen["content_score"] == seen["content_share"] == [0, 0, 0]
    assert seen["merged"] == [50, 50, 50]


def test_popularity_is_by_window_and_a_trend_says_whether_the_shorter_one_runs_ahead() -> None:
    sums = np.zeros((len(DAYS), 4), np.float32)
    sums[0, 1], sums[1, 1] = 3, 3
    seen = seen_by(visitor(), Moment(shelf(ITEMS).pin(), Board(sums, sums[0]), NOW), 0, 1)
    assert seen["hot_1d"] == pytest.approx([0, np.log(4)])
    assert seen["trend_1d_3d"] == pytest.approx([0, np.log(4) - np.log(2)])
    assert seen["trend_3d_7d"] == pytest.approx([0, np.log(4)])


def test_age_price_and_the_usual_price(now: Moment) -> None:
    seen = seen_by(visitor([0]), now, 0, 1, 2, 3)
    assert seen["age"][:3] == pytest.approx([np.log(2), 0, 0])  # one that is published tomorrow is no older than new
    assert seen["price"] == pytest.approx([np.log(2), np.log(4), 0, np.log(8)])
    assert seen["price_above_usual"] == pytest.approx([0, np.log(2), -np.log(2), np.log(4)])
    assert seen["price_from_usual"] == pytest.approx(np.abs(seen["price_above_usual"]).tolist())
    assert seen_by(visitor(), now, 1)["price_above_usual"] == [0]


def test_kinship_is_the_nearest_recent_text_and_the_category_s_share_of_interest(now: Moment) -> None:
    seen = seen_by(visitor([1, 2]), now, 0, 1, 2, 3)
    assert seen["likeness"] == pytest.approx([0.6, 1.0, 1.0, 0.0])
    assert seen["category_share"] == pytest.approx([0.5, 0.5, 0.5, 0.5], abs=1e-3)
    assert seen_by(visitor([1]), now, 0, 3)["category_share"] == pytest.approx([1, 0])
    assert seen_by(visitor([0], seen=[0, 1, 2]), now, 3)["history"] == pytest.approx([np.log(4)])


def test_text_is_compared_with_all_recent_items_and_with_those_of_the_last_visit(now: Moment) -> None:
    who = visitor([0, 2], ages_s=np.float32([0, 2 * 86_400]))
    seen = seen_by(who, now, 0, 1, 2, 3)
    assert seen["likeness_last"] == pytest.approx([1.0, 0.6, 0.0, 0.0])
    faded = 2 ** (-2 / 400)
    mean = [np.sqrt(x / (1 + faded)) for x in (1.0, 0.36 + faded * 0.64, faded, 0.0)]
    assert seen["likeness_all"] == pytest.approx(mean)


def test_what_is_taken_more_than_the_visitor_s_own_stands_out(now: Moment) -> None:
    seen = seen_by(visitor([0, 1]), now, 0, 1, 2)
    taken = np.log1p([0.0, 4.0, 1.0])
    assert seen["popularity_above"] == pytest.approx((taken - taken[:2].mean()).tolist(), abs=1e-4)
    assert seen_by(visitor(), now, 1)["popularity_above"] == [0]


def test_days_away_count_from_the_newest_item(now: Moment) -> None:
    who = visitor([0, 1], ages_s=np.float32([3.5 * 86_400, 9 * 86_400]))
    assert seen_by(who, now, 3)["away"] == pytest.approx([np.log1p(3.5)])
    assert seen_by(visitor(), now, 3)["away"] == [0]


def test_candidates_do_not_change_each_other_s_view(now: Moment) -> None:
    together = seen_by(visitor([0, 1]), now, 3, 1, 2)
    for place, row in enumerate((3, 1, 2)):
        assert {k: v[0] for k, v in seen_by(visitor([0, 1]), now, row).items()} == pytest.approx(
            {k: v[place] for k, v in together.items()}
        )


def test_the_text_of_an_item_is_title_category_tags_and_the_beginning_of_its_text() -> None:
    one = item("a", title="Tea", category="drinks", tags=("red", "hot"), text="x" * 5000)
    assert content.text(one) == "Tea drinks red hot " + "x" * 2000
    assert content.text(item("a", title="Tea")) == "Tea"


def test_the_space_of_an_embedder_is_its_version_and_embeds_items() -> None:
    assert content.space_of(None) is None
    words = ["red tea", "green tea", "red cup"]
    embedder = TextEmbedder.fit(words, 2)
    found = content.space_of(embedder)
    assert found is not None
    vectors: Matrix = found.embed([item(w, title=w) for w in words])
    assert found.name == embedder.version
    assert np.array_equal(vectors, embedder.embed(words))


def test_a_board_of_another_size_is_fitted_before_a_view() -> None:
    state = shelf(ITEMS).pin()
    seen = seen_by(visitor(), Moment(state, board([1]).covering(state.n), NOW), 0, 3)
    assert seen["hot_7d"] == pytest.approx([np.log(2), 0])
