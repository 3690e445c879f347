"""Fit the multi-task ranker by torch: arrays in, arrays out, so that it runs here, or in a worker of Ray Train.

Loss of a click: cross entropy of each candidate, and of the softmax over each request's candidates, which keeps the
order good while the probabilities stay probabilities (Sheng et al., "Joint optimization of ranking and calibration",
2022). Conversion: cross entropy of click times conversion over everything shown; watch time: Poisson.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ray_app.models.calibration import PLAIN
from ray_app.models.multitask import MOST_LOG_WATCH, item_buckets, visitor_bucket
from ray_app.training.groups import Groups, unpacked
from ray_app.types import DAY_S

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, NDArray[Any]]
LEAST_SPREAD, LEAST_POSITIVES = 1e-3, 20
TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Design:
    """`hidden` () with `size` 0 is a logistic model. `size`: of the embeddings, 0: none. `unknown`: the share of items
    and visitors that a step does not know, so that it learns of strangers. `listwise`: weight of that part."""

    hidden: tuple[int, ...] = (32,)
    size: int = 8
    attention: bool = True
    item_buckets: int = 1 << 14
    user_buckets: int = 1 << 12
    epochs: int = 6
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    dropout: float = 0.1
    unknown: float = 0.2
    listwise: float = 1.0
    seed: int = 7


def fit(
    data: Groups,
    held: Groups | None = None,
    how: Design = Design(),
    epoch: Callable[[State], None] | None = None,
    resume: State | None = None,
) -> dict[str, NDArray[Any]]:
    """The arrays of models.multitask.MultiTask, of the epoch with the least loss on `held` (of the last without it).

    `epoch` is told the whole state after each; `resume` goes on from one of them, to the bit as if nothing had
    happened. Raises ValueError when nothing was clicked, or everything.
    """
    import torch

    clicked = data.clicked()
    if not len(clicked) or clicked.min() == clicked.max():
        raise ValueError(f"of {len(clicked)} candidates none was taken, or all: there is nothing to learn from")
    torch.set_num_threads(1)
    fixed = _fixed(data, how)
    parameters = _parameters(fixed, how)
    optimizer = _optimizer(parameters, how)
    best: dict[str, Any] = {"loss": np.array(np.inf)}
    first = 0
    if resume is not None:
        first = _restore(resume, parameters, optimizer, best)
    inputs, seen = _inputs(data, fixed), None if held is None or not len(held) else _inputs(held, fixed)
    for number in range(first, how.epochs):
        _pass(parameters, optimizer, inputs, how, number)
        loss = _loss_of(parameters, seen, how) if seen else -float(number)
        if loss < float(best["loss"]):
            best = {"loss": np.array(loss), **{k: p.detach().numpy().copy() for k, p in parameters.items()}}
        if epoch is not None:
            epoch(_state(number + 1, parameters, optimizer, best))
    return {**_kept(fixed), **{k: v for k, v in best.items() if k != "loss"}}


def fit_packed(given: State, epoch: Callable[[State], None], resume: State | None, how: Design) -> State:
    """As `fit`, of what `groups.packed` made: for a worker elsewhere."""
    data, held = unpacked(given)
    return fit(data, held, how, epoch, resume)


def _fixed(data: Groups, how: Design) -> dict[str, NDArray[Any]]:
    """What is counted rather than learned."""
    flat, labels = data.features[data.there], data.labels[data.there]
    centre = np.nan_to_num(np.nanmean(flat, axis=0)).astype(np.float32)
    spread = np.nan_to_num(np.nanstd(flat, axis=0)).astype(np.float32)
    spread[spread < LEAST_SPREAD] = np.inf  # what never varied says nothing, also where it will vary
    watched = labels[:, 2][labels[:, 2] > 0]
    learned = [1, (labels[:, 1] > 0).sum() >= LEAST_POSITIVES, len(watched) >= LEAST_POSITIVES]
    found = {
        "centre": centre, "spread": spread, "gaps": np.flatnonzero(np.isnan(flat).any(axis=0)).astype(np.int32),
        "learned": np.array(learned, np.uint8), "calibration": PLAIN, "convert_calibration": PLAIN,
        "watch_unit": np.array(watched.mean() if len(watched) else 1.0, np.float32),
        "rate": np.array(labels[:, 0].mean(), np.float32),
    }  # fmt: skip
    if how.size:
        recent = data.recent >= 0
        item_known, user_known = np.zeros(how.item_buckets, np.uint8), np.zeros(how.user_buckets, np.uint8)
        item_known[item_buckets(data.rows[data.there], how.item_buckets)] = 1
        item_known[item_buckets(data.recent[recent], how.item_buckets)] = 1
        user_known[[visitor_bucket(n, how.user_buckets) for n in np.unique(data.names)]] = 1
        weights = data.weights[recent]
        spread_of = float(weights.std()) if len(weights) else 0.0
        mean = float(weights.mean()) if len(weights) else 0.0
        found |= {"item_known": item_known, "user_known": user_known,
                  "taste": np.array([mean, spread_of if spread_of > LEAST_SPREAD else 1.0], np.float32)}  # fmt: skip
    return found


def _kept(fixed: State) -> dict[str, NDArray[Any]]:
    return {k: v for k, v in fixed.items() if k != "rate"}


def _parameters(fixed: State, how: Design) -> dict[str, Tensor]:
    import torch

    made = torch.Generator().manual_seed(how.seed)
    wide, size = len(fixed["centre"]) + len(fixed["gaps"]), how.size
    found: dict[str, Tensor] = {}
    if size:
        found["items"] = torch.randn(how.item_buckets, size, generator=made) * 0.3
        found["users"] = torch.randn(how.user_buckets, size, generator=made) * 0.05
    if size and how.attention:
        found |= {"query": torch.eye(size) * 2.0, "key": torch.eye(size) * 2.0,
                  "fade": torch.tensor(0.1), "nothing": torch.tensor(0.0)}  # fmt: skip
    width = wide + (0 if not size else 5 * size + 2 if how.attention else 3 * size)
    for k, hidden in enumerate(how.hidden):
        found[f"weight{k}"] = torch.randn(width, hidden, generator=made) * (2.0 / width) ** 0.5
        found[f"bias{k}"] = torch.zeros(hidden)
        width = hidden
    width = width + wide if how.hidden else width
    found["head"] = torch.randn(width, 3, generator=made) * 0.01
    rate = float(np.clip(fixed["rate"], 1e-4, 1 - 1e-4))
    found["head_bias"] = torch.tensor([float(np.log(rate / (1 - rate))), 0.0, float(np.log(rate))])
    return {k: v.requires_grad_() for k, v in found.items()}


def _inputs(data: Groups, fixed: State) -> dict[str, Tensor]:
    import torch

    known = (data.features - fixed["centre"]) / fixed["spread"]
    gaps = np.isnan(data.features[..., fixed["gaps"]])
    wide = np.concatenate([np.nan_to_num(known, copy=False), gaps], axis=2, dtype=np.float32)
    found: dict[str, Any] = {"wide": wide, "there": data.there, "labels": data.labels.copy()}
    found["labels"][..., 2] /= fixed["watch_unit"]
    found["learned"] = np.broadcast_to(fixed["learned"].astype(np.float32), (len(data), 3)).copy()
    if "item_known" in fixed:
        found["item"] = _known(item_buckets(data.rows, len(fixed["item_known"])), fixed["item_known"])
        users = np.array([visitor_bucket(n, len(fixed["user_known"])) for n in data.names.tolist()], np.int64)
        found["user"] = _known(users, fixed["user_known"])
        recent = item_buckets(np.maximum(data.recent, 0), len(fixed["item_known"]))
        found["recent"] = _known(recent, fixed["item_known"])
        found["is_recent"] = data.recent >= 0
        found["taste"] = ((data.weights - fixed["taste"][0]) / fixed["taste"][1]).astype(np.float32)
        found["age"] = np.log1p(np.maximum(data.ages_s, 0.0) / DAY_S).astype(np.float32)
    return {k: torch.from_numpy(v) for k, v in found.items()}


def _known(buckets: NDArray[np.int64], known: NDArray[Any]) -> NDArray[np.int64]:
    return np.where(known[buckets] > 0, buckets, 0)


def _forward(p: Mapping[str, Tensor], b: Mapping[str, Tensor], how: Design, learning: bool) -> Tensor:
    """[g, m, 3]: as models.multitask does it, for many requests."""
    import torch

    wide, x = b["wide"], b["wide"]
    if "items" in p:
        item = p["items"][_forget(b["item"], how, learning)]
        user = p["users"][_forget(b["user"], how, learning)][:, None, :].expand_as(item)
        parts = [wide, item, user, user * item]
        if "query" in p:
            recent = p["items"][_forget(b["recent"], how, learning)]
            kin = (item @ p["query"]) @ (recent @ p["key"]).transpose(1, 2) / item.shape[2] ** 0.5
            kin = torch.exp(torch.clamp(kin - (p["fade"] * b["age"])[:, None, :], -30.0, 30.0))
            kin = kin * b["is_recent"][:, None, :]
            share = kin / (kin.sum(dim=2, keepdim=True) + torch.exp(torch.clamp(p["nothing"], -30.0, 30.0)))
            pooled = share @ recent
            parts += [pooled, pooled * item, share @ b["taste"][:, :, None], share.sum(dim=2, keepdim=True)]
        x = torch.cat(parts, dim=2)
    for k in range(len(how.hidden)):
        x = torch.relu(x @ p[f"weight{k}"] + p[f"bias{k}"])
        x = torch.nn.functional.dropout(x, how.dropout, learning)
    x = torch.cat([x, wide], dim=2) if how.hidden else x
    return x @ p["head"] + p["head_bias"]


def _forget(buckets: Tensor, how: Design, learning: bool) -> Tensor:
    import torch

    return buckets * (torch.rand(buckets.shape) >= how.unknown) if learning and how.unknown else buckets


def _loss(raw: Tensor, b: Mapping[str, Tensor], how: Design) -> Tensor:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

    there, labels = b["there"], b["labels"]
    flat, wanted = raw[there], labels[there]
    loss = binary_cross_entropy_with_logits(flat[:, 0], wanted[:, 0])
    some = wanted.new_zeros(()) if raw.shape[1] < 2 or not how.listwise else labels[..., 0].sum(dim=1)
    if some.ndim and bool((some > 0).any()):
        order = torch.log_softmax(raw[..., 0].masked_fill(~there, -1e9), dim=1)
        each = -(order * labels[..., 0]).sum(dim=1)[some > 0] / some[some > 0]
        loss = loss + how.listwise * each.mean()
    if bool(b["learned"][0, 1]):
        both = torch.clamp(logsigmoid(flat[:, 0]) + logsigmoid(flat[:, 1]), max=-TINY)
        loss = loss - (wanted[:, 1] * both + (1 - wanted[:, 1]) * torch.log(-torch.expm1(both))).mean()
    if bool(b["learned"][0, 2]):
        rate = torch.clamp(flat[:, 2], max=MOST_LOG_WATCH)
        loss = loss + (torch.exp(rate) - wanted[:, 2] * rate).mean()
    return loss


def _pass(p: Mapping[str, Tensor], optimizer: Any, inputs: Mapping[str, Tensor], how: Design, number: int) -> None:
    """One epoch; its order and what it forgets follow from the seed and the epoch's number alone."""
    import torch

    torch.manual_seed(how.seed * 1000 + number)
    for part in torch.split(torch.randperm(len(inputs["wide"])), how.batch):
        batch = {k: v[part] for k, v in inputs.items()}
        loss = _loss(_forward(p, batch, how, True), batch, how)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _loss_of(p: Mapping[str, Tensor], inputs: Mapping[str, Tensor], how: Design) -> float:
    import torch

    total, n = 0.0, len(inputs["wide"])
    with torch.no_grad():
        for part in torch.split(torch.arange(n), 1024):
            batch = {k: v[part] for k, v in inputs.items()}
            total += float(_loss(_forward(p, batch, how, False), batch, how)) * len(part)
    return total / n


