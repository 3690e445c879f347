"""Whether the pool stays small: millions of events behind on Kafka, and a ClickHouse that sleeps 90% of the
time. Between the member and the real server stands a relay that passes nothing while it sleeps."""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil

from bench.machine import Machine, Member, Positions, machine, replica, variables
from bench.produce import behaviors, fill
from ray_app.config import Settings
from ray_app.launch import House
from ray_app.stores.embedded import free_port

PREFIX = "bench"
LIMIT_BYTES = 500_000_000
CYCLE_S, AWAKE_S = 10.0, 1.0
SAMPLE_S = 0.25
CHUNK_BYTES = 1 << 16


class Sleepy:
    """A relay to `port` of this machine, awake for the first AWAKE_S of each CYCLE_S."""

    def __init__(self, port: int) -> None:
        self._to, self.port = port, 0
        self._ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True, name="relay").start()
        self._ready.wait()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await server.serve_forever()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while part := await reader.read(CHUNK_BYTES):
                into = time.monotonic() % CYCLE_S
                if into > AWAKE_S:
                    await asyncio.sleep(CYCLE_S - into)
                writer.write(part)
                await writer.drain()
        except OSError:
            pass  # either side may leave
        finally:
            writer.close()


@contextmanager
def pool(m: Machine, settings: Mapping[str, str], whole: bool) -> Iterator[psutil.Process]:
    """A member alone; or the replica of the `whole` running system, in which Ray's parts count too."""
    if not whole:
        member = Member(m, settings)
        member.start()
        yield member.process
        member.kill()
        return
    house = House(m.folder / "data", free_port(), free_port())
    try:
        house.start(settings)
        house.wait_ready()
        yield replica(house)
    finally:
        house.stop()


def watched(m: Machine, topic: str, seconds: float, whole: bool, batch: int) -> dict[str, Any]:
    """All flows, for some time."""
    url = f"http://127.0.0.1:{Sleepy(int(m.clickhouse_url.rsplit(':', 1)[1])).port}"
    flows = Settings().streams.flows
    settings = {
        **variables(m, flows, topic, PREFIX), "LEMO_STORES_CLICKHOUSE_URL": url, "LEMO_STREAMS_BATCH": str(batch)
    }  # fmt: skip
    reading = [f for f in flows if f not in ("items", "slates")]  # the other two have nothing to read here
    with pool(m, settings, whole) as process:
        samples, ends = [], time.monotonic() + seconds
        while time.monotonic() < ends:
            samples.append(process.memory_info().rss)
            time.sleep(SAMPLE_S)  # between two samples
        applied = {f: sum(Positions(m, PREFIX, [f], topic).read()) for f in reading}
    return {"first_mb": round(samples[0] / 1e6), "most_mb": round(max(samples) / 1e6),
            "last_mb": round(samples[-1] / 1e6), "applied": applied}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--whole", action="store_true", help="the replica of the running system, not a member alone")
    parser.add_argument("--batch", type=int, default=Settings().streams.batch)
    args = parser.parse_args()
    with machine() as m:
        took_s = asyncio.run(fill(m.kafka.url, "behind", args.events))
        print(
            f"{args.events:,} events of {len(next(behaviors(1)).body)} bytes behind, written in {took_s:.0f} s",
            flush=True,
        )
        found = watched(m, "behind", args.seconds, args.whole, args.batch)
    print(f"RSS in MB: {found['first_mb']} at first, {found['most_mb']} at most in {args.seconds:.0f} s, "
          f"{found['last_mb']} at the end; limit {LIMIT_BYTES // 10**6}")  # fmt: skip
    for flow, applied in found["applied"].items():
        print(f"{flow:10}{applied:12,} applied, lag {args.events - applied:12,}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
