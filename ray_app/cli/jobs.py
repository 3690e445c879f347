"""`lemo job`: run jobs on the cluster, end them, and see how they ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import orjson
import typer

from ray_app import config, launch
from ray_app.cli.world import with_world
from ray_app.errors import NotFound
from ray_app.tasks.running import ANSWER

jobs = typer.Typer(no_args_is_help=True, help="Run jobs on the cluster.")
Tenant = Annotated[str, typer.Option(help="whose data")]
OPTIONS_OF_THE_JOB = {"allow_extra_args": True, "ignore_unknown_options": True}


@jobs.command(context_settings=OPTIONS_OF_THE_JOB)
def run(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            help="embed, similarity, recall, train, evaluate, dataset, profiles, precompute, compact, federated"
        ),
    ],
    tenant: Tenant = "demo",
) -> None:
    """Run jobs/NAME.py on the cluster and follow its log. Further options are the job's own, as --dataset daily."""
    for line in follow_job(name, ["--tenant", tenant, *context.args]):
        print(line, flush=True)


@jobs.command()
def stop(submission_id: Annotated[str, typer.Argument(help="as `lemo job run` printed it")]) -> None:
    """End a job; what is live stays, and what it had finished is kept for its next run."""
    from ray_app import cluster

    cluster.stop_job(cluster.job_client(config.load().data), submission_id)


@jobs.command()
def history(tenant: Tenant = "demo", most: Annotated[int, typer.Option(min=1, max=10_000)] = 20) -> None:
    """The newest runs, one JSON value a line: state, figures, version, and why it was refused or failed."""
    from ray_app.training import runs

    for found in with_world(lambda world: runs.history(world, tenant, most)):
        print(orjson.dumps(found).decode())


def follow_job(name: str, args: Sequence[str]) -> Iterator[str]:
    """Submit jobs/NAME.py to the cluster of this data folder; the lines of its log while it runs, without those that
    are for a task. Raises NotFound, naming the jobs that there are."""
    known = sorted(p.stem for p in (launch.ROOT / "jobs").glob("*.py"))
    if name not in known:
        raise NotFound(f"job {name!r} is unknown. Known: {', '.join(known)}")
    from ray_app import cluster

    client = cluster.job_client(config.load().data)
    submitted = cluster.submit_job(client, name, args)
    yield f"submission {submitted}; end it: lemo job stop {submitted}"
    yield from (line for line in cluster.follow_job(client, submitted) if not line.startswith(ANSWER))
