"""Load from a process of its own: closed loop (each connection asks again when answered), or open loop (a fixed rate).

In an open loop a latency counts from the time at which the request was due, so that waiting for a free connection, or
for this client, counts. Reads {"host", "port", "path", "asks": [[key, body], ...], "rate", "seconds", "connections"}
from stdin, rate 0 for the closed loop; writes {"ms": [...], "due": [...], "errors": n, "seconds": s} to stdout. When a
request was due is said by time.perf_counter, which the processes of one machine share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

DRAIN_S = 5.0  # an answer that takes longer is an error


class Connection(asyncio.Protocol):
    """One request at a time over one socket; HTTP/1.1 with Content-Length, and nothing else."""

    def __init__(self, free: Callable[[Connection], None]) -> None:
        self._free, self._buffer, self._due = free, bytearray(), 0.0
        self._transport: asyncio.Transport | None = None
        self.ms: list[float] = []
        self.due: list[float] = []
        self.errors, self.busy = 0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, request: bytes, due: float) -> None:
        assert self._transport is not None
        self._due, self.busy = due, True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        at = head.index(b"content-length:") + 15
        if len(self._buffer) < end + 4 + int(head[at:].split(b"\r\n", 1)[0]):
            return
        self._buffer.clear()
        self.ms.append((time.perf_counter() - self._due) * 1000)
        self.due.append(self._due)
        self.errors += not head.startswith(b"http/1.1 200")
        self.busy = False
        self._free(self)

    def connection_lost(self, why: Exception | None) -> None:
        self.errors += self.busy


def requests(plan: dict[str, Any]) -> Iterator[bytes]:
    """Whole requests, the asks one after another and from the beginning again."""
    head = f"POST {plan['path']} HTTP/1.1\r\nHost: {plan['host']}\r\nContent-Type: application/json\r\n"
    whole = []
    for key, body in plan["asks"]:
        raw = json.dumps(body)
        whole.append(f"{head}X-API-Key: {key}\r\nContent-Length: {len(raw)}\r\n\r\n{raw}".encode())
    return cycle(whole)


async def connect(plan: dict[str, Any], free: Callable[[Connection], None]) -> list[Connection]:
    loop, found = asyncio.get_running_loop(), []
    for _ in range(plan["connections"]):
        _, connection = await loop.create_connection(lambda: Connection(free), plan["host"], plan["port"])
        found.append(connection)
    return found


async def closed(plan: dict[str, Any]) -> tuple[list[Connection], float]:
    asks, ends = requests(plan), time.perf_counter() + plan["seconds"]

    def again(connection: Connection) -> None:
        now = time.perf_counter()
        if now < ends:
            connection.send(next(asks), now)

    began, connections = time.perf_counter(), await connect(plan, again)
    for c in connections:
        again(c)
    await asyncio.sleep(max(0.0, ends - time.perf_counter()))
    await _drained(connections)
    return connections, time.perf_counter() - began


async def open_loop(plan: dict[str, Any]) -> tuple[list[Connection], float]:
    asks, rate, idle, late = requests(plan), plan["rate"], deque[Connection](), deque[float]()

    def free(connection: Connection) -> None:
        if late:
            connection.send(next(asks), late.popleft())
        else:
            idle.append(connection)

    connections = await connect(plan, free)
    idle.extend(connections)
    began = time.perf_counter()
    for k in range(int(rate * plan["seconds"])):
        due = began + k / rate
        wait_s = due - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        if idle:
            idle.popleft().send(next(asks), due)
        else:
            late.append(due)
            await asyncio.sleep(0)
    sent_s = time.perf_counter() - began
    await _drained(connections, late)
    connections[0].errors += len(late)
    return connections, max(sent_s, plan["seconds"])


async def _drained(connections: list[Connection], late: deque[float] | None = None) -> None:
    for _ in range(int(DRAIN_S * 100)):
        if not late and not any(c.busy for c in connections):
            break
        await asyncio.sleep(0.01)
    for c in connections:
        c.errors += c.busy


async def main() -> None:
    plan = json.load(sys.stdin)
    connections, seconds = await (open_loop(plan) if plan["rate"] else closed(plan))
    times = {"ms": [ms for c in connections for ms in c.ms], "due": [due for c in connections for due in c.due]}
    found = {**times, "errors": sum(c.errors for c in connections)}
    json.dump({**found, "seconds": seconds}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
