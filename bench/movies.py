"""Accuracy on MovieLens: the last fifth of each user's ratings is held out, a rating of 4 or more is wanted.

What CF is fitted by is chosen on a held-out fifth of the other four, never on what is reported.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from bench.retail import made
from ray_app.catalog.pinned import Pinned
from ray_app.features.content import text
from ray_app.models.text import TextEmbedder
from ray_app.training.history import History, from_columns
from ray_app.training.kinds import KINDS
from ray_app.training.recallers import choose, judge
from ray_app.training.slices import Slice, newest
from ray_app.types import Item

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "ml-latest-small"
LIKE, BAR = 4.0, 0.145


def shelf(folder: Path, first: dict[int, int]) -> Pinned:
    """Every movie, published when it was first rated; its genres are its tags."""
    movies = pd.read_csv(folder / "movies.csv")
    items = [
        Item("bench", str(id), "movie", title, 1, tags=tuple(genres.split("|")), published_at=first.get(id, 0))
        for id, title, genres in zip(movies.movieId, movies.title, movies.genres, strict=True)
    ]
    return made(items, TextEmbedder.fit([text(i) for i in items], 384))


def history(ratings: pd.DataFrame, pinned: Pinned) -> History:
    """A rating of LIKE or more is a like, another one says that the movie was seen and not wanted."""
    ordered = ratings.sort_values(["timestamp", "userId", "movieId"], kind="stable")
    return from_columns(
        {
            "visitor": ("u:" + ordered.userId.astype(str)).to_numpy(object),
            "item_id": ordered.movieId.astype(str).to_numpy(object),
            "type": np.where(ordered.rating >= LIKE, "like", "dislike"),
            "occurred_at": ordered.timestamp.to_numpy() * 1000,
        },
        pinned.rows,
        pinned.n,
    )


def read(folder: Path) -> tuple[Pinned, History]:
    ratings = pd.read_csv(folder / "ratings.csv")
    pinned = shelf(folder, (ratings.groupby("movieId").timestamp.min() * 1000).to_dict())
    return pinned, history(ratings, pinned)


def figures(later: Slice, pinned: Pinned) -> dict[str, dict[str, float]]:
    """By channel that learns, of the variant chosen before the cut."""
    found = {}
    for name, kind in KINDS.items():
        variant = choose(name, later.before, pinned, lambda line: print(line, file=sys.stderr))
        model = kind.fit(variant, later.learned, later.state.moment.now, pinned)
        found[f"{name} ({variant})"] = judge(model, later.state)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=FOLDER)
    args = parser.parse_args()
    pinned, events = read(args.data)
    later = newest(events, pinned)
    print(f"{len(later.state.wanted)} users, {pinned.n} items, {len(later.learned)} ratings before")
    found = figures(later, pinned)
    for name, row in found.items():
        print(f"{name:32}{row['recall@20']:8.4f}{row['ndcg@20']:8.4f}")
    best = max(row["recall@20"] for row in found.values())
    print(json.dumps({"best": best, "bar": BAR, "recall@20": {k: v["recall@20"] for k, v in found.items()}}))


if __name__ == "__main__":
    main()
