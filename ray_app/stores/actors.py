"""LocalStores: the detached actor that starts the embedded children, watches them, and knows the cluster's settings."""

from __future__ import annotations

import logging
import os
import threading

import ray

from ray_app import cluster
from ray_app.config import Settings
from ray_app.errors import Unavailable
from ray_app.stores.embedded import Embedded

logger = logging.getLogger(__name__)
WATCH_S = 0.25


class LocalStores:
    """Raises DataFolderInUse at its start when another cluster holds the folder, Unavailable on a second node."""

    def __init__(self, settings: Settings) -> None:
        embedded = settings.embedded()
        if embedded and len([n for n in ray.nodes() if n["Alive"]]) > 1:
            wanted = ", ".join(f"LEMO_{name.replace('.', '_').upper()}" for name in embedded)
            raise Unavailable(
                f"embedded stores serve one node, and this cluster has more. Set the URLs of served ones: {wanted}"
            )
        self._settings = settings
        children = {"stores.redis_url": "redis", "stores.clickhouse_url": "clickhouse"}
        self._embedded = Embedded(settings.data, [children[name] for name in embedded if name in children])
        self._embedded.start()
        cluster.record_addresses(settings.data)
        self._ending = threading.Event()
        threading.Thread(target=self._watch, daemon=True, name="watch-stores").start()

    def _watch(self) -> None:
        while not self._ending.wait(WATCH_S):
            try:
                for name in self._embedded.check():
                    logger.warning("a store had died and was started again", extra={"store": name})
            except Unavailable as e:
                logger.error(e.message)
            except Exception:  # whatever it is, the children must go on being watched
                logger.exception("the stores could not be looked at")

    def settings(self) -> Settings:
        return self._settings

    def status(self) -> dict[str, int]:
        return {"pid": os.getpid()}
