"""Cold items: a fifth of the catalogue, drawn at random, has no behaviour that a model may see; who took which of them
is found by text and category alone, among themselves."""

from __future__ import annotations

import numpy as np

from bench import retail
from ray_app.catalog.pinned import Pinned
from ray_app.models.evaluate import evaluate
from ray_app.recommend.channels import LOCAL
from ray_app.training import towers
from ray_app.training.history import History
from ray_app.training.past import state_at

K, SHARE, SEED, BAR = 20, 0.2, 11, 0.35


def figures(events: History, pinned: Pinned, cut: int) -> dict[str, float]:
    """Recall at 20 by channel: of each visitor's behaviours before the cut those on cold items are wanted, and the
    others are what is known of him."""
    cold = np.zeros(pinned.n, np.bool_)
    cold[np.random.default_rng(SEED).permutation(pinned.n)[: int(SHARE * pinned.n)]] = True
    before = events.before(cut)
    wanted: dict[str, set[str]] = {}
    hidden = cold[before.events.rows]
    for user, row in zip(before.events.users[hidden].tolist(), before.events.rows[hidden].tolist(), strict=True):
        wanted.setdefault(str(user), set()).add(str(row))
    warm = before.part(~hidden)
    state = state_at(warm, pinned, cut, cut + 1)
    model = towers.fit(warm.events, cut, pinned)
    found: dict[str, dict[str, list[str]]] = {"content": {}, "two_tower": {}}
    for user, visitor in state.visitors.items():
        found["content"][str(user)] = [str(r) for r in LOCAL["content"](visitor, K, cold, state.moment).rows]
        found["two_tower"][str(user)] = [str(r) for r in model.recommend(visitor, K, cold, pinned).rows]
    asked = {u: rows for u, rows in wanted.items() if int(u) in state.visitors}
    return {name: evaluate(asked, lists, K)[f"recall@{K}"] for name, lists in found.items()}


def main() -> None:
    cut = retail.ms("2011-11-01")
    pinned, _ = retail.shelf(cut)
    for name, recall in figures(retail.history(retail.orders(), pinned), pinned, cut).items():
        print(f"{name:14}{recall:8.4f}{BAR:8.2f}")


if __name__ == "__main__":
    main()
