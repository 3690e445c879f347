"""Training on a Ray cluster: parts of a run as tasks, and a fit as a Ray Train run that survives a kill."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from ray_app.training.shards import Call, Part, here


def spread(call: Call, parts: Sequence[Part]) -> Iterator[Part]:
    """Each part as it is finished, made by tasks of one CPU on whichever node has one; a worker that dies is replaced.
    No more tasks are handed out than there are CPUs. Where none is free, or one part is all, it is made here."""
    free = int(ray.available_resources().get("CPU", 0.0))
    if free < 1 or len(parts) < 2:
        yield from here(call, parts)
        return
    task = ray.remote(num_cpus=1, max_retries=3, scheduling_strategy="SPREAD")(_politely)
    waiting, running = list(parts), list[Any]()
    try:
        while waiting or running:
            while waiting and len(running) < free:
                running.append(task.remote(call, waiting.pop(0)))
            (done,), running = ray.wait(running, num_returns=1)
            yield ray.get(done)
    finally:
        for one in running:
            ray.cancel(one, force=True)


def _politely(call: Call, part: Part) -> Part:
    """One BLAS thread and nice 10, so that what serves goes first; a worker is this task's alone or of its like."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.nice(max(0, 10 - os.nice(0)))
    return call(part)
