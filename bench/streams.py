"""What the flows cost: events a second and CPU, beside loops written by hand with the same parts and beside two other
stream engines, over the same topics of one Kafka broker on this machine, in one run.

A line is the median of some rounds, in each of which every program runs once, alone, with an empty Redis and empty
tables. CPU is that of the program, then that of the three servers, in microseconds an event.

The other engines need an environment of their own, without which they are left out, and a line says so:
`python3 -m venv .venv-peers && .venv-peers/bin/pip install quixstreams bytewax orjson`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import clickhouse_connect

from bench.loops import BATCH
from bench.machine import PARTITIONS, ROOT, Machine, Member, Positions, machine, variables
from bench.produce import behaviors, fill
from ray_app.clock import new_id
from ray_app.stores.migrate import migrate

PEERS = ROOT / ".venv-peers" / "bin" / "python"
FLOWS = ("behaviors", "hot", "metrics", "profile")
TABLES = ("behaviors", "loop")
WARM_EVENTS = 20_000


@dataclass(frozen=True)
class Cost:
    """Of one program: events a second from its beginning to the last event applied (from the first event, where it is
    compared with another engine), and microseconds of CPU an event: its own, and those of the servers meanwhile."""

    rate: float
    cpu_us: float
    servers_us: float


@dataclass(frozen=True)
class Program:
    """`base`: the program whose rate it is compared with; `least`: the share of it that is promised."""

    name: str
    run: Callable[[Machine], Cost]
    base: str = ""
    least: float = 0.0


def loop(name: str, topic: str, n: int) -> Callable[[Machine], Cost]:
    """A loop of bench.loops."""

    def run(m: Machine) -> Cost:
        line = [sys.executable, "-m", "bench.loops", name, "--brokers", m.brokers, "--topic", topic]
        line += ["--events", str(n), "--clickhouse", m.clickhouse_url, "--table", "loop", "--redis", m.redis_url]
        process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None
        process.stdout.readline()
        before = _used(m)
        out, _ = process.communicate("\n", timeout=900)
        return _cost(json.loads(out.splitlines()[-1]), n, _used(m) - before)

    return run


def peer(name: str, topic: str, n: int) -> Callable[[Machine], Cost]:
    """Another engine, from its first event."""

    def run(m: Machine) -> Cost:
        line = [str(PEERS), str(ROOT / "bench" / "peers" / f"{name}_hot.py"), "--brokers", m.brokers]
        line += ["--topic", topic, "--events", str(n)]
        before = _used(m)
        done = subprocess.run(line, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr[-2000:]}")
        return _cost(json.loads(done.stdout.splitlines()[-1]), n, _used(m) - before)

    return run


def ours(flows: Sequence[str], topic: str, n: int, from_first: bool = False) -> Callable[[Machine], Cost]:
    """A member of the pool; `from_first`: what its first batch took, and how many events that were, is left out."""

    def run(m: Machine) -> Cost:
        prefix = f"bench-{new_id()[:8]}"
        member = Member(m, {**variables(m, flows, topic, prefix), "LEMO_STREAMS_BATCH": str(BATCH)})
        positions, used, done = Positions(m, prefix, flows, topic), 0.0, 0
        before, began = _used(m), time.perf_counter()
        member.start()
        if from_first:
            positions.wait(1)
            began, done, used = time.perf_counter(), sum(positions.read()), member.cpu_s()
        positions.wait(n)
        found = {"seconds": time.perf_counter() - began, "cpu_s": member.cpu_s() - used}
        servers_s = _used(m) - before
        member.stop()
        return _cost(found, n - done, servers_s)

    return run


def _used(m: Machine) -> float:
    return sum(m.cpu_s().values())


def _cost(found: dict[str, float], n: int, servers_s: float) -> Cost:
    return Cost(n / found["seconds"], found["cpu_s"] / n * 1e6, servers_s / n * 1e6)


class Tables:
    """Ours, and one of the same kind for the loops."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._client: Any = clickhouse_connect.get_client(
            host=host, port=int(port), autogenerate_session_id=False, database="__default__"
        )
        migrate(self._client)
        self._client.command("CREATE TABLE IF NOT EXISTS loop AS behaviors")

    def empty(self) -> None:
        for table in TABLES:
            self._client.command(f"TRUNCATE TABLE {table}")


