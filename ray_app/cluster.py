"""Ray itself: connect, detached actors, jobs, and the settings of the running cluster."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.job_submission import JobStatus, JobSubmissionClient

from ray_app.config import Settings
from ray_app.errors import LemoError, NotFound, Unavailable

NAMESPACE = "lemo"
STORES = "local-stores"
SCHEDULER = "scheduler"
DASHBOARD = "dashboard.url"  # files of the data folder: the Jobs API of the cluster that serves it, and its GCS
ADDRESS = "cluster.address"
ENDED = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}


def connect() -> None:
    """Join the running cluster; a second call does nothing. Raises Unavailable where none runs."""
    if ray.is_initialized():
        return
    try:
        ray.init(address=_address(), namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError:
        raise Unavailable("no Ray cluster runs on this machine. Start one: lemo up") from None


def _address() -> str:
    """Of several clusters on one machine Ray takes any for "auto", and tells a job so in RAY_ADDRESS: what the data
    folder of this environment names is sure."""
    file = Path(os.environ.get("LEMO_DATA", ".lemo")) / ADDRESS
    with suppress(OSError):
        address = file.read_text().strip()
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), 2.0).close()  # else it is of an earlier start
        return address
    return "auto"


def detached(cls: type, name: str, *args: Any, **options: Any) -> Any:
    """The one actor of this name in the cluster, made when absent; Ray restarts it for ever. It asks for no CPU unless
    `options`, Ray's own, say so."""
    chosen = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": 3, **options}
    return (
        ray.remote(cls)
        .options(name=name, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, **chosen)
        .remote(*args)
    )


def wait_started(actors: Sequence[Any], timeout_s: float = 60.0) -> None:
    """Returns when each answers `status`; raises what its start raised."""
    ray.get([a.status.remote() for a in actors], timeout=timeout_s)


def find_actor(name: str) -> Any:
    """Raises NotFound, naming the actor, when the cluster has none of this name."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        raise NotFound(f"actor {name!r} is not in this cluster. Is Lemo up? Start it: lemo up", name=name) from None


def end_actor(name: str, timeout_s: float = 10.0) -> None:
    """End the actor of this name, which may hand over what it holds by `leave`; returns when the name is free."""
    deadline = time.monotonic() + timeout_s
    with suppress(NotFound):
        actor = find_actor(name)
        with suppress(Exception):  # one that does not answer has nothing to hand over
            ray.get(actor.leave.remote(), timeout=timeout_s / 2)
        ray.kill(actor)
        while time.monotonic() < deadline:
            find_actor(name)
            time.sleep(0.05)


def settings(timeout_s: float = 30.0) -> Settings:
    """The settings of the running cluster, so that a job sees the same URLs and folder as the replicas."""
    connect()
    found = ray.get(find_actor(STORES).settings.remote(), timeout=timeout_s)
    assert isinstance(found, Settings)
    return found


def record_addresses(data: Path) -> None:
    """Keep in the data folder where this cluster listens, so that `lemo` and its jobs find the right one."""
    node: Any = ray._private.worker._global_node  # Ray offers it to drivers alone, and only at their init
    (data / DASHBOARD).write_text(f"http://{node.webui_url}\n")
    (data / ADDRESS).write_text(f"{ray.get_runtime_context().gcs_address}\n")


def job_client(data: Path) -> JobSubmissionClient:
    """The Jobs API of the cluster that was started on `data`, unless RAY_API_SERVER_ADDRESS names another one."""
    file = data / DASHBOARD
    address = os.environ.get("RAY_API_SERVER_ADDRESS") or (file.read_text().strip() if file.exists() else None)
    if address is None:
        raise Unavailable(f"no cluster was started on {data}. Start one: lemo up")
    try:
        return JobSubmissionClient(address)
    except ConnectionError:
        raise Unavailable(f"no Ray dashboard answers at {address}. Start the cluster: lemo up") from None


def submit_job(
    client: JobSubmissionClient,
    name: str,
    args: Sequence[str] = (),
    id: str | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
) -> str:
    """Start jobs/NAME.py on the cluster; returns the submission id, `id` where given. A job of that id that is there
    already stays the one."""
    line = shlex.join([sys.executable, f"jobs/{name}.py", *args])
    # Without a CPU of its own Ray would run it on the head, where a cluster of several nodes has none to spare.
    asked: dict[str, Any] = {"entrypoint_num_cpus": cpus or 1, **({"entrypoint_num_gpus": gpus} if gpus else {})}
    try:
        return str(client.submit_job(entrypoint=line, submission_id=id, metadata={"job": name}, **asked))
    except RuntimeError:
        if id is None or job_of(client, id) is None:
            raise
        return id


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job stands; `log` only once it has ended."""

    status: str
    ended: bool
    succeeded: bool
    log: str = ""


def job_of(client: JobSubmissionClient, id: str) -> JobEnd | None:
    """None when the cluster knows no job of this id."""
    try:
        status = client.get_job_status(id)
    except RuntimeError as e:
        if "404" in str(e) or "does not exist" in str(e):
            return None
        raise
    ended = status in ENDED
    return JobEnd(str(status), ended, status == JobStatus.SUCCEEDED, client.get_job_logs(id) if ended else "")


def stop_job(client: JobSubmissionClient, submission_id: str) -> None:
    """SIGTERM, which our jobs note in their history; then SIGKILL. Raises NotFound for an id that is not there."""
    try:
        client.stop_job(submission_id)
    except RuntimeError as e:
        raise NotFound(f"job {submission_id!r} cannot be stopped: {str(e)[:200]}", value=submission_id) from None


def follow_job(client: JobSubmissionClient, submission_id: str, poll_s: float = 0.5) -> Iterator[str]:
    """Lines of the job's log while it runs. Raises LemoError when it did not succeed."""
    shown = 0
    while True:
        status = client.get_job_status(submission_id)
        log = client.get_job_logs(submission_id)
        whole = log if status in ENDED else log[: log.rfind("\n") + 1]
        yield from whole[shown:].splitlines()
        shown = max(shown, len(whole))
        if status in ENDED:
            break
        time.sleep(poll_s)
    if status != JobStatus.SUCCEEDED:
        raise LemoError(f"job {submission_id} ended as {status}: {client.get_job_info(submission_id).message}")
