"""Whether a member of the pool stays small: millions of events behind on Kafka, and a ClickHouse that sleeps 90% of the
time. Between the member and the real server stands a relay that passes nothing while it sleeps."""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
import time
from typing import Any

from bench.machine import Machine, Member, Positions, machine
from bench.produce import behaviors, fill
from ray_app.config import Settings

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


def watched(m: Machine, topic: str, seconds: float, batch: int) -> dict[str, Any]:
    """All flows of a member, as the settings have them."""
    url = f"http://127.0.0.1:{Sleepy(int(m.clickhouse_url.rsplit(':', 1)[1])).port}"
    flows = Settings().streams.flows
    more = {"LEMO_STORES_CLICKHOUSE_URL": url, "LEMO_STREAMS_BATCH": str(batch)}
    member = Member(m, flows, topic, "bench", more)
    reading = [f for f in flows if f not in ("items", "slates")]  # the other two have nothing to read here
    positions = {f: Positions(m, "bench", [f], topic) for f in reading}
    loaded, ends = member.process.memory_info().rss, time.monotonic() + seconds
    member.start()
    samples = []
    while time.monotonic() < ends:
        samples.append(member.process.memory_info().rss)
        time.sleep(SAMPLE_S)  # between two samples
    applied = {f: sum(p.read()) for f, p in positions.items()}
    member.kill()
    return {"before_mb": round(loaded / 1e6), "most_mb": round(max(samples) / 1e6),
            "last_mb": round(samples[-1] / 1e6), "applied": applied}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--batch", type=int, default=Settings().streams.batch)
    args = parser.parse_args()
    with machine() as m:
        took_s = asyncio.run(fill(m.kafka.url, "behind", args.events))
        print(
            f"{args.events:,} events of {len(next(behaviors(1)).body)} bytes behind, written in {took_s:.0f} s",
            flush=True,
        )
        found = watched(m, "behind", args.seconds, args.batch)
    print(f"RSS in MB: {found['before_mb']} before it began, {found['most_mb']} at most in {args.seconds:.0f} s, "
          f"{found['last_mb']} at the end; limit {LIMIT_BYTES // 10**6}")  # fmt: skip
    for flow, applied in found["applied"].items():
        print(f"{flow:10}{applied:12,} applied, lag {args.events - applied:12,}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
