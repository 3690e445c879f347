"""The relay: ended attempts, as queue.lua notes them, go from Redis to the event log, where the flow `tasks` reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from ray_app.events.base import Entry, EventLog

if TYPE_CHECKING:
    from redis.asyncio import Redis

BATCH = 200
# Only what was read is cut off: where another relay was faster the list begins with something else.
TRIM = """
if redis.call('LINDEX', KEYS[1], 0) == ARGV[1] and redis.call('LINDEX', KEYS[1], ARGV[3] - 1) == ARGV[2] then
  redis.call('LTRIM', KEYS[1], ARGV[3], -1)
  return 1
end
return 0
"""
# 1: it is ours, for another lease.
HOLD = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class Lease:
    """Of many members one has it; it goes to another when it was not renewed for `lease_s`. It saves work, and nothing
    hangs on it: a member that was frozen may believe that it has it still."""

    def __init__(self, redis: Redis, key: str, member: str, lease_s: float) -> None:
        self._key, self._member, self._lease_ms = key, member, int(lease_s * 1000)
        self._script = redis.register_script(HOLD)

    async def held(self) -> bool:
        """Renews it too. Raises RedisError."""
        return bool(await self._script(keys=[self._key], args=[self._member, self._lease_ms]))


class Relay:
    """At least once: first the log has a batch, then it leaves Redis. `prefix`: of the queue's keys."""

    def __init__(self, redis: Redis, prefix: str, log: EventLog, topic: str, batch: int = BATCH) -> None:
        self._redis, self.key, self._log, self._topic, self._batch = redis, f"{prefix}:history", log, topic, batch
        self._trim = redis.register_script(TRIM)

    async def step(self) -> list[Mapping[str, Any]]:
        """Ship one batch: the attempts, or none where nothing is left. Raises RedisError, Unavailable."""
        found: Any = await self._redis.lrange(self.key, 0, self._batch - 1)
        if not found:
            return []
        records = [
            orjson.loads(body.decode(errors="replace")) for body in found
        ]  # what was cut may end in half a letter
        await self._log.append(self._topic, [Entry(str(r["id"]), orjson.dumps(r)) for r in records])
        await self._trim(keys=[self.key], args=[found[0], found[-1], len(found)])
        return records
