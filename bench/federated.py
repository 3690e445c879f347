"""Demand by store and dish learned together, centrally, by each store alone, with noise, and with a store that is lost:
the shipped order lines by country as stores, WAPE over the last four weeks, each forecast from the weeks before it."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ray_app.training.federated.average import Privacy, Update
from ray_app.training.federated.demand import HELD, WEEK_MS, Floats, Rows, Sales, judged, learned, plain, sales, wape
from ray_app.training.federated.network import Steps, first, fit, forecast
from ray_app.training.federated.privacy import DELTA, epsilon
from ray_app.training.federated.rounds import Plan, train
from ray_app.training.federated.shop import Near, Shop

FILE = Path(__file__).parents[2] / "shared" / "data" / "online-retail" / "online_retail.csv.gz"
SEEDS = (0, 1, 2)
ROUNDS = (10, 30, 100)
Found = Mapping[str, Floats]  # forecasts of the weeks that judge, by store
Score = tuple[float, float]  # WAPE over everything that was sold, and its mean over the stores
Line = tuple[str, str, str, int, float]  # order, country, dish, ms, quantity


def lines(file: Path = FILE) -> list[Line]:
    """What was sold; cancelled invoices begin with C."""
    found = list[Line]()
    with gzip.open(file, "rt") as text:
        for row in csv.DictReader(text):
            if row["InvoiceNo"][0] != "C" and int(row["Quantity"]) > 0 and float(row["UnitPrice"]) > 0:
                at = int(np.datetime64(row["InvoiceDate"], "ms").astype(np.int64))
                found.append((row["InvoiceNo"], row["Country"], row["StockCode"], at, float(row["Quantity"])))
    return found


def by_store(found: Sequence[Line]) -> dict[str, Sales]:
    """Stores that have enough to learn of."""
    until = max(line[3] for line in found) + 1
    stores: dict[str, list[Line]] = {}
    for line in found:
        stores.setdefault(line[1], []).append(line)
    made = {
        name: sales([x[2] for x in of], [x[3] for x in of], [x[4] for x in of], until) for name, of in stores.items()
    }
    return {name: of for name, of in sorted(made.items()) if len(learned(of))}


def near(stores: Mapping[str, Sales]) -> Near:
    def shop(of: Sales) -> Shop:
        async def read() -> Sales:
            return of

        return Shop(read)

    return Near({name: shop(of) for name, of in stores.items()})


class Losing(Near):
    """One store answers no more, from round 3 on."""

    def __init__(self, shops: Near, lost: str) -> None:
        super().__init__(shops._shops)
        self._lost, self._round = lost, 0

    def update(self, who: Sequence[str], weights: Floats, steps: Steps, wait_s: float) -> Mapping[str, Update]:
        self._round += 1
        return super().update([w for w in who if self._round < 3 or w != self._lost], weights, steps, wait_s)


def central(stores: Mapping[str, Sales], plan: Plan) -> Floats:
    """All rows in one place, walked over as often as in the federation."""
    each = [learned(of) for of in stores.values()]
    rows = Rows(np.concatenate([r.known for r in each]), np.concatenate([r.sold for r in each]))
    weights = first(plan.seed)
    for number in range(1, plan.rounds + 1):
        weights, _ = fit(weights, rows, plan.steps(number))
    return weights


def scores(stores: Mapping[str, Sales], found: Callable[[str, Floats], Floats]) -> Score:
    """`found`: the forecast of a store's rows."""
    rows = {name: judged(of) for name, of in stores.items()}
    said = {name: found(name, of.known) for name, of in rows.items()}
    whole = wape(np.concatenate(list(said.values())), np.concatenate([of.sold for of in rows.values()]))
    return whole, float(np.mean([wape(said[name], of.sold) for name, of in rows.items()]))


def quiet(line: str) -> None:
    """Rounds tell nobody."""


def alone(stores: Mapping[str, Sales], rounds: int, seed: int) -> Score:
    """A federation of one store each."""
    plan = Plan(rounds=rounds, seed=seed, min_clients=1)
    own = {name: train(near({name: of}), plan, quiet).weights for name, of in stores.items()}
    return scores(stores, lambda name, known: forecast(own[name], known))


def figures(stores: Mapping[str, Sales], seed: int, lost: str = "Germany") -> dict[str, Score]:
    """By name. `alone, 30 rounds`: before it learns its few rows by heart. Noise is drawn anew in every run."""
    plan, noisy = Plan(seed=seed), Plan(seed=seed, privacy=Privacy(1.0, 0.3))
    shops = near(stores)

    shared = {
        "central": central(stores, plan), "federated": train(shops, plan, quiet).weights,
        f"{lost} lost in round 3": train(Losing(shops, lost), plan, quiet).weights,
        "with noise 0.3": train(shops, noisy, quiet).weights,
    }  # fmt: skip
    found = {name: scores(stores, lambda _, known, w=w: forecast(w, known)) for name, w in shared.items()}
    found |= {f"alone, {n} rounds": alone(stores, n, seed) for n in (plan.rounds, 30)}
    found["without a model"] = scores(stores, lambda _, known: plain(known))
    return found


def walked(stores: Mapping[str, Sales], model: str, rounds: int, seed: int) -> Score:
    """Of `model` after so many rounds."""
    shops, plan = near(stores), Plan(rounds=rounds, seed=seed)
    if model == "alone":
        return alone(stores, rounds, seed)
    weights = central(stores, plan) if model == "central" else train(shops, plan, quiet).weights
    return scores(stores, lambda _, known: forecast(weights, known))


def chosen(stores: Mapping[str, Sales]) -> dict[str, int]:
    """By model: after how many rounds it is best in the weeks that judge in `stores`, which are not those that judge in
    the end; by the mean of the stores, over all seeds."""
    best = {}
    for model in ("central", "federated", "alone"):
        mean = {n: float(np.mean([walked(stores, model, n, seed)[1] for seed in SEEDS])) for n in ROUNDS}
        print(f"{model}: " + ", ".join(f"{n} rounds {wape:.4f}" for n, wape in mean.items()), flush=True)
        best[model] = min(mean, key=lambda n: mean[n])
    return best


def before(found: Sequence[Line], weeks_ago: int) -> dict[str, Sales]:
    until = max(line[3] for line in found) + 1 - weeks_ago * WEEK_MS
    stores = by_store([line for line in found if line[3] < until])
    print(f"{weeks_ago} weeks ago, dishes by store: " + ", ".join(f"{n} {len(of.dishes)}" for n, of in stores.items()))
    return stores


def main() -> None:
    found = lines()
    last, earlier = before(found, 0), before(found, HELD)
    best = chosen(earlier)
    print("chosen in the four weeks before, judged in the last four:")
    tell([{f"{m}, {n} rounds": walked(last, m, n, seed) for m, n in best.items()} for seed in SEEDS])
    for stores in (last, earlier):
        print("of as many rounds, and with noise or a store that is lost:")
        tell([figures(stores, seed) for seed in SEEDS])
    for noise in (0.3, 1.0, 2.0):
        print(f"noise {noise}: epsilon {epsilon(noise, 1.0, Plan().rounds):.1f} at delta {DELTA:g}")


def tell(found: Sequence[Mapping[str, Score]]) -> None:
    """WAPE over everything, and its mean over the stores: the mean of the seeds, and each seed's."""
    for name in found[0]:
        whole, mean = ([f[name][k] for f in found] for k in (0, 1))
        print(f"{name:26}{np.mean(whole):8.4f}{np.mean(mean):8.4f}   by seed " + " ".join(f"{m:.4f}" for m in mean))


if __name__ == "__main__":
    main()
