"""Dead letters: what a flow could not read, kept in `<topic>.dlq` with the reason, and how it is sent again.

A letter that is sent again is wrapped: it names the flows that could not read it, so that no other flow counts it
twice, and carries the append time of the original, so that lateness is decided as it was. With each flow it names the
generation of its state: a generation that was built since has read the original itself.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import structs

from ray_app.errors import NotFound
from ray_app.events.base import SUFFIX, Appended, Entry, EventLog, Logged, Place

if TYPE_CHECKING:
    from redis.asyncio import Redis

WRAPPED = b'{"replay":'
PAGE = 500
KEPT_BYTES = 5 << 20  # of a body: in base64 a third longer, and a dead-letter topic takes 8 MB
MOST_KEY = 1000
REMEMBER_S = 90 * 86400  # what was sent or dropped, since the last of it: longer than logs keep letters
Began = Callable[[Place], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Letter:
    """`id` is partition/position in `<topic>.dlq`; `topic`, `partition` and `position` say where the entry stood. One
    whose body was too long has only the first KEPT_BYTES of it: it is not `whole` and cannot be replayed. `generation`
    is that of the state of the flow that could not read it; `written_at` the letter's own time in the log."""

    id: str
    flow: str
    why: str
    topic: str
    partition: int
    position: int
    appended_at: int
    key: str
    body: bytes
    state: str = "waiting"
    whole: bool = True
    generation: int = 0
    written_at: int = 0

    @property
    def note(self) -> str:
        """Under which its state is remembered. A position alone would do for another letter, once the topic was
        deleted and made again."""
        return f"{self.id}@{self.written_at}"


def letter(flow: str, why: str, e: Logged, generation: int = 0) -> Entry:
    """What is appended to the dead-letter topic: who could not read it and why, where it stood, and its bytes."""
    body = {
        "flow": flow, "why": why, "topic": e.topic, "partition": e.partition, "position": e.position,
        "generation": generation, "appended_at": e.appended_at,
        "key": e.key[:MOST_KEY], "body": base64.b64encode(e.body[:KEPT_BYTES]).decode(),
    }  # fmt: skip
    if len(e.body) > KEPT_BYTES:
        body |= {"whole": False, "why": f"{why} (of {len(e.body)} bytes the first {KEPT_BYTES} are kept)"}
    return Entry(f"{e.partition}/{e.position}", orjson.dumps(body))


async def unwrap(flow: str, generation: int, entries: Sequence[Logged], began: Began) -> Sequence[Logged]:
    """The entries as they were first appended, without those that are sent again to other flows, or to an earlier
    generation of this one: its verdict on the original is this generation's own, unless the original was gone when it
    `began` to read that place."""
    if not any(e.body.startswith(WRAPPED) for e in entries):
        return entries
    found: list[Logged] = []
    for e in entries:
        one = await _unwrap(flow, generation, e, began) if e.body.startswith(WRAPPED) else e
        found += [one] if one else []
    return found


async def _unwrap(flow: str, generation: int, e: Logged, began: Began) -> Logged | None:
    try:
        again = orjson.loads(e.body)["replay"]
        if flow not in again["flows"]:
            return None
        if "of" in again and generation > int(again.get("generations", {}).get(flow, 0)):
            topic, partition, position = str(again["of"]).rsplit("/", 2)
            if int(position) >= await began((topic, int(partition))):
                return None
        at = min(e.appended_at, max(0, int(again["appended_at"])))  # anybody can make such an entry
        return structs.replace(e, body=base64.b64decode(again["body"]), appended_at=at)
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError):
        return e  # not ours: the flow says what is wrong with it


