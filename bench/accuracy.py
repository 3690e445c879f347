"""Accuracy on the shipped orders, through the code that serves: each channel, merged, ranked, and end to end.

Cut 2011-11-01; users with an item before and a new one after; catalogue: items before; new items only.
Settings were tuned on October (`--cut 2011-10-01 --until 2011-11-01`), never on what is reported.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench import cold, diversity, retail
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import HOME, Scenario
from ray_app.clock import FixedClock
from ray_app.models.base import Recaller
from ray_app.models.evaluate import evaluate
from ray_app.models.variety import variety
from ray_app.recommend.budget import Budget
from ray_app.recommend.channels import LOCAL
from ray_app.recommend.request import Request
from ray_app.recommend.stages import choose
from ray_app.registry.watch import RANKER, Models
from ray_app.training import recallers
from ray_app.training.history import History
from ray_app.training.kinds import KINDS
from ray_app.training.past import Past, past
from ray_app.training.train import fit_ranker

K = 20
FLOORS = {
    "hot": 0.080, "item_cf": 0.075, "content": 0.078, "factors": 0.088, "merged": 0.100, "end to end": 0.125,
}  # fmt: skip
Lists = dict[str, dict[str, list[str]]]


def chosen(before: History, pinned: Pinned, cut: int) -> dict[str, Recaller]:
    """Every channel that learns, by the variant that the history before the cut prefers."""
    return {
        name: kind.fit(recallers.choose(name, before, pinned, say), before.events, cut, pinned)
        for name, kind in KINDS.items()
    }


def say(line: str) -> None:
    print(line, file=sys.stderr)


def alone(state: Past, learned: Mapping[str, Recaller]) -> Lists:
    """The 20 items of each channel that the home scenario does not name."""
    lists: Lists = {name: {} for name in (*learned, "similar") if name not in HOME.channels}
    for user in state.wanted:
        visitor, fresh = state.visitors[user], state.known.copy()
        fresh[visitor.seen] = False
        for name in lists:
            found = (
                learned[name].recommend(visitor, K, fresh, state.moment.pinned)
                if name in learned
                else LOCAL[name](visitor, K, fresh, state.moment)
            )
            lists[name][str(user)] = [str(r) for r in found.rows]
    return lists


def ranked_lists(state: Past, trained: Models, scenario: Scenario = HOME) -> Lists:
    """By variant, then user: the 20 items each would show."""
    lists: Lists = {name: {} for name in (*scenario.channels, "merged", "popularity", "end to end")}
    for user in state.wanted:
        visitor = state.visitors[user]
        fresh = state.known.copy()
        fresh[visitor.seen] = False
        name = str(user)
        asked = Request(K, visitor, scenario, trained, state.moment, Budget(FixedClock(), 1.0), state.known, fresh)
        answer = choose(asked)
        lists["end to end"][name] = [str(r) for r in answer.picked]
        lists["merged"][name] = [str(r) for r in answer.candidates.rows[:K]]
        for channel, found in answer.candidates.found.items():
            lists[channel][name] = [str(r) for r in found.rows[:K]]
        for how, picked in diversity.ways(answer.candidates.rows, answer.scores, K, state.moment.pinned).items():
            lists.setdefault(how, {})[name] = [str(r) for r in picked]
        plain = choose(replace(asked, models=replace(trained, ranker=None)))
        lists["popularity"][name] = [str(r) for r in plain.picked]
    return lists


def check_evaluator(state: Past, lists: Lists, tool: Path) -> float | None:
    """The greatest difference to the independent evaluator; None where it is absent."""
    if not tool.exists():
        return None
    spec = importlib.util.spec_from_file_location("eval_topn", tool)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    train = {u: v.seen.tolist() for u, v in state.visitors.items()}
    test = {u: sorted(rows) for u, rows in state.wanted.items()}
    worst = 0.0
    for found in lists.values():
        theirs = module.evaluate(train, test, {int(u): [int(r) for r in rows] for u, rows in found.items()}, (K,))
        taken = {str(u): [str(r) for r in rows] for u, rows in train.items()}
        ours = {**evaluate(_names(state), found, K), **variety(taken, _names(state), found, K)}
        ours.pop("novelty")  # which that one does not have
        worst = max(worst, *(abs(theirs[name] - value) for name, value in ours.items()))
    return worst


def _names(state: Past) -> dict[str, set[str]]:
    return {str(u): {str(r) for r in rows} for u, rows in state.wanted.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cut", default="2011-11-01")
    parser.add_argument("--until", default="2012-01-01")
    args = parser.parse_args()
    cut, began = retail.ms(args.cut), time.monotonic()
    pinned, embedder = retail.shelf(cut)
    events = retail.history(retail.orders(), pinned)
    before = events.before(cut)
    every = chosen(before, pinned, cut)
    models = Models(embedder, {name: model for name, model in every.items() if name in HOME.channels})
    learned = fit_ranker(before, pinned, models, tell=say)[RANKER]
    state = past(events, pinned, cut, retail.ms(args.until), replace(models, ranker=learned.ranker))
    lists = {**alone(state, every), **ranked_lists(state, state.models)}
    figures = {name: evaluate(_names(state), found, K) for name, found in lists.items()}
    print(
        f"{len(state.wanted)} users, {int(state.known.sum())} items, {len(before.events)} behaviours before {args.cut}"
    )
    print(f"{'':14}{'R@20':>8}{'N@20':>8}{'floor':>8}")
    for name, row in figures.items():
        floor = FLOORS.get(name)
        print(f"{name:14}{row['recall@20']:8.4f}{row['ndcg@20']:8.4f}{floor if floor else '':>8}")
    ratio = figures["end to end"]["recall@20"] / figures["merged"]["recall@20"]
    difference = check_evaluator(state, lists, Path(__file__).parents[2] / "shared" / "tools" / "eval_topn.py")
    print(f"end to end is {ratio:.3f} x merged (floor 1.12); evaluators differ by {difference}")
    unseen = cold.figures(events, pinned, cut)
    print(f"cold items (floor {cold.BAR}): " + ", ".join(f"{name} {recall:.4f}" for name, recall in unseen.items()))
    apart = diversity.report(figures, lists, pinned)
    summary = {"apart": apart, "users": len(state.wanted), "ratio": ratio, "evaluator_difference": difference,
               "cold": unseen, "seconds": round(time.monotonic() - began, 1),
               "recall@20": {k: v["recall@20"] for k, v in figures.items()},
               "ndcg@20": {k: v["ndcg@20"] for k, v in figures.items()}}  # fmt: skip
    print(json.dumps(summary))
    assert np.isfinite(ratio)


if __name__ == "__main__":
    main()
