"""Training on a Ray cluster: parts of a run as tasks, and a fit as a Ray Train run that survives a kill."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from queue import Empty
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
import ray

from ray_app.errors import BrokenArtifact
from ray_app.models.base import Arrays
from ray_app.registry.artifact import encode, read, sums
from ray_app.stores.blobs import Blobs
from ray_app.training.build import Span
from ray_app.training.builds import Note
from ray_app.training.columns import from_parquet, to_parquet
from ray_app.training.rankers import Fit
from ray_app.training.report import Tell
from ray_app.training.shards import Call, Part, here

MADE, SUMS = "made.", "sums.json"
WORKER_CPU = 0.5  # so that a job and its worker fit beside what serves into two logical CPUs
MOST_FAILURES = 3  # of a worker, each after its last checkpoint


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


def gather(make: Callable[[Span], Note], spans: Sequence[Span]) -> Iterator[Note]:
    """Files of a dataset, read and written by Ray Data, each as it is finished; here where no CPU is free."""
    import ray.data

    if ray.available_resources().get("CPU", 0.0) < 1:
        yield from map(make, spans)
        return
    rows = ray.data.from_items([{"span": number} for number in range(len(spans))], override_num_blocks=len(spans))
    made = rows.map(lambda row: {**make(spans[row["span"]])}, num_cpus=1)
    yield from made.iter_rows()


def fit_far(
    fit: Fit, given: Arrays, blobs: Blobs, folder: str, tell: Tell, asked: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Run `fit` in a worker of Ray Train, on a GPU where the cluster has one, from `given` as a Parquet file, and
    return what it made.

    `folder`: of blobs, in which a run lies under the content of its input and the parameters `asked`. Each state that
    `fit` tells is a checkpoint there; a run that was killed, worker or driver, goes on from its last one, and a
    finished one is read. Where the cluster has no CPU to spare, `fit` runs here.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.util.queue import Queue

    if ray.available_resources().get("CPU", 0.0) < WORKER_CPU:
        tell("no CPU is free for a worker of Ray Train: the fit runs in the job, without checkpoints")
        return dict(fit(given, lambda state: None, None))
    body = to_parquet(given)
    name = sha256(body + orjson.dumps(dict(asked), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
    data = f"{folder}/{name}/data.parquet"
    if blobs.get(data) is None:
        blobs.put(data, body)
    gpu = ray.cluster_resources().get("GPU", 0.0) >= 1
    wanted = {"CPU": WORKER_CPU, "GPU": 1.0} if gpu else {"CPU": WORKER_CPU}
    lines, ended = Queue(actor_options={"num_cpus": 0}), threading.Event()
    following = threading.Thread(target=_follow, args=(lines, tell, ended), daemon=True)
    following.start()
    try:
        done = TorchTrainer(
            _fit_here,
            train_loop_config={"fit": fit, "place": blobs.place, "copies": blobs.copies, "data": data},
            scaling_config=ScalingConfig(num_workers=1, use_gpu=gpu, resources_per_worker=wanted),
            run_config=RunConfig(
                name=name,
                storage_path=f"{blobs.place}/{folder}",
                failure_config=FailureConfig(max_failures=MOST_FAILURES),
                checkpoint_config=CheckpointConfig(num_to_keep=2),
                callbacks=[_tells(lines)],
            ),
        ).fit()
    finally:
        ended.set()
        following.join()
        lines.shutdown()
    made = load(done.checkpoint)
    return {k.removeprefix(MADE): v for k, v in made.items() if k.startswith(MADE)}


def _tells(lines: Any) -> Any:
    """Ray Train calls it in a process of its own, so what it says goes through a queue."""
    from ray.train import UserCallback

    class Tells(UserCallback):
        def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
            lines.put(", ".join(f"{k} {v}" for k, v in metrics[0].items()))

    return Tells()


def _follow(lines: Any, tell: Tell, ended: threading.Event) -> None:
    """Tell what comes until the fit has ended and all is told."""
    while True:
        try:
            tell(lines.get(timeout=0.5))
        except Empty:
            if ended.is_set():
                return


def _fit_here(asked: dict[str, Any]) -> None:
    """In the worker."""
    import ray.train

    os.environ["OMP_NUM_THREADS"] = "1"
    body = Blobs(asked["place"], asked["copies"]).get(asked["data"])
    known = ray.train.get_checkpoint()
    state = load(known) if known else None
    if state is not None and any(k.startswith(MADE) for k in state):
        return  # it ended between its last checkpoint and its answer
    made = asked["fit"](from_parquet(body or b""), _report, state)
    _report({f"{MADE}{k}": v for k, v in made.items()})


def _report(state: Arrays) -> None:
    """A checkpoint; scalars stand in the metrics."""
    import ray.train
    from ray.train import Checkpoint

    with tempfile.TemporaryDirectory(prefix="lemo-fit-") as folder:
        write(Path(folder), state)
        figures = {k: v.item() for k, v in state.items() if v.ndim == 0 and v.dtype.kind in "if"}
        ray.train.report(figures, checkpoint=Checkpoint.from_directory(folder))


def write(folder: Path, state: Arrays) -> None:
    """Checked files of a checkpoint."""
    files = encode(state)
    for file, body in {**files, SUMS: orjson.dumps(sums(files))}.items():
        (folder / file).write_bytes(body)


def load(checkpoint: Any) -> dict[str, Any]:
    """Raises BrokenArtifact for a checkpoint that is not whole."""
    with checkpoint.as_directory() as folder:
        try:
            wanted = orjson.loads((Path(folder) / SUMS).read_bytes())
        except (OSError, ValueError) as e:
            raise BrokenArtifact(f"checkpoint {checkpoint.path} has no readable {SUMS}: {e}") from e
        return {k: np.array(v) for k, v in read(Path(folder), wanted, f"checkpoint {checkpoint.path}").items()}
