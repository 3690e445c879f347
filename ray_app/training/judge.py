"""What a ranker is worth on a later slice: its lists, by segment, and its probabilities, each with an interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog import expression
from ray_app.models.base import Ranker, Scene
from ray_app.models.evaluate import distance, of_each, variety
from ray_app.models.interval import Weights, interval, mean
from ray_app.models.probability import Predicted
from ray_app.training.dataset import Example, Past
from ray_app.types import Scores, Visitor

K = 20
NEW_SEEN, HEAVY_SEEN = 2, 20  # a visitor who has seen at most so many items is new, above so many heavy, else light
NEW_ITEM_MS = 30 * 86_400_000
SHOWN = ("recall@20", "ndcg@20", "auc", "gauc", "log_loss", "calibration")  # what lines and gates name


@dataclass(frozen=True)
class Slice:
    """Examples of one moment, none of which the judged rankers learned from; `score`: the scenario's expression."""

    examples: Sequence[Example]
    state: Past
    score: str

    @cached_property
    def wanted(self) -> list[set[str]]:
        return [{str(r) for r in self.state.wanted[e.user]} for e in self.examples]

    @cached_property
    def segments(self) -> Mapping[str, NDArray[np.int64]]:
        """Places of the examples by how much is known of the visitor."""
        seen = np.array([len(e.visitor.seen) for e in self.examples], np.int64)
        kinds = {"new": seen <= NEW_SEEN, "heavy": seen > HEAVY_SEEN}
        kinds["light"] = ~kinds["new"] & ~kinds["heavy"]
        return {name: np.flatnonzero(kinds[name]) for name in ("new", "light", "heavy")}

    @cached_property
    def of_new_items(self) -> tuple[list[set[str]], NDArray[np.int64]]:
        """What was wanted of items published in the last thirty days, and by whom."""
        m = self.state.moment
        young = m.pinned.published_at >= m.now - NEW_ITEM_MS
        wanted = [{r for r in items if young[int(r)]} for items in self.wanted]
        who = [k for k, items in enumerate(wanted) if items]
        return [wanted[k] for k in who], np.array(who, np.int64)


def judge(ranker: Ranker, on: Slice, seed: int = 0) -> dict[str, float]:
    """Figures by name, and of each the bounds `<name>_low` and `<name>_high` of 95% over visitors; a figure that the
    slice cannot give is left out. Segments are prefixes: new_, light_, heavy_ and new_items_."""
    outputs = [ranker.predict(e.scene) for e in on.examples]
    lists = [ranked(e, expression.score(on.score, p)) for e, p in zip(on.examples, outputs, strict=True)]
    each = of_each(on.wanted, lists, K)
    each["diversity"] = np.array([_distance(on.state, ids) for ids in lists])
    found = _means(each, np.arange(len(lists)), seed, "")
    for name, places in on.segments.items():
        found |= _means({n: each[n] for n in (f"recall@{K}", f"ndcg@{K}")}, places, seed, f"{name}_")
    wanted, who = on.of_new_items
    young = of_each(wanted, [lists[k] for k in who.tolist()], K)
    found |= _means({n: young[n] for n in (f"recall@{K}", f"ndcg@{K}")}, np.arange(len(who)), seed, "new_items_")
    found |= _shown(on, lists)
    found |= bounded(predicted([p[:, 0] for p in outputs], on.examples).figures(), len(on.examples), seed)
    return {k: v for k, v in found.items() if not np.isnan(v)}


def ranked(e: Example, scores: Scores) -> list[str]:
    """The K best rows, as the ids that the evaluator takes."""
    return [str(r) for r in e.candidates.rows[np.argsort(-scores, kind="stable")][:K]]


def predicted(clicks: Sequence[Scores], examples: Sequence[Example]) -> Predicted:
    """Probabilities of a click, by example."""
    sizes = [len(e.candidates.rows) for e in examples]
    return Predicted(
        np.concatenate([np.zeros(0), *clicks]), np.concatenate([np.zeros(0), *(e.taken for e in examples)]),
        np.repeat(np.arange(len(examples)), sizes), len(examples),
    )  # fmt: skip


def bounded(
    figures: Mapping[str, Callable[[Weights], float]], visitors: int, seed: int, prefix: str = ""
) -> dict[str, float]:
    found = {}
    for name, figure in figures.items():
        found[prefix + name] = figure(np.ones(visitors)) if visitors else float("nan")
        low, high = interval(figure, visitors, seed)
        found |= {f"{prefix}{name}_low": low, f"{prefix}{name}_high": high}
    return found


def _means(each: Mapping[str, NDArray[Any]], places: NDArray[np.int64], seed: int, prefix: str) -> dict[str, float]:
    return bounded({name: mean(values[places]) for name, values in each.items()}, len(places), seed, prefix)


def _distance(state: Past, ids: Sequence[str]) -> float:
    vectors = state.moment.pinned.vectors
    return distance(vectors.take(np.array(ids, np.int32))) if vectors.size else float("nan")


def _shown(on: Slice, lists: Sequence[Sequence[str]]) -> dict[str, float]:
    names = [str(e.user) for e in on.examples]
    taken = {str(u): [str(r) for r in v.seen.tolist()] for u, v in on.state.visitors.items()}
    return variety(taken, dict(zip(names, on.wanted, strict=True)), dict(zip(names, lists, strict=True)), K)


def earns_attention(ranker: Ranker, on: Slice, seed: int = 0) -> tuple[bool, str]:
    """Whether GAUC falls, beyond the interval of the fall over visitors, when histories are blanked, and when each
    visitor gets another's; and the line that says so."""
    drawn = np.random.default_rng(seed).permutation(len(on.examples))
    others = [on.examples[k].visitor for k in drawn.tolist()]
    changed = {
        "blanked": [_blank(e.visitor) for e in on.examples],
        "shuffled": [replace(o, name=e.visitor.name) for e, o in zip(on.examples, others, strict=True)],
    }
    whole = predicted([ranker.predict(e.scene)[:, 0] for e in on.examples], on.examples)
    said, earned = [], True
    for how, visitors in changed.items():
        scenes = [Scene(e.features, e.candidates.rows, v) for e, v in zip(on.examples, visitors, strict=True)]
        less = predicted([ranker.predict(s)[:, 0] for s in scenes], on.examples)
        fall = _difference(whole, less)
        low, high = interval(fall, len(on.examples), seed)
        earned = earned and low > 0
        said.append(f"{how} history costs {fall(whole.even()):.4f} ({low:.4f} to {high:.4f})")
    return earned, f"GAUC {whole.gauc(whole.even()):.4f}: " + ", ".join(said)


def _difference(a: Predicted, b: Predicted) -> Callable[[Weights], float]:
    return lambda w: a.gauc(w) - b.gauc(w)


def _blank(visitor: Visitor) -> Visitor:
    none = np.zeros(0, np.float32)
    return replace(visitor, recent=none.astype(np.int32), weights=none, ages_s=none, counts=none)
