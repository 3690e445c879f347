"""A federation of actors: what leaves them, and what becomes of one that is killed and of one that is late."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from traceback import format_exception

import numpy as np
import pytest

from ray_app.clock import FixedClock
from ray_app.stores.base import Document
from ray_app.stores.sqlite import SqliteDocuments
from ray_app.training.federated.average import Update
from ray_app.training.federated.demand import Floats
from ray_app.training.federated.distributed import StoreActor, StoreFailed
from ray_app.training.federated.network import Steps
from ray_app.training.federated.shop import Shop, sold
from tests.ray.test_spread import alone, last_line
from tests.unit.make import DAY_MS, NOW

pytestmark = pytest.mark.timeout(900)
STORES = ("s0", "s1", "s2", "dies", "late")
ROUND_S = 10.0

RUN = """
import sys, time
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
import numpy as np, orjson, ray
from ray_app.training.federated.distributed import Actors
from ray_app.training.federated.rounds import Plan, train
from tests.ray.test_federated import STORES, ROUND_S, shop
folder, left = Path(sys.argv[1]), []
get = ray.get
def seen(refs, **more):
    found = get(refs, **more)
    left.append(found)
    return found
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
ray.get = seen
shops = Actors(STORES, partial(shop, folder))
shops.judge(STORES, None, 300)
began = time.monotonic()
done = train(shops, Plan(rounds=5, min_clients=2, round_s=ROUND_S), lambda line: None)
took = time.monotonic() - began
judged = shops.judge(STORES, done.weights, 60)
def plain(found):
    return {f.name: len(v) if isinstance(v := getattr(found, f.name), np.ndarray) else v for f in fields(found)}
said = [(type(x).__name__, plain(x) if is_dataclass(x) else None) for x in left]
print(orjson.dumps({"answered": [r.answered for r in done.rounds], "took": took, "judged": sorted(judged),
                    "left": said, "finite": bool(np.isfinite(done.weights).all()),
                    "opened": sorted(p.name for p in folder.glob("opened-*"))}).decode())
shops.close()
ray.shutdown()
"""


class Odd(Shop):
    """`dies` ends as by kill -9 in its second round, once; `late` takes longer than a round in its second."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name, self._round = folder, name, 0
        super().__init__(self._read_own)

    async def _read_own(self):  # type: ignore[no-untyped-def]
        (self._folder / f"opened-{self._name}-{os.getpid()}").touch()
        documents = SqliteDocuments(self._folder / "documents.db", FixedClock(NOW))
        try:
            return await sold(documents, "t", self._name, NOW)
        finally:
            await documents.close()

    def update(self, weights: Floats, steps: Steps) -> Update:
        self._round += 1
        mark = self._folder / f"struck-{self._name}"
        if self._round == 2 and not mark.exists():
            mark.touch()
            if self._name == "dies":
                os._exit(9)
            if self._name == "late":
                time.sleep(ROUND_S + 2)  # a straggler, as a slow machine makes it
        return super().update(weights, steps)


def shop(folder: Path, name: str) -> Shop:
    return Odd(folder, name)


def orders(name: str, drawn: np.random.Generator) -> Sequence[Document]:
    return [
        Document(f"{name}-{day}", 1, {
            "store_id": name, "at": NOW - day * DAY_MS - 1, "cancelled": False,
            "lines": [{"dish_id": f"d{d}", "quantity": int(drawn.poisson(2 + d)), "price": 1.0} for d in range(6)],
        })
        for day in range(200)
    ]  # fmt: skip


def test_an_error_leaves_a_store_without_what_it_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words may hold a line of an order, and the driver writes them into its log."""

    class Spoilt(Shop):
        def __init__(self) -> None:
            super().__init__(self._read_own)

        async def _read_own(self):  # type: ignore[no-untyped-def]
            return int("Ann bought 3 teas")

    monkeypatch.setattr(os, "nice", lambda by: 0)
    actor = StoreActor(lambda name: Spoilt(), "s0")
    for ask in (lambda: actor.judge(None), lambda: actor.update(np.zeros(3), Steps(1, 0.1, 0))):
        with pytest.raises(StoreFailed, match="ValueError") as raised:
            ask()
        assert "Ann" not in "".join(format_exception(raised.value))
        assert "Ann" not in repr(pickle.loads(pickle.dumps(raised.value)))


async def test_only_weights_rows_and_losses_leave_and_who_is_lost_is_done_without(tmp_path: Path) -> None:
    drawn, documents = np.random.default_rng(0), SqliteDocuments(tmp_path / "documents.db", FixedClock(NOW))
    for name in STORES:
        await documents.upsert("t", "orders", orders(name, drawn))
    await documents.close()
    found = last_line(alone(RUN, tmp_path))
    answered: list[int] = found["answered"]  # type: ignore[assignment]
    assert answered[0] == 5
    assert answered[1] == 3  # one was killed, one was late
    assert answered[4] >= 3
    assert found["finite"]
    assert found["judged"] == sorted(STORES)  # both are back
    for kind, fields in found["left"]:  # type: ignore[attr-defined]
        wanted = {"Update": ["weights", "rows", "loss"], "Judged": ["rows", "loss"]}[kind]
        assert list(fields) == wanted
        assert all(isinstance(v, (int, float)) for v in fields.values())  # of the weights their number is here
    opened = {str(name).split("-")[1] for name in found["opened"]}  # type: ignore[attr-defined]
    assert opened == set(STORES)
    assert len(found["opened"]) == 6  # each in a process of its own; the killed one read again in a new one
