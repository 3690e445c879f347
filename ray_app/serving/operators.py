"""Use cases of operators: the pool of flows and its dead letters. They belong to no tenant, so a key of the house
itself is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ray_app.catalog.tenant import SYSTEM
from ray_app.errors import Forbidden, InvalidField
from ray_app.events.schema import parse_id, refuse_unknown
from ray_app.serving.app import App
from ray_app.streams.letters import Letter

Ask = Mapping[str, Any]
Answer = dict[str, Any]
MOST_LETTERS = 1000


async def list_streams(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    flows = []
    for state in await app.pool.list():
        lines = await app.pool.lags(state.flow)
        flows.append({**asdict(state), "partitions": [{**asdict(x), "lag": x.lag} for x in lines]})
    return {"flows": flows}


async def steer_stream(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ("flow", "paused"))
    flow, paused = app.pool.check(parse_id("flow", raw.get("flow"))), raw.get("paused")
    if not isinstance(paused, bool):
        raise InvalidField("paused", paused, "true, false")
    await (app.pool.control.pause(flow) if paused else app.pool.control.resume(flow))
    return {"flow": flow, "paused": paused}


async def list_letters(app: App, tenant: str, raw: Ask) -> Answer:
    """The first MOST_LETTERS waiting letters of a topic, or of every topic."""
    only_operators(tenant)
    refuse_unknown(raw, ("topic",))
    topics = [parse_id("topic", raw["topic"])] if raw.get("topic") is not None else await app.letters.topics()
    found: list[Answer] = []
    waiting = 0
    for topic in topics:
        async for one in app.letters.read(topic):
            waiting += 1
            if waiting <= MOST_LETTERS:
                found.append(_shown(one))
    return {"letters": found, "waiting": waiting}


async def replay_letters(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    topic, ids = _chosen(raw)
    return {"sent": len(await app.letters.replay(topic, lambda one: one.id in ids))}


async def drop_letters(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    topic, ids = _chosen(raw)
    return {"dropped": await app.letters.drop(topic, lambda one: one.id in ids)}


def only_operators(tenant: str) -> None:
    """Raises Forbidden for a tenant's key."""
    if tenant != SYSTEM:
        raise Forbidden(
            f"the key of tenant {tenant!r} may not see what belongs to all tenants. One that may: lemo key --operator"
        )


def _chosen(raw: Ask) -> tuple[str, set[str]]:
    refuse_unknown(raw, ("topic", "ids"))
    ids = raw.get("ids")
    if not isinstance(ids, list) or not 1 <= len(ids) <= MOST_LETTERS:
        raise InvalidField("ids", ids, f"a list of 1 to {MOST_LETTERS} ids of letters")
    return parse_id("topic", raw.get("topic")), {parse_id("ids", one) for one in ids}


def _shown(one: Letter) -> Answer:
    return {**asdict(one), "body": one.body.decode(errors="backslashreplace")}
