"""A federation without Ray: what a store learns of, what is made of its answers, and what becomes of the result."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from bench.federated import FILE, by_store, central, lines, near, scores
from ray_app.clock import FixedClock
from ray_app.config import Settings
from ray_app.errors import InvalidField, InvalidSettings
from ray_app.registry.registry import Registry
from ray_app.registry.version import Status
from ray_app.stores.base import Document
from ray_app.stores.blobs import Blobs
from ray_app.stores.memory import MemoryDocuments
from ray_app.training.federated import network
from ray_app.training.federated.ask import FederatedAsk
from ray_app.training.federated.average import Privacy, Update, average, clipped
from ray_app.training.federated.demand import (
    FEATURES,
    HELD,
    WEEK_MS,
    Floats,
    Sales,
    judged,
    known,
    learned,
    sales,
)
from ray_app.training.federated.federate import MODEL, federate
from ray_app.training.federated.network import Steps, first, fit, forecast
from ray_app.training.federated.privacy import epsilon
from ray_app.training.federated.rounds import Judged, Plan, TooFew, train
from ray_app.training.federated.shop import Near, Shop, next_week, sold
from tests.unit.make import NOW, TENANT

DAY_MS = 86_400_000


def quiet(line: str) -> None:
    """Rounds tell nobody."""


def store(seed: int, dishes: int = 6, weeks: int = 40) -> Sales:
    """Each dish around a level of its own."""
    drawn = np.random.default_rng(seed)
    level = drawn.uniform(3, 30, dishes)[:, None]
    return Sales(tuple(f"d{k}" for k in range(dishes)), drawn.poisson(level, (dishes, weeks)).astype(float), NOW)


def shops(n: int = 4) -> Near:
    return near({f"s{k}": store(k) for k in range(n)})


def test_weeks_are_counted_back_from_the_end_and_rare_dishes_are_left_out() -> None:
    at = [NOW - 1 - k * WEEK_MS for k in range(20)]
    found = sales(["tea"] * 20 + ["rare"], [*at, NOW - 1], [2.0] * 20 + [9.0], NOW)
    assert found.dishes == ("tea",)
    assert found.sold.tolist() == [[2.0] * 20]
    assert sales(["tea"] * 21, [*at, NOW], [2.0] * 20 + [99.0], NOW).sold.tolist() == [[2.0] * 20]
    assert sales([], [], [], NOW).dishes == ()


def test_what_is_known_before_a_week_holds_nothing_of_it_or_later() -> None:
    of = store(1)
    later = replace(of, sold=np.concatenate([of.sold[:, :20], np.full((6, 20), 1e6)], axis=1))
    assert np.array_equal(known(of, 20), known(later, 20))
    assert known(of, 20).shape == (6, len(FEATURES))
    assert np.isfinite(known(of, 40)).all()


def test_what_judges_is_never_learned_of() -> None:
    of = store(1)
    spoilt = replace(of, sold=np.concatenate([of.sold[:, :-HELD], np.full((6, HELD), 1e6)], axis=1))
    assert np.array_equal(learned(of).known, learned(spoilt).known)
    assert len(judged(of)) == 6 * HELD


def test_the_gradient_is_that_of_the_loss() -> None:
    rows, weights = learned(store(2)), first(0) + 0.01
    target = np.log1p(rows.sold)
    _, found = network._gradient(weights, rows.known, target)
    for k in (0, 7, network.SIZE - 30, network.SIZE - 1):
        step = np.zeros_like(weights)
        step[k] = 1e-6
        above, _ = network._gradient(weights + step, rows.known, target)
        below, _ = network._gradient(weights - step, rows.known, target)
        assert (above - below) / 2e-6 == pytest.approx(found[k], rel=1e-3, abs=1e-6)


def test_a_fit_beats_its_beginning_and_is_the_same_again() -> None:
    rows, begin = learned(store(3)), np.zeros(network.SIZE)
    one, loss = fit(begin, rows, Steps(5, 0.02, 1))
    assert loss < 0.3 * fit(begin, rows, Steps(1, 1e-9, 1))[1]
    assert np.array_equal(one, fit(begin, rows, Steps(5, 0.02, 1))[0])


def test_steps_are_weighted_by_rows() -> None:
    a, b = Update(np.array([1.0, 0.0]), 30, 0.0), Update(np.array([0.0, 1.0]), 10, 0.0)
    found = average(np.zeros(2), [a, b], Privacy(), 2, np.random.default_rng(0))
    assert found.tolist() == [0.75, 0.25]


def test_a_long_step_is_clipped_and_a_short_one_is_not() -> None:
    assert np.linalg.norm(clipped(np.array([30.0, 40.0]), 5.0)) == pytest.approx(5.0)
    assert clipped(np.array([0.3, 0.4]), 5.0).tolist() == [0.3, 0.4]
    assert clipped(np.array([30.0, 40.0]), 0.0).tolist() == [30.0, 40.0]


def test_noise_has_the_size_that_the_accountant_is_told() -> None:
    """One store more or less moves the sum by clip_norm at most, whatever rows it has."""
    privacy, zero, n = Privacy(2.0, 1.5), np.zeros(20_000), 10
    found = average(zero, [], privacy, n, np.random.default_rng(0))
    assert found.std() == pytest.approx(1.5 * 2.0 / n, rel=0.02)
    huge = Update(np.full(20_000, 1e9), 10**9, 0.0)
    moved = average(zero, [huge], privacy, n, np.random.default_rng(0)) - found
    assert np.linalg.norm(moved) == pytest.approx(2.0 / n)


@pytest.mark.long  # Opacus takes seconds to import
def test_the_budget_is_that_of_opacus_and_shrinks_with_noise_and_sampling() -> None:
    assert epsilon(1.0, 1.0, 1) == pytest.approx(5.0, abs=0.7)  # the Gaussian mechanism once, at delta 1e-5
    assert epsilon(4.0, 1.0, 30) < epsilon(1.0, 1.0, 30)
    assert epsilon(1.0, 0.1, 30) < epsilon(1.0, 1.0, 30)


def test_noise_without_the_accountant_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(InvalidSettings, match=r"pip install 'lemo\[privacy\]'"):
        epsilon(1.0, 1.0, 1)


def test_noise_without_a_norm_is_refused() -> None:
    with pytest.raises(InvalidField, match="clip_norm"):
        train(shops(), Plan(privacy=Privacy(0.0, 1.0)), quiet)
    with pytest.raises(ValueError, match="clip_norm"):
        FederatedAsk(noise_multiplier=1.0)


def test_a_seed_does_not_tell_the_noise() -> None:
    """The seed stands in the version: whoever knows it could draw the noise again, and take it off the weights."""
    noisy, plain = Plan(rounds=2, privacy=Privacy(1.0, 1.0)), Plan(rounds=2, privacy=Privacy(1.0))
    assert not np.array_equal(train(shops(), noisy, quiet).weights, train(shops(), noisy, quiet).weights)
    assert np.array_equal(train(shops(), plain, quiet).weights, train(shops(), plain, quiet).weights)


def test_a_seed_does_not_tell_who_takes_part_where_the_budget_counts_on_it() -> None:
    asked = []
    for _ in range(2):
        some = Flaky(shops(10), {})
        train(some, Plan(rounds=20, fraction=0.5, min_clients=1, privacy=Privacy(1.0, 1.0)), quiet)
        asked.append(some.asked)
    assert asked[0] != asked[1]


class Flaky(Near):
    """Answers of a round only from `there[round]`, or all; what was asked is kept."""

    def __init__(self, of: Near, there: Mapping[int, Sequence[str]]) -> None:
        super().__init__(of._shops)
        self._there, self.asked = there, list[list[str]]()

    def update(self, who: Sequence[str], weights: Floats, steps: Steps, wait_s: float) -> Mapping[str, Update]:
        self.asked.append(list(who))
        return super().update([w for w in who if w in self._there.get(len(self.asked), who)], weights, steps, wait_s)


def test_stores_that_are_lost_are_done_without() -> None:
    lost = Flaky(shops(), {2: ["s0", "s1", "s2"], 3: ["s1"]})
    found = train(lost, Plan(rounds=4, min_clients=2), quiet)
    assert [(r.answered, r.used) for r in found.rounds] == [(4, True), (3, True), (1, False), (4, True)]
    assert all(len(who) == 4 for who in lost.asked)  # it is asked again in the next round


def test_a_round_with_too_few_answers_changes_nothing() -> None:
    with pytest.raises(TooFew, match="in none of 2 rounds did 2 stores answer"):
        train(Flaky(shops(), {1: ["s0"], 2: []}), Plan(rounds=2), quiet)
    with pytest.raises(TooFew, match="1 stores are known"):
        train(shops(1), Plan(), quiet)


def test_a_share_of_the_stores_is_asked_but_never_fewer_than_needed() -> None:
    some = Flaky(shops(10), {})
    train(some, Plan(rounds=30, fraction=0.3, min_clients=2), quiet)
    assert 2 <= np.mean([len(who) for who in some.asked]) <= 4
    assert len({tuple(who) for who in some.asked}) > 5
    assert min(len(who) for who in some.asked) >= 2


def test_numbers_that_ran_away_are_left_out() -> None:
    class Wild(Near):
        def update(self, who: Sequence[str], weights: Floats, steps: Steps, wait_s: float) -> Mapping[str, Update]:
            found = dict(super().update(who, weights, steps, wait_s))
            return {**found, "s0": replace(found["s0"], weights=np.full_like(weights, np.inf))}

    found = train(Wild(shops()._shops), Plan(rounds=2), quiet)
    assert [r.answered for r in found.rounds] == [3, 3]
    assert np.isfinite(found.weights).all()


def test_only_weights_rows_and_losses_have_a_place_in_an_answer() -> None:
    assert [f.name for f in fields(Update)] == ["weights", "rows", "loss"]
    assert [f.name for f in fields(Judged)] == ["rows", "loss"]


def test_a_store_with_too_little_says_so_by_no_rows() -> None:
    few = near({"s": store(0, dishes=2)})
    (answer,) = few.update(["s"], first(0), Steps(1, 0.1, 0), 1.0).values()
    assert answer.rows == 0
    assert np.array_equal(answer.weights, first(0))


class House:
    """What federate works on."""

    def __init__(self, documents: MemoryDocuments, clock: FixedClock, folder: Path) -> None:
        self.documents, self.clock, self.settings = documents, clock, Settings(data=folder)
        self.blobs = Blobs(folder / "blobs")
        self.registry = Registry(documents, self.blobs, clock)


@pytest.fixture
async def house(documents: MemoryDocuments, clock: FixedClock, tmp_path: Path) -> House:
    """Four stores with a year of daily orders, as neural events leave them; one more is another tenant's."""
    drawn = np.random.default_rng(0)
    for k, tenant in enumerate([*[TENANT] * 4, "other"]):
        body = {"id": f"s{k}", "tenant": tenant}
        await documents.upsert("system", "stores", [Document(f"s{k}", 1, body)])
        orders = [
            Document(f"s{k}-{day}", 1, {
                "store_id": f"s{k}", "order_id": str(day), "at": clock.now() - day * DAY_MS - 1,
                "cancelled": day % 10 == 9,
                "lines": [{"dish_id": f"d{d}", "quantity": int(drawn.poisson(2 + d)), "price": 1.0} for d in range(6)],
            })
            for day in range(280)
        ]  # fmt: skip
        await documents.upsert(tenant, "orders", orders)
    return House(documents, clock, tmp_path)


