"""Which member reads which partition: a lease per partition in Redis, shared out evenly among live members."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ray_app.clock import Clock
from ray_app.events.base import Place

if TYPE_CHECKING:
    from redis.asyncio import Redis

# KEYS: lease; ARGV: member, lease in ms. Takes a free lease, renews our own; 1 when it is ours afterwards.
TAKE = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
DROP = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Leases:
    """A lease only spreads the work: what keeps counts right is the guarded position, never the lease."""

    def __init__(self, redis: Redis, prefix: str, name: str, member: str, lease_s: float, clock: Clock) -> None:
        self._redis, self._member, self._clock = redis, member, clock
        self._prefix = f"{prefix}:lease:{name}"
        self._lease_ms = int(lease_s * 1000)
        self._take = redis.register_script(TAKE)
        self._drop = redis.register_script(DROP)

    async def renew(self, places: Sequence[Place], held: Collection[Place]) -> set[Place]:
        """The places that are ours now: at most our fair share, those that we hold first."""
        now = self._clock.now()
        members = f"{self._prefix}:members"
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zadd(members, {self._member: now})
            pipe.zremrangebyscore(members, "-inf", now - self._lease_ms)
            pipe.zrange(members, 0, -1)
            live = sorted((await pipe.execute())[2])
        each, more = divmod(len(places), max(1, len(live)))
        share = each + (self._member.encode() in live[:more])  # of 4 for 3 members: 2, 1, 1 and never 2, 2, 0
        mine: set[Place] = set()
        for place in sorted(places, key=lambda p: p not in held):
            if len(mine) == share:
                break
            if await self._take(keys=[self._key(place)], args=[self._member, self._lease_ms]):
                mine.add(place)
        for place in set(held) - mine:
            await self._drop(keys=[self._key(place)], args=[self._member])
        return mine

    async def leave(self, held: Collection[Place]) -> None:
        """Hand over at once instead of after the lease."""
        await self._redis.zrem(f"{self._prefix}:members", self._member)
        for place in held:
            await self._drop(keys=[self._key(place)], args=[self._member])

    def _key(self, place: Place) -> str:
        return f"{self._prefix}:{place[0]}:{place[1]}"
