"""Rates, latencies and memory of the running system beside an ingress that answers a constant, in one run.

The load comes from another process (bench/load.py), a different user each request. A rate is sustained when nearly
every request of an open loop is answered in its time. All of it shares this machine's processors, the load too:
compare the shares, not the absolute figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench import retail, shop, synthetic
from ray_app.launch import ROOT, House
from ray_app.stores.embedded import free_port

PATH = "/api/v1/recommend"
SERVERS, INLINE, GPU = ("Gateway", "Recall", "Rank", "Rerank"), "inline", "gpu"
SCENARIO = "home"
CONNECTIONS, MOST_CONNECTIONS = 16, 128
STEPS = (0.95, 0.85, 0.75, 0.6, 0.45)  # of the closed loop's rate, tried as open loops until one is sustained
LEAST_ANSWERED, MOST_P99_MS = 0.98, 250.0
PSS_AFTER_S = 60.0
LIMITS = {"p50_ms": 8.0, "p99_ms": 25.0, "share": 0.08, "share_aim": 0.20, "pss_gb": 3.0}
CASES = ["retail/1", "retail/2", "retail/1/graph", "synthetic/1", "synthetic/2", "synthetic/1/graph"]
Asks = list[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Loop:
    """What came of one loop; `rate` is of answers that were right."""

    rate: float
    p50_ms: float
    p99_ms: float
    errors: int


@dataclass(frozen=True)
class Figures:
    """`closed` at CONNECTIONS; `sustained` is the highest rate that an open loop kept up, `half` an open loop at half
    of it. `cpu_ms`: of the Gateways and stages for each answer. `others`: the share of this machine's processors that
    something else took meanwhile: with much of it the rates say little. `pss_gb`: of the whole tree, PSS_AFTER_S after
    ready."""

    closed: Loop
    sustained: float
    half: Loop
    cpu_ms: float
    others: float
    pss_gb: float | None = None


class Variant(House):
    """The system with another application or placement, or with more replicas of its Gateway."""

    def __init__(self, data: Path, replicas: int = 1, import_path: str | None = None, placement: str = INLINE) -> None:
        super().__init__(data, free_port(), free_port())
        gpu = {"LEMO_SERVING_RANK_GPUS": "1"} if placement == GPU else {}
        self.extra = {"LEMO_SERVING_PLACEMENT": "graph" if gpu else placement, **gpu}
        (application,) = self._config["applications"]
        gateway = next(d for d in application["deployments"] if d["name"] == "Gateway")
        gateway["num_replicas"] = replicas
        if import_path:
            application["import_path"], application["deployments"] = import_path, [gateway]
            del self._config["grpc_options"]

    def servers(self) -> list[psutil.Process]:
        """The replicas that make answers: Gateways, and the stages where they are apart."""
        lines = {p: " ".join(p.cmdline()) for p in self.processes()}
        return [p for p, line in lines.items() if any(f"ServeReplica:recommender:{n}" in line for n in SERVERS)]


@contextmanager
def running(house: Variant) -> Iterator[float]:
    """The time at which it was ready."""
    house.start(house.extra)
    try:
        house.wait_ready()
        yield time.monotonic()
    finally:
        house.stop()
        left = house.processes()
        assert not left, f"the stop left {left}"


def drive(house: House, asks: Asks, seconds: float, rate: float = 0.0) -> Loop:
    plan = {"host": "127.0.0.1", "port": house.http_port, "path": PATH, "asks": asks, "rate": rate,
            "seconds": seconds, "connections": MOST_CONNECTIONS if rate else CONNECTIONS}  # fmt: skip
    line = [sys.executable, "-m", "bench.load"]
    done = subprocess.run(line, input=json.dumps(plan), capture_output=True, text=True, cwd=ROOT, check=True)
    found = json.loads(done.stdout)
    p50, p99 = np.percentile(found["ms"], [50, 99]) if found["ms"] else (float("inf"), float("inf"))
    answered = len(found["ms"]) - found["errors"]
    return Loop(round(answered / found["seconds"], 1), round(float(p50), 2), round(float(p99), 2), found["errors"])


def measure(house: Variant, asks: Asks, seconds: float) -> Figures:
    """Warm up, closed loop, open loops downwards until one is sustained, and one at half of it."""
    drive(house, asks, 2.0)
    before, strangers = _cpu_s(house.servers()), _strangers_s(house)
    closed = drive(house, asks, seconds)
    cpu_ms = 1000 * (_cpu_s(house.servers()) - before) / max(1.0, closed.rate * seconds)
    others = (_strangers_s(house) - strangers) / seconds / (psutil.cpu_count() or 1)
    sustained = 0.0
    for step in STEPS:
        wanted = closed.rate * step
        found = drive(house, asks, seconds, wanted)
        if not found.errors and found.rate >= LEAST_ANSWERED * wanted and found.p99_ms <= MOST_P99_MS:
            sustained = round(found.rate, 1)
            break
    half = drive(house, asks, seconds, (sustained or closed.rate * STEPS[-1]) / 2)
    return Figures(closed, sustained, half, round(cpu_ms, 3), round(max(0.0, others), 2))


def _cpu_s(processes: Iterable[psutil.Process]) -> float:
    total = 0.0
    for p in processes:
        with suppress(psutil.Error):  # it has just ended
            t = p.cpu_times()
            total += t.user + t.system
    return total


def _strangers_s(house: House) -> float:
    """CPU seconds of what is neither the system nor the load: it takes from both."""
    whole, load = psutil.cpu_times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = sum(whole) - whole.idle - whole.iowait - whole.guest - whole.guest_nice
    return busy - _cpu_s(house.processes()) - load.ru_utime - load.ru_stime


def pss_gb(house: House) -> float:
    """Of the whole process tree: memory that processes share counts once."""
    total = 0
    for p in house.processes():
        try:
            lines = Path(f"/proc/{p.pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return round(total / 1024**2, 2)


def of_retail(data: Path) -> Asks:
    """Every customer of the shipped orders, in no order; the demo key is made by the first start."""
    asyncio.run(shop.open_retail(data))
    names = np.random.default_rng(3).permutation(retail.orders().visitor.unique())
    return [("", _ask(str(v).removeprefix("u:"))) for v in names]


def of_synthetic(data: Path) -> Asks:
    """Every user of every tenant, the tenants in turn."""
    keys = asyncio.run(synthetic.open_shops(data))
    return [(key, _ask(f"u{k}")) for k in range(synthetic.USERS) for key in keys.values()]


def _ask(user: str) -> dict[str, Any]:
    return {"scenario": SCENARIO, "user_id": user, "n": 10}


def run_case(data: Path, asks: Asks, case: str, seconds: float) -> Figures:
    _, replicas, placement = f"{case}/{INLINE}".split("/")[:3]
    house = Variant(data, int(replicas), placement=placement)
    with running(house) as ready_at:
        key = (data / "demo.key").read_text().strip()
        found = measure(house, [(k or key, body) for k, body in asks], seconds)
        time.sleep(max(0.0, ready_at + PSS_AFTER_S - time.monotonic()))
        return replace(found, pss_gb=pss_gb(house))


def run_constant(data: Path, asks: Asks, seconds: float) -> Figures:
    house = Variant(data, 1, "bench.constant:app")
    with running(house):
        return measure(house, asks, seconds)


def table(found: Mapping[str, Figures]) -> None:
    base = found["constant"].sustained or found["constant"].closed.rate
    heads = ("closed/s", "sustained/s", "share", "p50 ms", "p99 ms", "at /s", "CPU ms", "others", "PSS GB", "errors")
    print(f"{'':24}" + "".join(f"{h:>12}" for h in heads))
    for name, f in found.items():
        errors = f.closed.errors + f.half.errors
        cells = (f.closed.rate, f.sustained, f"{f.sustained / base:.1%}", f.half.p50_ms, f.half.p99_ms, f.half.rate,
                 f.cpu_ms, f"{f.others:.0%}", f.pss_gb or "", errors)  # fmt: skip
        print(f"{name:24}" + "".join(f"{c!s:>12}" for c in cells))
    print("limits: " + ", ".join(f"{k} {v}" for k, v in LIMITS.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, help="folder for the two shops, made where absent; a temporary one unless set"
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="of each loop")
    parser.add_argument("--cases", nargs="+", default=CASES, help="shop/replicas of the Gateway, and /graph or /gpu")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lemo-serve-") as folder:
        base, found = args.data or Path(folder), {}
        makers = {"retail": of_retail, "synthetic": of_synthetic}
        asks = {name: makers[name](base / name) for name in makers if any(c.startswith(name) for c in args.cases)}
        found["constant"] = run_constant(base / "constant", [("", _ask("u"))], args.seconds)
        for case in args.cases:
            name = case.partition("/")[0]
            print(case, file=sys.stderr)
            found[case] = run_case(base / name, asks[name], case, args.seconds)
    table(found)
    top = found["constant"].sustained or found["constant"].closed.rate
    shares = {name: round(f.sustained / top, 3) for name, f in found.items()}
    print(json.dumps({"limits": LIMITS, "shares": shares, **{name: asdict(f) for name, f in found.items()}}))


if __name__ == "__main__":
    main()
