"""Hot score: weighted behaviours per tenant, scenario and bucket of time.

Promise: bucket sums equal a recount of the first occurrences in the topic, after any crash.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import orjson

from ray_app.config import Features
from ray_app.features import hot
from ray_app.flows.read import behaviors
from ray_app.streams.flow import Batch
from ray_app.streams.state import Op


class Hot:
    name = "hot"
    linger_s = 0.0

    def __init__(self, topic: str, prefix: str, settings: Features) -> None:
        self.topic, self._prefix, self._settings = topic, prefix, settings

    async def flush(self, batch: Batch) -> Sequence[Op]:
        keep, size = self._settings.hot_keep_s, self._settings.hot_bucket_s
        ops: list[Op] = []
        touched: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for at, b in behaviors(batch):
            if at - b.occurred_at > keep * 1000:  # late by the log's own time, so that a replay decides alike
                continue
            for scenario, bucket, weight in hot.adds(b, size):
                key = hot.key(self._prefix, b.tenant, scenario, bucket)
                ops.append(Op(("HINCRBY", key, b.item_id, weight), f"{b.tenant}/{b.event_id}", at))
                touched[b.tenant].add((scenario, bucket))
        for tenant, buckets in sorted(touched.items()):
            ops += [Op(("EXPIRE", hot.key(self._prefix, tenant, s, b), keep + size)) for s, b in sorted(buckets)]
            ops.append(self._tell(tenant, sorted(b for s, b in buckets if s == hot.ALL)))
        return ops

    def _tell(self, tenant: str, buckets: list[int]) -> Op:
        feed = hot.feed(self._prefix, tenant)
        return Op(("XADD", feed, "MAXLEN", "~", hot.MOST_TOUCHED, "*", "buckets", orjson.dumps(buckets)))