def opened(house: House, tenant: str = TENANT):  # type: ignore[no-untyped-def]
    def make(names: Sequence[str], until: int) -> Near:
        def shop(name: str) -> Shop:
            return Shop(lambda: sold(house.documents, tenant, name, until))

        return Near({name: shop(name) for name in names})

    return make


async def test_a_store_reads_its_own_orders_without_the_cancelled_ones(house: House) -> None:
    found = await sold(house.documents, TENANT, "s1", house.clock.now())
    whole = [o.body for o in await house.documents.find(TENANT, "orders", limit=10_000) if o.body["store_id"] == "s1"]
    wanted = sum(x["quantity"] for o in whole if not o["cancelled"] for x in o["lines"])
    assert found.sold.sum() == wanted
    assert found.dishes == tuple(f"d{k}" for k in range(6))
    assert (await sold(house.documents, TENANT, "s4", house.clock.now())).dishes == ()  # another tenant's


@pytest.mark.long  # Opacus takes seconds to import
async def test_the_result_is_a_version_with_all_its_rounds(house: House) -> None:
    ask = FederatedAsk(rounds=5, store_id="s1", clip_norm=1.0, noise_multiplier=0.5)
    report = await federate(house, TENANT, quiet, opened(house), ask.plan(), ask.store_id)  # type: ignore[arg-type]
    assert report.version is not None
    version = await house.registry.get(TENANT, MODEL, report.version)
    assert version.status is Status.STAGED
    assert [r["answered"] for r in version.about["rounds"]] == [4] * 5
    assert version.metrics["epsilon"] == pytest.approx(epsilon(0.5, 1.0, 5))
    assert version.about["delta"] == 1e-5
    assert 0 < version.metrics["store_wape"] < np.inf  # how much the noise spoils is not the seed's
    assert version.metrics["stores"] == 4.0
    assert set(version.files) == {*(f"{n}.npy" for n in network.SHAPES), "model.json"}
    arrays = await house.registry.load(TENANT, version)
    assert orjson.loads(arrays["model.json"].read_bytes())["features"] == list(FEATURES)
    of = await sold(house.documents, TENANT, "s1", house.clock.now())
    said = next_week(of, network.whole(arrays))
    assert set(said) == {f"d{k}" for k in range(6)}
    assert all(np.isfinite(v) and v >= 0 for v in said.values())


