"""What a Redis server says of itself, judged: whether flows can trust what it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError, ResponseError

from ray_app.config import CLUSTER_REFUSED
from ray_app.errors import Unavailable
from ray_app.operations.check import Finding

if TYPE_CHECKING:
    from redis.asyncio import Redis

OLDEST, NEWEST = (6, 2), (7, 2)
FULL, NEARLY = 0.95, 0.8  # of maxmemory
LOST = "flows read the log again from an older position, but pauses and notes on dead letters since then are lost"


class RedisCheck:
    """`url` of the settings, None for the embedded server. Reads only."""

    def __init__(self, redis: Redis, url: str | None) -> None:
        self._redis, self._embedded = redis, url is None
        self._sentinel = (url or "").startswith("sentinel")

    async def version(self) -> str:
        """Raises Unavailable."""
        return f"Redis {(await self._info())['redis_version']}"

    async def ask(self) -> None:
        await self._redis.ping()

    async def findings(self) -> list[Finding]:
        info = await self._info()
        found = [cluster(info), role(info), release(info), await self._scripts(), policy(info)]
        found += [memory(info, self._embedded), persistence(info, await self._config("save"))]
        if info.get("aof_enabled"):
            found.append(fsync(await self._config("appendfsync")))
        if self._sentinel:
            found.append(replicas(info, await self._config("min-replicas-to-write")))
        return found

    async def close(self) -> None:
        await self._redis.aclose()

    async def _info(self) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = await self._redis.info()
        except (RedisError, OSError) as e:
            raise Unavailable(f"Redis did not answer: {e}") from e
        return found

    async def _config(self, name: str) -> str | None:
        """None where the server does not tell, as with a user of few rights or a rented server."""
        try:
            found = await self._redis.config_get(name)
        except ResponseError:
            return None
        return found.get(name)

    async def _scripts(self) -> Finding:
        try:
            await self._redis.eval("return #cmsgpack.pack(ARGV)", 0, "x")
        except ResponseError as e:
            return Finding("fail", "scripts", f"are refused: {e}", "Give the user the right to run them: +@scripting")
        return Finding("ok", "scripts", "are run")


def cluster(info: Mapping[str, Any]) -> Finding:
    if info.get("cluster_enabled"):
        return Finding("fail", "cluster", f"this is a node of a Redis Cluster. {CLUSTER_REFUSED}")
    return Finding("ok", "cluster", "this is a single server")


def role(info: Mapping[str, Any]) -> Finding:
    if info.get("role") != "master":
        return Finding("fail", "role", "this is a replica: it takes no writes", "Name the master, or use sentinel://")
    return Finding("ok", "role", "this is a master")


def release(info: Mapping[str, Any]) -> Finding:
    version = str(info["redis_version"])
    number = tuple(int(part) for part in version.split(".")[:2])
    if number < OLDEST:
        return Finding("fail", "version", f"{version} lacks commands that we use", "Use Redis 6.2 to 7.2")
    if number > NEWEST:
        return Finding("warn", "version", f"{version} is newer than any that was run; see docs/supported.md")
    return Finding("ok", "version", version)


def policy(info: Mapping[str, Any]) -> Finding:
    found = str(info.get("maxmemory_policy"))
    if found == "noeviction":
        return Finding("ok", "maxmemory-policy", found)
    says = f"is {found}: when memory is full Redis would drop positions, sums and profiles"
    return Finding("fail", "maxmemory-policy", says, "Set maxmemory-policy noeviction")


def memory(info: Mapping[str, Any], embedded: bool) -> Finding:
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if not limit:
        says = f"no limit; {_megabytes(used)} are used"
        do = "Set maxmemory below what the machine has: else its kernel ends Redis when memory is full"
        return Finding("ok", "maxmemory", says) if embedded else Finding("warn", "maxmemory", says, do)
    says = f"{_megabytes(used)} of {_megabytes(limit)} are used"
    if used > FULL * limit:
        return Finding("fail", "maxmemory", f"{says}: writes are refused when it is full", "Raise maxmemory")
    return Finding("warn" if used > NEARLY * limit else "ok", "maxmemory", says, "Raise maxmemory")


def persistence(info: Mapping[str, Any], save: str | None) -> Finding:
    """`save`: when snapshots are written, "" for never, None where the server does not tell."""
    do = "Set appendonly yes and appendfsync everysec"
    if info.get("aof_enabled"):
        if info.get("aof_last_write_status") != "ok":
            return Finding("fail", "persistence", "the append-only file cannot be written", "Look at the disk of Redis")
        return Finding("ok", "persistence", "append-only file")
    if save == "":
        return Finding("fail", "persistence", f"nothing is written to disk. After a restart {LOST}", do)
    if info.get("rdb_last_bgsave_status") != "ok":
        says = "the last snapshot failed, and Redis refuses writes until one succeeds"
        return Finding("fail", "persistence", says, "Look at the disk of Redis")
    return Finding("warn", "persistence", f"snapshots only. After a crash {LOST}", do)


def fsync(found: str | None) -> Finding:
    if found == "no":
        says = "is no: the machine's fall loses what its kernel had not written"
        return Finding("warn", "appendfsync", says, "Set appendfsync everysec")
    return Finding("ok", "appendfsync", found or "the server does not tell")


def replicas(info: Mapping[str, Any], least: str | None) -> Finding:
    """`least`: how many must follow for the master to take writes."""
    if not info.get("connected_slaves"):
        return Finding("warn", "replicas", "no replica follows the master: Sentinel has none to put in its place")
    if least == "0":
        says = "min-replicas-to-write is 0: a master that is cut off goes on taking writes, which are then lost"
        return Finding("warn", "replicas", says, "Set min-replicas-to-write 1")
    return Finding("ok", "replicas", f"{info['connected_slaves']} follow")


def _megabytes(n: int) -> str:
    return f"{n / 2**20:,.0f} MiB"
