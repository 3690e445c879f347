"""Rankers beside one another: who wins, who is left out and why, and attention that has to earn its place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ray_app.errors import BrokenArtifact
from ray_app.features.view import NAMES, Moment
from ray_app.models.base import Ranker
from ray_app.models.listwise import Listwise
from ray_app.models.ranker import load
from ray_app.recommend.recall import Candidates
from ray_app.registry.watch import Models
from ray_app.training import contest
from ray_app.training.contest import NoneLeft, hold, winner
from ray_app.training.judge import Slice, earns_attention, judge
from ray_app.training.listwise import Network
from ray_app.training.multitask import Design
from ray_app.training.past import Example, Past
from ray_app.training.rankers import Designs, Parts, fit, parts
from ray_app.training.trees import Forest
from ray_app.types import Visitor
from tests.unit.make import item, moment, shelf

ITEMS, VISITORS = 30, 150
NEURAL = Design(hidden=(16,), size=8, item_buckets=512, user_buckets=64, epochs=12, batch=16, learning_rate=1e-2)
FOREST = Forest(rounds=30, least_in_leaf=20)
DESIGNS = Designs(neural=NEURAL, network=Network((), epochs=5), forest=FOREST)
MOMENT: Moment = moment(shelf([item(f"i{k}") for k in range(ITEMS)], np.eye(ITEMS)).pin(), np.ones(ITEMS))
NAMED = [f"u:{k}" for k in range(VISITORS)]


def drawn(seed: int, by_history: bool = True) -> list[Example]:
    """Each visitor takes what has much of feature 0, and the parity of the history or none."""
    random, found = np.random.default_rng(seed), []
    for user in range(VISITORS):
        m, r, likes = 12, 6, user % 2
        recent = (2 * random.choice(ITEMS // 2, r, replace=False) + likes).astype(np.int32)
        rows = random.choice(ITEMS, m, replace=False).astype(np.int32)
        x = random.random((m, len(NAMES))).astype(np.float32)
        hope = 4.0 * x[:, 0] - 3.0 + (3.0 * (rows % 2 == likes) - 1.5 if by_history else 0.0)
        taken = (random.random(m) < 1 / (1 + np.exp(-2 * hope))).astype(np.float32)
        ones, times = np.ones(r, np.float32), np.arange(r, dtype=np.float32) * 3600
        visitor = Visitor("", recent, 5 * ones, times, ones, recent)
        found.append(
            Example(user, x, np.stack([taken, taken * 0, taken * 0], axis=1), Candidates(rows, ones, {}), visitor)
        )
    return found


def judged(seed: int = 99, by_history: bool = True) -> Slice:
    found = drawn(seed, by_history)
    wanted = {e.user: set(e.candidates.rows[e.taken > 0].tolist()) or {0} for e in found}
    visitors = {e.user: e.visitor for e in found}
    return Slice(found, Past(MOMENT, Models(), np.ones(ITEMS, np.bool_), visitors, wanted, {}, {}), "click")


def learned(by_history: bool = True) -> Parts:
    return parts([e for seed in range(6) for e in drawn(seed, by_history)], NAMED)


@pytest.fixture(scope="module")
def by_history() -> Parts:
    return learned()


@pytest.mark.long
def test_attention_that_understands_the_history_wins_and_says_what_it_costs_to_lose_it(by_history: Parts) -> None:
    said: list[str] = []
    entries = hold(by_history, judged(), DESIGNS, said.append)
    assert list(entries) == ["popularity", "logistic", "trees", "listwise", "attention", "blend"]
    assert winner({k: e for k, e in entries.items() if k != "blend"}, said.append) == "attention"
    assert entries["trees"].figure < entries["blend"].figure
    assert any("blanked history costs 0." in line and "shuffled history costs 0." in line for line in said)
    assert not any("wins and is to serve" in line for line in said)


@pytest.mark.long
def test_attention_to_a_history_that_says_nothing_is_not_kept() -> None:
    said: list[str] = []
    entries = hold(
        learned(by_history=False), judged(by_history=False), replace(DESIGNS, kinds=("attention",)), said.append
    )
    assert list(entries) == ["multitask"]
    assert "attention: attention does not earn its place: the ranker without it is kept" in said


def test_a_ranker_without_attention_loses_nothing_with_the_history(by_history: Parts) -> None:
    assert not earns_attention(fit("multitask", by_history, "v", DESIGNS, lambda line: None), judged())[0]


def test_figures_have_intervals_around_them_and_segments(by_history: Parts) -> None:
    found = judge(fit("listwise", by_history, "v", DESIGNS, lambda line: None), judged())
    names = {k for k in found if not k.endswith(("_low", "_high"))}
    assert {"recall@20", "ndcg@20", "auc", "gauc", "log_loss", "calibration", "diversity", "light_recall@20",
            "coverage@20", "novelty"} <= names  # fmt: skip
    for name in ("ndcg@20", "auc", "gauc", "log_loss", "calibration"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]
    assert not {k for k in found if k.startswith(("new_recall", "heavy_"))}  # nobody has seen so little, or so much


BROKEN = {
    "numbers that are none": (lambda r: setattr(r, "calibration", np.array([np.nan, 0], np.float32)), "no numbers"),
    "other shapes": (lambda r: setattr(r, "_centre", np.ones(3, np.float32)), ""),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_ranker_is_left_out_with_the_reason(
    how: str, by_history: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, why = BROKEN[how]

    def broken(kind: str, found: Parts, version: str, designs: Designs, tell: object) -> Ranker:
        made = fit(kind, found, version, designs, lambda line: None)
        if kind == "listwise":
            change(made)
        return made

    monkeypatch.setattr(contest, "fit", broken)
    said: list[str] = []
    entries = hold(by_history, judged(), replace(DESIGNS, kinds=("popularity", "listwise")), said.append)
    assert list(entries) == ["popularity"]
    assert any(line.startswith("listwise: left out") and why in line for line in said)
    with pytest.raises(NoneLeft, match="listwise: left out"):
        hold(by_history, judged(), replace(DESIGNS, kinds=("listwise",)), said.append)


def test_a_ranker_of_another_view_is_refused(by_history: Parts) -> None:
    ranker = fit("listwise", by_history, "v", DESIGNS, lambda line: None)
    assert isinstance(ranker, Listwise)
    with pytest.raises(BrokenArtifact, match="Train again"):
        load("v", ranker.kind, NAMES[:-1], NAMES, ranker.arrays())


def test_without_anything_taken_every_learner_says_so() -> None:
    none = [replace(e, labels=e.labels * 0) for e in drawn(1)]
    said: list[str] = []
    entries = hold(parts(none, NAMED), judged(), DESIGNS, said.append)
    assert list(entries) == ["popularity"]
    assert sum("nothing to learn" in line or "took any" in line for line in said) == 4
    assert said[-1] == "blend: left out, it needs trees and a network, and one of them was left out"


def test_a_visitor_is_kept_aside_in_every_slice_or_in_none() -> None:
    found = parts([*drawn(1), *drawn(2)], NAMED)
    assert {e.user for e in found.held}.isdisjoint(e.user for e in found.learned)
    assert 0 < len(found.held) < len(found.learned) / 4