async def test_it_is_refused_where_nobody_is_or_the_store_is_another_s(house: House) -> None:
    plan = Plan(rounds=2)
    none = await federate(house, "nobody", quiet, opened(house), plan)  # type: ignore[arg-type]
    assert none.version is None
    assert "0 stores are known" in none.why
    foreign = await federate(house, TENANT, quiet, opened(house), plan, "s4")  # type: ignore[arg-type]
    assert foreign.version is None
    assert "'s4' is not among the 4 stores" in foreign.why


@pytest.mark.long
@pytest.mark.timeout(900)  # a minute on a quiet machine
@pytest.mark.skipif(not FILE.exists(), reason="shared/data is not here")
def test_on_real_orders_it_is_near_the_central_model_and_above_each_store_alone() -> None:
    """Countries as stores, the last four weeks judge, all of 100 rounds: docs/benchmarks.md has stores alone that stop
    earlier. A store that is lost in round 3 costs little."""
    stores = by_store(lines())
    plan, one = Plan(seed=0), Plan(seed=0, min_clients=1)
    shared = train(near(stores), plan, quiet).weights
    own = {name: train(near({name: of}), one, quiet).weights for name, of in stores.items()}
    together = central(stores, plan)
    lost = Flaky(near(stores), {k: [n for n in stores if n != "Germany"] for k in range(3, 101)})
    without = train(lost, plan, quiet).weights

    def of(weights: Floats) -> tuple[float, float]:
        return scores(stores, lambda _, rows: forecast(weights, rows))

    alone = scores(stores, lambda name, rows: forecast(own[name], rows))
    assert of(shared)[0] <= 1.05 * of(together)[0]
    assert of(shared)[1] <= 1.05 * of(together)[1]
    assert of(shared)[1] < alone[1]
    assert of(without)[1] <= 1.05 * of(together)[1]
