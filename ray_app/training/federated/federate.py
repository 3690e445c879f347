"""Train a model with all stores of a tenant, judge it in each, and register it with all its rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson

from ray_app.training.federated.demand import FEATURES, Floats
from ray_app.training.federated.network import parts
from ray_app.training.federated.privacy import DELTA, epsilon
from ray_app.training.federated.rounds import Judged, Plan, Shops, TooFew, Trained, body, train
from ray_app.training.federated.shop import names
from ray_app.training.report import Report, Tell
from ray_app.training.stores import Stores

MODEL = "demand_forecast"
Open = Callable[[Sequence[str], int], Shops]  # (store ids, the time up to which they read) -> the stores at work


async def federate(stores: Stores, tenant: str, tell: Tell, opened: Open, plan: Plan, store_id: str = "") -> Report:
    """The version, staged: no answer is made with it, the newest one forecasts. Its figures: `wape`, the mean over the
    stores; `plain_wape`, that of the forecast without a model; `store_wape` of `store_id`, where one is given;
    `epsilon` where there was noise. Refused where no store is known, or too few answer."""
    known, until = await names(stores.documents, tenant), stores.clock.now()
    if store_id and store_id not in known:
        return Report(MODEL, None, why=f"store {store_id!r} is not among the {len(known)} stores of the tenant")
    spent = await asyncio.to_thread(_spent, plan)  # before the work: without the accountant no noise
    shops = opened(known, until)
    try:
        trained = await asyncio.to_thread(train, shops, plan, tell)
        found = await asyncio.to_thread(shops.judge, known, trained.weights, plan.round_s)
        plain = await asyncio.to_thread(shops.judge, known, None, plan.round_s)
    except TooFew as e:
        return Report(MODEL, None, why=e.message)
    figures = {**figures_of(found, plain, trained), **spent}
    if store_id and store_id in found and np.isfinite(found[store_id].loss):
        figures["store_wape"] = found[store_id].loss
    about = {**_about(plan, trained, until), "row_epoch": await stores.registry.epoch(tenant)}
    version = await stores.registry.register(tenant, MODEL, files(trained.weights, about), figures, about)
    return Report(MODEL, version.id, figures, status="staged")


def files(weights: Floats, about: Mapping[str, Any]) -> dict[str, Any]:
    """The artifact: an array of each part, and what they are of."""
    said = {"model": MODEL, "features": list(FEATURES), "until": about["until"]}
    return {**{k: np.array(v) for k, v in parts(weights).items()}, "model.json": orjson.dumps(said)}


def figures_of(found: Mapping[str, Judged], plain: Mapping[str, Judged], trained: Trained) -> dict[str, float]:
    """Over the stores that sold something in the weeks that judge."""
    both = [n for n in found if n in plain and np.isfinite(found[n].loss) and np.isfinite(plain[n].loss)]
    said = {"stores": float(len(both)), "rounds": float(len(trained.rounds))}
    said["rounds_used"] = float(sum(r.used for r in trained.rounds))
    if both:
        said["wape"] = float(np.mean([found[n].loss for n in both]))
        said["plain_wape"] = float(np.mean([plain[n].loss for n in both]))
    return said


def _spent(plan: Plan) -> dict[str, float]:
    p = plan.privacy
    return {"epsilon": epsilon(p.noise_multiplier, plan.fraction, plan.rounds)} if p.noise_multiplier else {}


def _about(plan: Plan, trained: Trained, until: int) -> dict[str, Any]:
    return {
        "until": until, "features": list(FEATURES), "parameters": asdict(plan),
        "rounds": [body(r) for r in trained.rounds],
        **({"delta": DELTA} if plan.privacy.noise_multiplier else {}),
    }  # fmt: skip
