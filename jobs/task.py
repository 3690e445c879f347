"""One attempt of a task whose handler asks for CPUs or GPUs. A slot submits and follows it; it is not run by hand."""

from __future__ import annotations

import argparse
import asyncio
import os
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ray_app import cluster
from ray_app.tasks.names import as_json, checked
from ray_app.tasks.running import ANSWER, Bench, Running
from ray_app.tasks.script import SCRIPT, arguments
from ray_app.wiring.guard import trade
from ray_app.wiring.handlers import HANDLERS
from ray_app.wiring.stores import world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--id", required=True, help="of the task")
    parser.add_argument("--job", required=True, help="of this job, by which the task knows it")
    args = parser.parse_args()
    os.nice(10)
    settings = cluster.settings()
    ours = trade(settings, HANDLERS)
    script = ours.redis().register_script(SCRIPT)
    bench = Bench(lambda: world(settings), settings.tasks, ours.names)

    def tell(word: dict[str, Any]) -> bool:
        ask = {"id": args.id, "token": f"job:{args.job}", **word}
        return bool(script(keys=[ours.prefix], args=arguments("tell", settings.tasks.result_keep_s, ask)))

    task = asyncio.run_coroutine_threadsafe(bench.queue.get(args.id), bench.loop).result()
    run, handler = Running(task, tell, bench), ours.names.of(task.name)
    called = handler.call(checked(handler, task.argument), run)
    result = run.wait(called) if handler.is_async else called
    bench.close()
    print(ANSWER + as_json(result).decode(), flush=True)


if __name__ == "__main__":
    main()
