"""What stands around the task queue: what operators see of it, its history on the way to the log, a replica's crew."""

from __future__ import annotations

from ray_app import logs
from ray_app.clock import new_id
from ray_app.config import Settings
from ray_app.tasks.backlog import Backlog
from ray_app.tasks.desk import LEASE_S, Crew, Desk, Tell
from ray_app.tasks.inspection import Inspection
from ray_app.tasks.pools import pools
from ray_app.tasks.relay import Lease, Relay
from ray_app.wiring.guard import worker
from ray_app.wiring.stores import World, world


def inspection(w: World) -> Inspection:
    return Inspection(w.redis, w.settings.stores.redis_prefix, w.queue, w.settings.tasks, w.clock)


def desk(w: World, tell: Tell) -> Desk:
    lease = Lease(w.redis, f"{w.queue.prefix}:desk", new_id(), LEASE_S)
    relay = Relay(w.redis, w.queue.prefix, w.log, w.settings.events.task_topic)
    return Desk(lease, relay, inspection(w), tell)


def crew(settings: Settings, pool: str, tell: Tell) -> Crew:
    """Of a replica of this pool, with connections of its own."""
    logs.start(settings.logs.level)
    w = world(settings)
    backlog = Backlog(w.redis, w.queue, pools(settings.tasks)[pool])
    return Crew(worker(settings, pool), backlog, desk(w, tell), w.close)
