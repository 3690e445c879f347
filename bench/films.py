"""Films end to end on ml-latest-small, through the code that serves: the last 20% of each user are the test, a rating
of 4 or more is a like, every film not yet rated is a candidate.

The clock of each user is moved so that the own cut of each lies at one moment; from there on it is a shop like any
other. Variants and rankers are chosen and learned on the last 20%, 30% and 40% of the training part alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from bench.accuracy import Lists, _names, check_evaluator, ranked_lists
from ray_app.catalog.changes import Change
from ray_app.catalog.item import parse
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import HOME, Channel
from ray_app.catalog.shelf import Shelf
from ray_app.events.schema import item_to_dict
from ray_app.features.content import space_of
from ray_app.models.base import Recaller
from ray_app.models.evaluate import evaluate
from ray_app.models.text import TextEmbedder
from ray_app.registry.watch import Models
from ray_app.training.contest import hold, winner
from ray_app.training.history import History, from_columns
from ray_app.training.judge import Slice
from ray_app.training.kinds import KINDS
from ray_app.training.listwise import Network
from ray_app.training.multitask import Design
from ray_app.training.past import Past, examples, state_at
from ray_app.training.rankers import Designs, fit, parts
from ray_app.training.recallers import figures_of
from ray_app.training.trees import Forest

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "ml-latest-small"
CUT, EVER = 1_500_000_000_000, 1 << 60  # the moment of every cut, and beyond every test
SHARE, LIKED, K = 0.8, 4.0, 20
INNER = (0.8, 0.7, 0.6)  # of the training part: the first judges, the others teach
SCENARIO = replace(HOME, candidates=400, diversity=0.0, caps=(), channels={
    "item_cf": Channel(1.0, 300), "factors": Channel(1.0, 300), "content": Channel(0.1, 100), "hot": Channel(0.1, 100),
})  # fmt: skip
FLOORS = {"item_cf": 0.145, "end to end": 0.155}


def ratings() -> pd.DataFrame:
    """visitor, item_id, type (liked or refused), occurred_at (s), place: which share of the user's own came before."""
    found = pd.read_csv(FOLDER / "ratings.csv").sort_values(["userId", "timestamp", "movieId"], kind="stable")
    of_user = found.groupby("userId")["userId"]
    return pd.DataFrame({
        "visitor": "u:" + found["userId"].astype(str), "item_id": found["movieId"].astype(str),
        "type": np.where(found["rating"] >= LIKED, "purchase", "hide"), "occurred_at": found["timestamp"],
        "place": of_user.cumcount() / of_user.transform("size"),
    })  # fmt: skip


def moved(found: pd.DataFrame, share: float, pinned: Pinned) -> History:
    """With every user's clock so that the fifth of the own ratings from `share` on begins at CUT; what comes after that
    fifth is left out."""
    found = found[found["place"] < share + 1 - SHARE]
    later = found[found["place"] >= share].groupby("visitor")["occurred_at"].min().rename("cut")
    whole = found.join(later, on="visitor").dropna(subset="cut")
    ahead = (whole["place"] >= share).astype(np.int64)  # of what has the time of the cut, the part before it stays so
    whole["occurred_at"] = CUT + ((whole["occurred_at"] - whole["cut"]) * 1000).astype(np.int64) - (1 - ahead)
    whole = whole.sort_values("occurred_at", kind="stable")
    return from_columns({name: whole[name].to_numpy() for name in whole.columns}, pinned.rows, pinned.n)


def shelf() -> tuple[Pinned, TextEmbedder]:
    films = pd.read_csv(FOLDER / "movies.csv", dtype=str)
    items = [
        parse({"item_id": id, "title": title, "category": genres.split("|")[0], "tags": genres.split("|"),
               "published_at": 1}, "bench", CUT)
        for id, title, genres in zip(films.movieId, films.title, films.genres, strict=True)
    ]  # fmt: skip
    made, embedder = Shelf(len(items)), TextEmbedder.fit([f"{i.title} {' '.join(i.tags)}" for i in items])
    space = space_of(embedder)
    assert space is not None
    made.apply([Change(i.id, k, i.version, item_to_dict(i)) for k, i in enumerate(items)])
    made.replace_vectors(embedder.version, np.arange(len(items), dtype=np.int32), space.embed(items))
    return made.pin(), embedder


def state_of(history: History, pinned: Pinned, embedder: TextEmbedder, variants: Mapping[str, str]) -> Past:
    """At CUT, with each channel fitted by its variant on what came before."""
    before = history.before(CUT).events
    learned: dict[str, Recaller] = {name: KINDS[name].fit(v, before, CUT, pinned) for name, v in variants.items()}
    return state_at(history, pinned, CUT, EVER, Models(embedder, learned))


def best_variants(history: History, pinned: Pinned, embedder: TextEmbedder) -> dict[str, str]:
    """Of each channel that learns, the one with the most recall on what came after CUT."""
    best, taken = {}, len(np.unique(history.before(CUT).events.rows))
    for name, kind in KINDS.items():
        found = {v: recalls(state_of(history, pinned, embedder, {name: v}))[name] for v in kind.variants(taken)}
        best[name] = max(found, key=lambda v: found[v])
        say(f"{name} on the training part: {best[name]} {found[best[name]]:.4f}")
    return best


def recalls(state: Past) -> dict[str, float]:
    return {name: figures_of(model, state)[f"recall@{K}"] for name, model in state.models.recallers.items()}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    began, found = time.monotonic(), ratings()
    pinned, embedder = shelf()
    learned = found[found["place"] < SHARE].copy()
    learned["place"] /= SHARE
    inner = {share: moved(learned, share, pinned) for share in INNER}
    variants = best_variants(inner[INNER[0]], pinned, embedder)
    states = {share: state_of(history, pinned, embedder, variants) for share, history in inner.items()}
    slices = {share: list(examples(state, SCENARIO)) for share, state in states.items()}
    outer = state_of(moved(found, SHARE, pinned), pinned, embedder, variants)
    channels = recalls(outer)
    say("channels: " + ", ".join(f"{name} {figure:.4f}" for name, figure in channels.items()))
    names = inner[INNER[0]].visitors
    ends: list[float] = []
    for seed in range(1, args.seeds + 1):
        designs = Designs(network=Network(seed=seed), neural=Design(seed=seed), forest=Forest(seed=seed))
        entries = hold(parts([e for s in INNER[1:] for e in slices[s]], names),
                       Slice(slices[INNER[0]], states[INNER[0]], SCENARIO.score), designs, say)  # fmt: skip
        kind = winner(entries, say)
        ranker = fit(kind, parts([e for s in INNER for e in slices[s]], names), kind, designs, lambda line: None)
        lists = ranked_lists(outer, replace(outer.models, ranker=ranker), SCENARIO)
        ends.append(_report(seed, kind, outer, lists))
    print(json.dumps({"users": len(outer.wanted), "end to end": float(np.mean(ends)), "channels": channels,
                      "floors": FLOORS, "seconds": round(time.monotonic() - began)}))  # fmt: skip


def _report(seed: int, kind: str, state: Past, lists: Lists) -> float:
    found = {name: round(evaluate(_names(state), of, K)[f"recall@{K}"], 4) for name, of in lists.items()}
    tool = FOLDER.parents[1] / "tools" / "eval_topn.py"
    print(
        json.dumps({"seed": seed, "ranker": kind, **found, "evaluator": check_evaluator(state, lists, tool)}),
        flush=True,
    )
    return evaluate(_names(state), lists["end to end"], K)[f"recall@{K}"]


if __name__ == "__main__":
    main()
