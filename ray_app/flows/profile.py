"""Profile: recent items and the seen set of each visitor, read by the next request.

Promise: purchase counts equal a recount of the first occurrences in the topic, after any crash.
"""

from __future__ import annotations

from collections.abc import Sequence

from ray_app.config import Features
from ray_app.events.base import Topics
from ray_app.features import profile
from ray_app.flows.read import behaviors
from ray_app.streams.flow import Batch
from ray_app.streams.state import Op


class ProfileFlow:
    name = "profile"
    linger_s = 0.0

    def __init__(self, topics: Topics, prefix: str, settings: Features) -> None:
        self.topics, self._prefix, self._settings = topics, prefix, settings

    async def flush(self, batch: Batch) -> Sequence[Op]:
        ops, met = [], set()
        for at, b in behaviors(batch):
            once = f"{b.tenant}/{b.event_id}"
            commands = list(profile.writes(b, self._prefix))
            ops += [Op(c, once, at) for c in commands]
            if commands:
                met.add((b.tenant, b.visitor))
        for tenant, visitor in sorted(met):
            ops += [Op(c) for c in profile.trims(self._prefix, tenant, visitor, self._settings)]
        return ops