def programs(by_user: str, by_item: str, n: int) -> list[Program]:
    """Those of one event each need the item's topic: the other engines keep their state by the key of the topic."""
    found = [
        Program("loop: to ClickHouse", loop("sink", by_user, n)),
        Program("flow behaviors", ours(("behaviors",), by_user, n), "loop: to ClickHouse", 0.6),
        Program("loop: to ClickHouse and Redis", loop("all", by_user, n)),
        Program("the four flows", ours(FLOWS, by_user, n), "loop: to ClickHouse and Redis", 0.25),
        Program("flow metrics", ours(("metrics",), by_user, n)),
        Program("flow profile", ours(("profile",), by_user, n)),
        Program("loop: a dictionary", loop("count", by_item, n)),
    ]
    if PEERS.exists():
        found += [Program(p, peer(p, by_item, n)) for p in ("quix", "bytewax")]
    else:
        print("quix-streams and bytewax are not here")
    return [*found, Program("flow hot", ours(("hot",), by_item, n, from_first=True), "quix", 2.0)]


def measure(m: Machine, n: int, rounds: int, only: Sequence[str]) -> dict[str, list[Cost]]:
    topics = [f"behaviors-{new_id()[:8]}" for _ in range(3)]
    url = m.kafka.url
    seconds = asyncio.run(fill(url, topics[0], n)) + asyncio.run(fill(url, topics[1], n, by_item=True))
    asyncio.run(fill(url, topics[2], WARM_EVENTS))
    print(f"{n:,} events of {len(next(behaviors(1)).body)} bytes in each of 2 topics of {PARTITIONS} partitions, "
          f"written in {seconds:.0f} s; batches of {BATCH:,}; {os.cpu_count()} CPUs", flush=True)  # fmt: skip
    tables, found = Tables(m.clickhouse_url), dict[str, list[Cost]]()
    for p in programs(topics[2], topics[2], WARM_EVENTS)[:4]:  # the servers' first inserts are slow
        p.run(m)
    for _ in range(rounds):
        for p in programs(topics[0], topics[1], n):
            if only and p.name not in only:
                continue
            tables.empty()
            m.redis().flushall()
            found.setdefault(p.name, []).append(p.run(m))
            print(f"  {p.name}: {found[p.name][-1].rate:,.0f}/s", flush=True)
    return found


def shown(found: dict[str, list[Cost]]) -> list[dict[str, Any]]:
    rates = {name: [c.rate for c in costs] for name, costs in found.items()}
    lines = []
    for p in programs("", "", 1):
        if not (costs := found.get(p.name)):
            continue
        cpu_us, servers_us = median(c.cpu_us for c in costs), median(c.servers_us for c in costs)
        line: dict[str, Any] = {"name": p.name, "rate": round(median(rates[p.name]))}
        line |= {"cpu_us": round(cpu_us, 1), "servers_us": round(servers_us, 1)}
        if p.base in rates:  # of one round each: the machine may be slower in another
            share = median(a / b for a, b in zip(rates[p.name], rates[p.base], strict=True))
            line |= {"base": p.base, "share": round(share, 2), "least": p.least}
        lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=(), metavar="NAME", help='such as quix "flow hot"')
    args = parser.parse_args()
    began = time.monotonic()
    with machine() as m:
        lines = shown(measure(m, args.events, args.rounds, args.only))
    print(f"{'':32}{'events/s':>10}{'CPU us':>9}{'servers us':>12}   share, and the least promised")
    for f in lines:
        share = f"   {f['share']:.2f} of {f['base']}, {f['least']}" if "share" in f else ""
        print(f"{f['name']:32}{f['rate']:10,}{f['cpu_us']:9.1f}{f['servers_us']:12.1f}{share}")
    print(json.dumps({"lines": lines, "seconds": round(time.monotonic() - began)}))


if __name__ == "__main__":
    main()
