"""Fit the listwise ranker: a small network by torch, with a listwise softmax over each visitor's candidates.

Loss: cross entropy between the softmax of the scores and the taken items (ListNet, Cao et al., 2007).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ray_app.models.listwise import Layer, Listwise
from ray_app.training.past import Example
from ray_app.types import Matrix, Scores

LEAST_SPREAD = 1e-3


@dataclass(frozen=True, slots=True)
class Network:
    """`hidden` () is a logistic model."""

    hidden: tuple[int, ...] = (16,)
    epochs: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    batch: int = 64
    seed: int = 7


def fit(
    found: Sequence[Example], version: str, how: Network = Network(), tell: Callable[[str], None] = lambda line: None
) -> Listwise:
    """Raises ValueError when no example has a taken candidate: there is nothing to learn from."""
    useful = [e for e in found if e.taken.any()]
    if not useful:
        raise ValueError(f"none of {len(found)} visitors took any of their candidates")
    features, taken, there = _padded(useful)
    flat = features[there]
    centre, spread = np.nan_to_num(np.nanmean(flat, axis=0)), np.nan_to_num(np.nanstd(flat, axis=0))
    spread[spread < LEAST_SPREAD] = np.inf  # what never varied says nothing, also where it will vary
    layers = _learn(np.nan_to_num((features - centre) / spread), taken, there, how, tell)
    return Listwise(version, centre.astype(np.float32), spread.astype(np.float32), layers)


def _padded(found: Sequence[Example]) -> tuple[NDArray[np.float32], Matrix, NDArray[np.bool_]]:
    """features [users, most, features], taken [users, most], and which places are real."""
    most = max(len(e.taken) for e in found)
    features = np.zeros((len(found), most, found[0].features.shape[1]), np.float32)
    taken, there = np.zeros((len(found), most), np.float32), np.zeros((len(found), most), np.bool_)
    for k, e in enumerate(found):
        m = len(e.taken)
        features[k, :m], taken[k, :m], there[k, :m] = e.features, e.taken, True
    return features, taken, there


def _learn(
    features: NDArray[np.float32], taken: Matrix, there: NDArray[np.bool_], how: Network, tell: Callable[[str], None]
) -> list[Layer]:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(how.seed)
    sizes = (features.shape[2], *how.hidden, 1)
    linear = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
    parts = [p for one in linear for p in (one, torch.nn.ReLU())][:-1]
    network = torch.nn.Sequential(*parts)
    optimizer = torch.optim.AdamW(network.parameters(), how.learning_rate, weight_decay=how.weight_decay)
    x, y, real = torch.from_numpy(features), torch.from_numpy(taken), torch.from_numpy(there)
    for epoch in range(how.epochs):
        total = 0.0
        for part in torch.split(torch.randperm(len(x)), how.batch):
            scores = network(x[part]).squeeze(-1).masked_fill(~real[part], -1e9)
            wanted = y[part] / y[part].sum(dim=1, keepdim=True)
            loss = -(torch.log_softmax(scores, dim=1) * wanted).sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(part)
        tell(f"epoch {epoch + 1}/{how.epochs}: loss {total / len(x):.4f}")
    return [(_array(one.weight.T), _array(one.bias)) for one in linear]


def _array(tensor: object) -> Scores:
    return np.ascontiguousarray(tensor.detach().numpy(), np.float32)  # type: ignore[attr-defined]