class Letters:
    """Those of one log. What was replayed or dropped is remembered in Redis, since no log deletes single entries."""

    def __init__(self, log: EventLog, redis: Redis, prefix: str) -> None:
        self._log, self._redis, self._prefix = log, redis, prefix

    async def topics(self) -> list[str]:
        """Those that have letters."""
        return [t.removesuffix(SUFFIX) for t in await self._log.topics() if t.endswith(SUFFIX)]

    async def read(self, topic: str, every: bool = False) -> AsyncIterator[Letter]:
        """Waiting letters of `topic`, or all with `every`; one that was buried twice by one flow comes once, and once
        more when a rewind could not read it either."""
        met: set[tuple[str, int, int, int]] = set()
        states = await self._states(topic)
        async for e in self._entries(topic + SUFFIX):
            found = _read(e, states)
            if found is None:
                continue
            same = (found.flow, found.generation, found.partition, found.position)
            if same not in met and (every or found.state == "waiting"):
                yield found
            met.add(same)

    async def _entries(self, dlq: str) -> AsyncIterator[Logged]:
        if dlq not in await self._log.topics():
            return
        for p in range(await self._log.partitions(dlq)):
            at = await self._log.first(dlq, p)
            while entries := await self._log.read(dlq, p, at, PAGE):
                for e in entries:
                    yield e
                at = entries[-1].position + 1

    async def get(self, topic: str, id: str) -> Letter:
        """Raises NotFound."""
        async for found in self.read(topic, every=True):
            if found.id == id:
                return found
        raise NotFound(f"letter {id!r} is not in {topic}{SUFFIX}. See: lemo dlq list --topic {topic}", id=id)

    async def replay(self, topic: str, wanted: Callable[[Letter], bool]) -> list[Appended]:
        """Send the wanted waiting letters of `topic` again, each entry once for all the flows that could not read it.

        Idempotent: a letter that was sent is not sent again. A crash between the sending and the note of it sends a
        letter twice within moments, which the flows' own memory of event ids makes one."""
        found: dict[tuple[int, int], list[Letter]] = {}
        async for one in self.read(topic):
            if one.whole and wanted(one):
                found.setdefault((one.partition, one.position), []).append(one)
        sent: list[Appended] = []
        for same in found.values():
            sent += await self._log.append(topic, [_again(same)])
            await self._note(topic, same, "replayed")
        return sent

    async def drop(self, topic: str, wanted: Callable[[Letter], bool]) -> int:
        """Let go of the wanted waiting letters: they are not listed and not replayed any more."""
        found = [one async for one in self.read(topic) if wanted(one)]
        if found:
            await self._note(topic, found, "dropped")
        return len(found)

    async def _note(self, topic: str, those: Sequence[Letter], state: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._key(topic), mapping={one.note: state for one in those})
            pipe.expire(self._key(topic), REMEMBER_S)
            await pipe.execute()

    async def _states(self, topic: str) -> dict[str, str]:
        held: Any = await self._redis.hgetall(self._key(topic))
        return {k.decode(): v.decode() for k, v in held.items()}

    def _key(self, topic: str) -> str:
        return f"{self._prefix}:letters:{topic}"


def _read(e: Logged, states: dict[str, str]) -> Letter | None:
    """None for what is no letter of ours: other programs have topics of such names, and no schema."""
    try:
        d = orjson.loads(e.body)
        found = Letter(
            f"{e.partition}/{e.position}", d["flow"], d["why"], d["topic"], d["partition"], d["position"],
            d.get("appended_at", e.appended_at), d.get("key", ""), base64.b64decode(d["body"]),
            whole=d.get("whole", True), generation=int(d.get("generation", 0)), written_at=e.appended_at,
        )  # fmt: skip
    except (ValueError, TypeError, KeyError):
        return None
    return replace(found, state=states.get(found.note, "waiting"))


def _again(same: list[Letter]) -> Entry:
    one = same[0]
    generations: dict[str, int] = {}
    for s in same:
        generations[s.flow] = max(s.generation, generations.get(s.flow, 0))
    body = {
        "flows": sorted(generations), "generations": generations, "appended_at": one.appended_at,
        "of": f"{one.topic}/{one.partition}/{one.position}", "body": base64.b64encode(one.body).decode(),
    }  # fmt: skip
    return Entry(one.key, orjson.dumps({"replay": body}))
