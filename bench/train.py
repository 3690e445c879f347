"""Neighbours at scale, made-up power-law data, in parts that survive a kill, two processes: seconds, CPU, peak memory.

python -m bench.train [items|labels] [share of the size ...]: (items) 1.5 M users x 20 of 100,000 items, K 100;
(labels) 1.5 M entities x 20 of 10,000 labels, K 50, with the recall of 1,000 entities against the exact answer.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import psutil
import scipy.sparse as sp

from bench.alike import How, alike, rare, unit
from ray_app.models.base import Arrays
from ray_app.models.product import Product, nearest, spans
from ray_app.stores.blobs import Blobs
from ray_app.training.shards import Call, Make, Part, Run, work

PROCESSES, EACH, USERS, ITEMS, LABELS = 2, 20, 1_500_000, 100_000, 10_000
PART = 200_000_000  # multiplications of a part
ASKED = 1000
HOW = How()


def power(rows: int, columns: int, seed: int = 0) -> Any:
    """EACH of the columns a row, drawn by Zipf's law; csr of ones."""
    drawn, often = np.random.default_rng(seed), np.cumsum(1.0 / np.arange(1, columns + 1))
    found = np.searchsorted(often / often[-1], drawn.random(rows * EACH)).astype(np.int32)
    made = sp.csr_matrix((np.ones(len(found), np.float32), found, np.arange(0, len(found) + 1, EACH)), (rows, columns))
    made.sum_duplicates()
    made.data[:] = 1.0
    return made


def make_items(given: Arrays, first: int, last: int) -> Arrays:
    neighbours, weights = nearest(Product.load(given), 100, first, last)
    return {"neighbours": neighbours, "weights": weights}


def make_labels(given: Arrays, first: int, last: int) -> Arrays:
    vectors = sp.csr_matrix((given["data"], given["indices"], given["indptr"]), given["size"], copy=False)
    neighbours, weights = alike(vectors, Product.load(given), HOW, first, last)
    return {"neighbours": neighbours, "weights": weights}


def spread(call: Call, parts: Sequence[Part]) -> Iterator[Part]:
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        for done in as_completed([pool.submit(call, p) for p in parts]):
            yield done.result()


@contextmanager
def peak() -> Iterator[list[float]]:
    """[bytes that were this process's and its children's own at once, at most]."""
    found, ended, me = [0.0], threading.Event(), psutil.Process()

    def watch() -> None:
        while not ended.wait(0.5):
            total = 0
            for p in (me, *me.children(recursive=True)):
                try:
                    total += p.memory_full_info().uss
                except psutil.Error:
                    continue
            found[0] = max(found[0], float(total))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def run(folder: str, given: Arrays, product: Product, make: Make) -> dict[str, Any]:
    began = Run.begin(Blobs(Path(folder)), "bench", given)
    parts = began.parts(spans(product.cost(), PART), make)
    list(spread(work, began.missing(parts)))
    return began.collect(parts)


def items(share: float) -> dict[str, Any]:
    """Cosine, as `implicit` counts it."""
    taken = power(int(USERS * share), ITEMS)

    def work() -> dict[str, Any]:
        size = np.sqrt(np.maximum(np.asarray(taken.sum(axis=0)).ravel(), 1e-9)).astype(np.float32)
        right = (taken @ sp.diags(1.0 / size)).tocsr().astype(np.float32)
        product = Product(right.T.tocsr(), right)
        with tempfile.TemporaryDirectory(prefix="lemo-bench-") as folder:
            return run(folder, product.arrays(), product, make_items)

    return measured(work)[1]


def labels(share: float) -> dict[str, Any]:
    """And how many of the exact 50 the found ones are as good as."""
    held: list[Any] = [power(int(USERS * share), LABELS)]

    def work() -> dict[str, Any]:
        vectors = unit(held[0], HOW.rarity)
        lists = rare(vectors, HOW)
        whole = {"data": vectors.data, "indices": vectors.indices, "indptr": vectors.indptr,
                 "size": np.array(vectors.shape)}  # fmt: skip
        held.append(vectors)
        with tempfile.TemporaryDirectory(prefix="lemo-bench-") as folder:
            return run(folder, {**lists.arrays(), **whole}, lists, make_labels)

    found, figures = measured(work)
    return {**figures, f"recall@{HOW.k}": round(recall(held[1], found["weights"]), 4)}


def measured(work: Any) -> tuple[Any, dict[str, Any]]:
    began, before = time.monotonic(), sum(os.times()[:4])
    with peak() as most:
        found = work()
    cpu = sum(os.times()[:4]) - before
    load = os.getloadavg()[0]
    return found, {"s": round(time.monotonic() - began, 1), "cpu_s": round(cpu, 1), "peak_mb": round(most[0] / 1e6),
                   "load": round(load, 1)}  # fmt: skip


def recall(vectors: Any, weights: Any) -> float:
    """The share of the places that are filled by something as good as the exact answer's last."""
    n, good = vectors.shape[0], 0.0
    lists = vectors.T.tocsr()
    asked = np.random.default_rng(1).choice(n, min(n, ASKED), replace=False)
    for row in asked:
        exact = np.asarray((vectors[row] @ lists).todense()).ravel()
        exact[row] = 0.0
        last = np.partition(exact, n - HOW.k)[n - HOW.k]
        good += float(((weights[row] >= last - 1e-5) & (weights[row] > 0)).mean())
    return good / len(asked)


def main() -> None:
    wanted = [a for a in sys.argv[1:] if a in ("items", "labels")] or ["items", "labels"]
    shares = [float(a) for a in sys.argv[1:] if a not in ("items", "labels")] or [0.01, 0.1, 1.0]
    for name in wanted:
        for share in shares:
            print(name, share, {"items": items, "labels": labels}[name](share), flush=True)


if __name__ == "__main__":
    main()
