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
from ray_app.models.evaluate import distance, of_each
from ray_app.models.interval import Weights, interval, mean
from ray_app.models.probability import Predicted
from ray_app.models.variety import Assortment, Shown
from ray_app.training.past import Example, Past
from ray_app.types import DAY_MS, Scores, Visitor

K = 20
NEW_SEEN, HEAVY_SEEN = 2, 20  # a visitor who has seen at most so many items is new, above so many heavy, else light
NEW_ITEM_MS = 30 * DAY_MS
LISTS = (f"recall@{K}", f"ndcg@{K}")  # of every segment
SHOWN = (*LISTS, "auc", "gauc", "log_loss", "calibration")  # what lines and gates name


@dataclass(frozen=True)
class Slice:
    """Examples of one moment, none of which the judged rankers learned from; `score`: the scenario's expression."""

    examples: Sequence[Example]
    state: Past
    score: str

    @property
    def cut(self) -> int:
        """Its beginning (ms): what came before it is known, what comes from it on is to be foretold."""
        return self.state.moment.now

    def seen_by(self, about: Mapping[str, Any]) -> bool:
        """Whether a version may have learned from what is to be foretold, as `until` in its lineage says; one that
        does not say so is taken for one that did."""
        return int(about.get("until", self.cut)) >= self.cut

    @cached_property
    def wanted(self) -> list[set[str]]:
        """By example the rows that its visitor took later, as the ids that the evaluator takes."""
        return [{str(r) for r in self.state.wanted[e.user]} for e in self.examples]

    @property
    def names(self) -> list[str]:
        return [str(e.user) for e in self.examples]

    @cached_property
    def assortment(self) -> Assortment:
        taken = {str(u): [str(r) for r in v.seen.tolist()] for u, v in self.state.visitors.items()}
        return Assortment(taken, dict(zip(self.names, self.wanted, strict=True)))

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
    """Figures by name, of its lists and its probabilities, as `of_lists` and `of_clicks` give them."""
    outputs = [ranker.predict(e.scene) for e in on.examples]
    lists = [ranked(e, expression.score(on.score, p)) for e, p in zip(on.examples, outputs, strict=True)]
    return of_lists(lists, on, seed) | of_clicks([p[:, 0] for p in outputs], on, seed)


def of_lists(lists: Sequence[Sequence[str]], on: Slice, seed: int = 0) -> dict[str, float]:
    """Of a list of ids by example, best first: figures by name, and of each the bounds `<name>_low` and `<name>_high`
    of 95% over visitors; a figure that the slice cannot give is left out. Segments are prefixes: new_, light_, heavy_
    and new_items_."""
    each = of_each(on.wanted, lists, K)
    each["diversity"] = np.array([_distance(on.state, ids) for ids in lists])
    shown = on.assortment.shown(dict(zip(on.names, lists, strict=True)), K)
    even, every = np.ones(len(lists)), np.arange(len(lists))
    found = _means(each, every, seed, "") | _varied(shown, every, seed, "")
    found |= {f"gini@{K}": shown.gini(even), "popularity_percentile": shown.percentile(even)}
    for name, places in on.segments.items():
        found |= _means({n: each[n] for n in (*LISTS, "diversity")}, places, seed, f"{name}_")
        found |= _varied(shown, places, seed, f"{name}_")
    wanted, who = on.of_new_items
    young = of_each(wanted, [lists[k] for k in who.tolist()], K)
    found |= _means({n: young[n] for n in LISTS}, np.arange(len(who)), seed, "new_items_")
    return {k: v for k, v in found.items() if not np.isnan(v)}


def of_clicks(clicks: Sequence[Scores], on: Slice, seed: int = 0) -> dict[str, float]:
    """Of what was predicted of each candidate by example: AUC, GAUC, log loss and calibration, with their bounds."""
    found = bounded(predicted(clicks, on.examples).figures(), len(on.examples), seed)
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
    figures: Mapping[str, Callable[[Weights], float]], visitors: int, seed: int, prefix: str = "", centred: bool = False
) -> dict[str, float]:
    found = {}
    for name, figure in figures.items():
        found[prefix + name] = figure(np.ones(visitors)) if visitors else float("nan")
        low, high = interval(figure, visitors, seed, centred=centred)
        found |= {f"{prefix}{name}_low": low, f"{prefix}{name}_high": high}
    return found


def _means(each: Mapping[str, NDArray[Any]], places: NDArray[np.int64], seed: int, prefix: str) -> dict[str, float]:
    return bounded({name: mean(values[places]) for name, values in each.items()}, len(places), seed, prefix)


def _varied(shown: Shown, places: NDArray[np.int64], seed: int, prefix: str) -> dict[str, float]:
    """Of the lists of these visitors alone."""
    coverage = {f"coverage@{K}": _among(shown.coverage, places, shown.count)}
    novelty = {"novelty": _among(shown.novelty, places, shown.count)}
    found = bounded(coverage, len(places), seed, prefix, centred=True)
    found |= {name: float(np.minimum(value, 1.0)) for name, value in found.items()}  # a bound that was moved above all
    return found | bounded(novelty, len(places), seed, prefix)


def _among(figure: Callable[[Weights], float], places: NDArray[np.int64], count: int) -> Callable[[Weights], float]:
    """The figure over `count` visitors, as one over those at the places."""

    def found(weights: Weights) -> float:
        whole = np.zeros(count)
        whole[places] = weights
        return figure(whole)

    return found


def _distance(state: Past, ids: Sequence[str]) -> float:
    vectors = state.moment.pinned.vectors
    return distance(vectors.take(np.array(ids, np.int32))) if vectors.size else float("nan")


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
