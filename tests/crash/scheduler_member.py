"""One scheduler as a process of its own: its input's first line is {"redis_url", "data", "lease_s"}; it ends when its
input ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ray_app import logs
from ray_app.clock import SystemClock, new_id
from ray_app.tasks.scheduler_thread import Opened, SchedulerThread
from tests.schedules_world import World


async def opened() -> Opened:
    world = World(asked["redis_url"], Path(asked["data"]), SystemClock())
    return Opened(world.scheduler(new_id(), lease_s=asked["lease_s"]), world.close)


if __name__ == "__main__":
    logs.start("INFO")
    asked = json.loads(sys.stdin.readline())
    thread = SchedulerThread(opened)
    thread.start()
    sys.stdin.read()
    thread.stop()