def _optimizer(p: Mapping[str, Tensor], how: Design) -> Any:
    import torch

    return torch.optim.AdamW(list(p.values()), how.learning_rate, weight_decay=how.weight_decay)


def _state(done: int, p: Mapping[str, Tensor], optimizer: Any, best: State) -> dict[str, NDArray[Any]]:
    found = {"epoch": np.array(done), **{f"best.{k}": np.asarray(v) for k, v in best.items()}}
    for name, one in p.items():
        found[f"now.{name}"] = one.detach().numpy().copy()
        for part, value in optimizer.state[one].items():
            found[f"{part}.{name}"] = value.numpy().copy()
    return found


def _restore(state: State, p: Mapping[str, Tensor], optimizer: Any, best: dict[str, Any]) -> int:
    import torch

    with torch.no_grad():
        for name, one in p.items():
            one.copy_(torch.from_numpy(np.array(state[f"now.{name}"])))
            parts = ("step", "exp_avg", "exp_avg_sq")
            optimizer.state[one] = {k: torch.from_numpy(np.array(state[f"{k}.{name}"])) for k in parts}
    best.update({k.removeprefix("best."): v for k, v in state.items() if k.startswith("best.")})
    return int(state["epoch"])


def predict(arrays: State, data: Groups, how: Design) -> NDArray[Any]:
    """float32 [places]: logits of a click of every real place, for many requests at once; models.multitask's own."""
    import torch

    p = {k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}
    inputs, found = _inputs(data, arrays), []
    with torch.no_grad():
        for part in torch.split(torch.arange(len(data)), 1024):
            found.append(_forward(p, {k: v[part] for k, v in inputs.items()}, how, False)[..., 0].numpy())
    return np.concatenate(found)[data.there]
