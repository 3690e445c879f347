"""Which stores, roles and modules the settings ask for: the lists of `lemo check`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ray_app.config import Settings
from ray_app.operations.check import Part, Report, check
from ray_app.operations.check_modules import packages, serve_modules
from ray_app.operations.needs import needs

Open = Callable[[], Any]
SETTINGS = {
    "documents": "stores.mongodb_url",
    "state": "stores.redis_url",
    "vectors": "stores.milvus_url",
    "analytics": "stores.clickhouse_url",
    "event log": "events.kafka_url",
    "blobs": "stores.blobs_url",
}
# A read that is one round trip. Adapters remember what topics there are, so the log is asked for its version.
ASKS: Mapping[str, Callable[[Any], Awaitable[Any]]] = {
    "documents": lambda store: store.count("system", "keys"),
    "state": lambda store: store.ask(),
    "vectors": lambda store: store.load("system", "check"),
    "analytics": lambda store: store.query("SELECT 1"),
    "event log": lambda store: store.version(),
    "blobs": lambda store: asyncio.to_thread(store.version),
}


async def inspect(settings: Settings, running: bool, openers: Mapping[str, Open], serve_config: Any) -> Report:
    """`running`: a cluster holds the data folder; `openers` by store; `serve_config`: a Serve file, read, or None.

    Modules are imported first and one by one, so that this costs no store its time.
    """
    urls = {setting: _url(settings, setting) for setting in SETTINGS.values()}
    modules = await asyncio.to_thread(lambda: [*packages(urls), *serve_modules(serve_config)])
    return await check(parts(settings, running, openers), needs(settings.streams.flows), modules)


def parts(settings: Settings, running: bool, openers: Mapping[str, Open]) -> list[Part]:
    e = settings.events
    topics = {
        "event log": (*e.item_topics, e.behavior_topic, e.slate_topic, e.neural_topic, e.task_topic, e.alert_topic)
    }
    made = []
    for name, setting in SETTINGS.items():
        url = _url(settings, setting)
        idle = url is None and not running
        made.append(Part(name, setting, url, idle, openers[name], ASKS[name], topics.get(name, ())))
    return made


def _url(settings: Settings, setting: str) -> str | None:
    section, _, field = setting.partition(".")
    return getattr(getattr(settings, section), field) or None
