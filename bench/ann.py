"""The search that serves (models.index.Search) beside FAISS itself: the same vectors, index and cells looked at; one
thread, one query at a time, as serving asks. Made-up unit vectors in clusters of a hundred.

A round asks every query of each program, the programs in turn; a share is the middle of the rounds' shares. Recall is
that of the 100 nearest by one product of all. Both are handed a mask of the rows; FAISS makes its selector of it for
each query (no two visitors' masks are alike), or, in the last column, holds one made beforehand.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import faiss
import numpy as np

from ray_app.models.index import Built, Search, build
from ray_app.types import Mask, Matrix, Scores

K, QUERIES, ROUNDS, SEEN, SEED = 100, 200, 9, 50, 7
SIZES = ((100_000, 64), (20_000, 384))
CLUSTER, SPREAD = 100, 1.0  # rows; the length of what is added to a cluster's centre, a unit vector
AIM = 0.95
Program = Callable[[Scores, int], Any]


@dataclass(frozen=True)
class Case:
    """`masks` has one for each query."""

    name: str
    masks: Sequence[Mask]

    @property
    def share(self) -> float:
        return float(self.masks[0].mean())


def clustered(n: int, size: int) -> tuple[Matrix, Matrix]:
    """Unit vectors [n, size], and of the same clusters QUERIES that are not among them."""
    drawn = np.random.default_rng(SEED)
    centres = drawn.normal(size=(n // CLUSTER, size)) / np.sqrt(size)
    found = centres[drawn.integers(0, len(centres), n + QUERIES)]
    found += SPREAD * drawn.normal(size=found.shape) / np.sqrt(size)
    whole = np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)
    return whole[:n].copy(), whole[n:].copy()


def cases(vectors: Matrix, queries: Matrix) -> list[Case]:
    n, drawn = len(vectors), np.random.default_rng(SEED + 1)
    every, tenth = np.ones(n, np.bool_), drawn.random(n) < 0.1
    seen = [every.copy() for _ in queries]
    for query, mask in zip(queries, seen, strict=True):
        mask[nearest(vectors, query, every, SEEN)] = False
    return [
        Case("everything", [every] * len(queries)), Case(f"all but the {SEEN} nearest", seen),
        Case("a tenth", [tenth] * len(queries)),
    ]  # fmt: skip


def nearest(vectors: Matrix, query: Scores, allowed: Mask, n: int = K) -> Any:
    """By one product of all."""
    scores = np.where(allowed, vectors @ query, -np.inf)
    return np.argpartition(-scores, n)[:n]


def raw(index: Any, case: Case, probed: int, held: bool) -> Program:
    """FAISS as its documentation calls it."""
    whole = case.share == 1.0

    def parameters(mask: Mask) -> Any:
        named = {} if whole else {"sel": faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))}
        return faiss.SearchParametersIVF(nprobe=probed, **named) if probed else faiss.SearchParameters(**named)

    made = {id(mask): parameters(mask) for mask in case.masks} if held or whole else {}

    def ask(query: Scores, k: int) -> Any:
        mask = case.masks[k]
        found, rows = index.search(query[None], K, params=made.get(id(mask)) or parameters(mask))
        return rows[0], found[0]

    return ask


def measured(programs: dict[str, Program], queries: Matrix) -> dict[str, list[float]]:
    """Queries a second of each round."""
    rates: dict[str, list[float]] = {name: [] for name in programs}
    for ask in programs.values():
        for k, query in enumerate(queries[:50]):
            ask(query, k)
    for turn in range(ROUNDS):
        names = list(programs)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            ask, began = programs[name], time.perf_counter()
            for k, query in enumerate(queries):
                ask(query, k)
            rates[name].append(len(queries) / (time.perf_counter() - began))
    return rates


def recall(ask: Program, queries: Matrix, truth: Sequence[Any]) -> float:
    return float(np.mean([len(np.intersect1d(ask(q, k)[0], truth[k])) / K for k, q in enumerate(queries)]))


def compare(search: Search, index: Any, case: Case, vectors: Matrix, queries: Matrix) -> dict[str, Any]:
    """`index`: FAISS's own of the same kind as `search` has."""
    probed = search.cells(K, int(np.count_nonzero(~case.masks[0]))) or 0
    assert bool(probed) == (search.built is not None)  # else Search reads row by row: two kinds of search
    programs: dict[str, Program] = {
        "ours": lambda query, k: search.best(query, K, case.masks[k]),
        "raw": raw(index, case, probed, held=False),
        "held": raw(index, case, probed, held=True),
    }
    truth = [nearest(vectors, q, case.masks[k]) for k, q in enumerate(queries)]
    rates = measured(programs, queries)
    share = {name: median(a / b for a, b in zip(rates["ours"], rates[name], strict=True)) for name in ("raw", "held")}
    return {
        "cells": probed, "ours": round(median(rates["ours"])), "raw": round(median(rates["raw"])),
        "recall": round(recall(programs["ours"], queries, truth), 4),
        "raw_recall": round(recall(programs["raw"], queries, truth), 4),
        "share": round(share["raw"], 3), "share_held": round(share["held"], 3),
    }  # fmt: skip


def main() -> None:
    faiss.omp_set_num_threads(1)
    print(f"FAISS {faiss.__version__}, one thread, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, K {K}")
    print(f"{'':48}{'cells':>6}{'ours/s':>9}{'FAISS/s':>9}{'recall':>8}{'its':>8}{'share':>8}{'held':>8}")
    lines: dict[str, dict[str, Any]] = {}
    for n, size in SIZES:
        vectors, queries = clustered(n, size)
        flat = faiss.IndexFlatIP(size)
        flat.add(vectors)
        built: Built | None = build(vectors, least=1)
        assert built is not None
        index = faiss.deserialize_index(np.array(built[0]))
        for kind, search, theirs in (("flat", Search(vectors), flat), ("index", Search(vectors, built), index)):
            for case in cases(vectors, queries):
                name = f"{n:,} x {size}, {kind}, {case.name}"
                f = lines[name] = compare(search, theirs, case, vectors, queries)
                recalls = f"{f['recall']:8.4f}{f['raw_recall']:8.4f}"
                print(f"{name:48}{f['cells'] or '':>6}{f['ours']:9,}{f['raw']:9,}{recalls}"
                      f"{f['share']:8.3f}{f['share_held']:8.3f}", flush=True)  # fmt: skip
    missed = [name for name, f in lines.items() if f["share"] < AIM]
    print(f"share of FAISS's rate: aim {AIM}, missed by {len(missed)} of {len(lines)}")
    print(json.dumps({"aim": AIM, "missed": missed, "lines": lines}))


if __name__ == "__main__":
    main()
