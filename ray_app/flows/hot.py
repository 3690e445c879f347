"""Hot score: weighted behaviours per tenant, scenario and bucket of time; by category when read, from the shelf.

Promise: bucket sums equal a recount of the first occurrences in the topic, after any crash. Weights count as they were
when a behaviour was applied; a rewind counts all anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache

import orjson

from ray_app.config import Features
from ray_app.events.base import Topics
from ray_app.features import hot
from ray_app.flows.read import behaviors
from ray_app.flows.tally import Tally
from ray_app.streams.flow import Batch
from ray_app.streams.state import Op, Sums

Target = tuple[str, str | None, int, str]


class Hot:
    name = "hot"
    linger_s = 0.0

    def __init__(self, topics: Topics, prefix: str, settings: Features) -> None:
        self.topics, self._prefix, self._settings = topics, prefix, settings
        self._weights = {str(t): w for t, w in settings.hot_weights.items() if w}

    async def flush(self, batch: Batch) -> Sequence[Op | Sums]:
        weights, keep_ms = self._weights, self._settings.hot_keep_s * 1000
        bucket_ms = self._settings.hot_bucket_s * 1000
        tally: Tally[Target] = Tally()
        for at, b in behaviors(batch, weights.keys()):
            if at - b.occurred_at <= keep_ms:  # late by the log's own time, so that a replay decides alike
                tally.add((b.tenant, b.scenario, b.occurred_at // bucket_ms, b.item_id), weights[b.type], b, at)
        return self._ops(tally)

    def _ops(self, tally: Tally[Target]) -> Sequence[Op | Sums]:
        touched: dict[str, set[tuple[str, int]]] = defaultdict(set)

        @cache
        def keys(tenant: str, scenario: str | None, bucket: int) -> list[str]:
            names = hot.names(scenario)
            touched[tenant].update((s, bucket) for s in names)
            return [hot.key(self._prefix, tenant, s, bucket) for s in names]

        def fields(target: Target) -> tuple[str, list[str]]:
            tenant, scenario, bucket, item_id = target
            return item_id, keys(tenant, scenario, bucket)

        ops: list[Op | Sums] = [*tally.sums(fields)]
        for tenant, buckets in sorted(touched.items()):
            ops += [self._expire(tenant, s, b) for s, b in sorted(buckets)]
            ops.append(self._tell(tenant, sorted(b for s, b in buckets if s == hot.ALL)))
        return ops

    def _expire(self, tenant: str, scenario: str, bucket: int) -> Op:
        keep_s = self._settings.hot_keep_s + self._settings.hot_bucket_s
        return Op(("EXPIRE", hot.key(self._prefix, tenant, scenario, bucket), keep_s))

    def _tell(self, tenant: str, buckets: list[int]) -> Op:
        feed = hot.feed(self._prefix, tenant)
        return Op(("XADD", feed, "MAXLEN", "~", hot.MOST_TOUCHED, "*", "buckets", orjson.dumps(buckets)))
