"""Fit the two towers by torch: in-batch softmax with the correction of Yi et al. (2019), and uniform negatives beside
it (Yang et al., "Mixed negative sampling for learning two-tower neural networks in recommendations", 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.pinned import Pinned
from ray_app.models.index import Search
from ray_app.models.two_tower import TwoTower
from ray_app.types import Interactions, Rows

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class How:
    """`recent`: of the items before each taken one, how many are read. `half_life_s` both of what a recent item says
    and of how much an example counts. `without_id`: the share of items whose own vector is left out of a step, so
    that their text alone must do. `uniform`: negatives drawn from the whole catalogue, beside those of the batch."""

    size: int = 64
    hidden: int = 128
    recent: int = 30
    epochs: int = 2
    most: int = 200_000
    batch: int = 256
    uniform: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    without_id: float = 0.2
    half_life_s: float = 60 * 86400.0
    seed: int = 7


@dataclass(frozen=True)
class Examples:
    """For each taken item (rows int32 [e]) the rows of what its visitor took before, the newest first: int32
    [e, recent], 0 where there are fewer; `say` float32 alike, how much each still said then, 0 where there is none."""

    rows: Rows
    before: Rows
    say: NDArray[np.float32]


def fit(history: Interactions, now: int, pinned: Pinned, how: How = How()) -> TwoTower:
    """As of `now` (ms). Without at least two examples nothing is learned, and the towers find nothing."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(how.seed)
    drawn = np.random.default_rng(how.seed)
    found = examples(history, now, how, drawn)
    towers = _Towers(history, pinned, how)
    optimizer = torch.optim.AdamW(towers.parameters(), how.learning_rate, weight_decay=how.weight_decay)
    taken = np.bincount(found.rows, minlength=history.n_rows)
    often = torch.from_numpy(np.log(np.maximum(taken, 1) / max(1, len(found.rows))).astype(np.float32))
    for _ in range(how.epochs if len(found.rows) > 1 else 0):
        order = drawn.permutation(len(found.rows))
        for part in np.array_split(order, -(-len(order) // how.batch)):
            loss = towers.loss(found, part, often, drawn)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return towers.served(len(found.rows) > 1)


def examples(history: Interactions, now: int, how: How, drawn: np.random.Generator) -> Examples:
    """What each visitor took for the first time, with what came strictly before; at most `how.most`, the young ones
    more likely."""
    order = np.lexsort((history.at, history.users))
    order = order[history.weights[order] > 0]  # what was refused is neither taken nor a reason
    users, rows, at = history.users[order], history.rows[order], history.at[order]
    place = np.arange(len(order))
    opens = np.flatnonzero((np.diff(users, prepend=-1) != 0) | (np.diff(at, prepend=-1) != 0))  # of one moment
    begins = np.flatnonzero(np.diff(users, prepend=-1))
    moment = opens[np.searchsorted(opens, place, side="right") - 1]
    start = begins[np.searchsorted(begins, place, side="right") - 1]
    _, first = np.unique(users.astype(np.int64) * max(1, history.n_rows) + rows, return_index=True)
    wanted = first[moment[first] > start[first]]
    fade = np.exp2((at[wanted] - now) / 1000.0 / how.half_life_s)
    if len(wanted) > how.most:
        wanted = drawn.choice(wanted, how.most, replace=False, p=fade / fade.sum())
    window = moment[wanted][:, None] - 1 - np.arange(how.recent)
    inside = window >= start[wanted][:, None]
    window = np.where(inside, window, 0)
    ages = (at[wanted][:, None] - at[window]) / 1000.0
    say = np.sqrt(history.weights[order][window] / 5.0) * np.exp2(-ages / how.half_life_s) * inside
    return Examples(rows[wanted], np.where(inside, rows[window], 0), say.astype(np.float32))


class _Towers:
    """The parameters in torch. `known`: rows that somebody took have a vector of their own."""

    def __init__(self, history: Interactions, pinned: Pinned, how: How) -> None:
        import torch

        self._how, self._pinned, n = how, pinned, history.n_rows
        vectors = pinned.vectors.whole() if pinned.vectors.size else np.zeros((n, 1), np.float32)
        self._text = torch.from_numpy(np.ascontiguousarray(vectors[:n]))
        self._category = torch.from_numpy(pinned.category[:n].astype(np.int64))
        self._known = torch.zeros(n, 1)
        self._known[np.unique(history.rows[history.weights > 0])] = 1.0
        d, text, size = how.size + 1, self._text.shape[1], how.size

        def made(rows: int, columns: int, spread: float) -> torch.Tensor:
            return torch.nn.Parameter(torch.randn(rows, columns) * spread)

        self.own, self.category = made(n, d, 0.05), made(len(pinned.categories), d, 0.05)
        self.text = made(text, d, 1.0 / size**0.5)
        self.hidden, self.bias = made(size, how.hidden, 1.0 / size**0.5), torch.nn.Parameter(torch.zeros(how.hidden))
        self.out = made(how.hidden, size, 0.1 / how.hidden**0.5)

    def parameters(self) -> list[Any]:
        return [self.own, self.category, self.text, self.hidden, self.bias, self.out]

    def items(self, rows: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """[k, d]; own [k, 1] is 0 for those whose own vector is left out."""
        return self.own[rows] * own + self.category[self._category[rows]] + self._text[rows] @ self.text

    def loss(self, found: Examples, part: NDArray[np.int64], often: torch.Tensor, drawn: np.random.Generator) -> Any:
        import torch

        how, n = self._how, len(self._known)
        wanted = np.concatenate([found.rows[part], drawn.integers(0, n, how.uniform)])
        rows, at = np.unique(np.concatenate([wanted, found.before[part].ravel()]), return_inverse=True)
        kept = torch.from_numpy((drawn.random((len(rows), 1)) >= how.without_id).astype(np.float32))
        every = self.items(torch.from_numpy(rows).long(), kept * self._known[rows])
        place = torch.from_numpy(at)
        recent = every[place[len(wanted) :]].view(len(part), how.recent, -1)[..., :-1]
        say = torch.from_numpy(found.say[part])
        mean = (say.unsqueeze(1) @ recent).squeeze(1) / (1.0 + say.sum(1, keepdim=True))
        visitor = mean + torch.relu(mean @ self.hidden + self.bias) @ self.out
        items = every[place[: len(wanted)]]
        likes = visitor @ items[:, :-1].T + items[:, -1]
        share = len(part) / len(wanted)
        likes = likes - torch.log(share * torch.exp(often[wanted]) + (1 - share) / n)
        same = torch.from_numpy(wanted[None, :] == wanted[: len(part), None])
        same[torch.arange(len(part)), torch.arange(len(part))] = False
        return torch.nn.functional.cross_entropy(likes.masked_fill(same, -1e9), torch.arange(len(part)))

    def served(self, learned: bool) -> TwoTower:
        """Zero where nothing was `learned`."""
        import torch

        with torch.no_grad():
            items = self.items(torch.arange(len(self._known)), self._known) * float(learned)
        parts = {"items": items, "text": self.text, "category": self.category, "hidden": self.hidden,
                 "hidden_bias": self.bias, "out": self.out}  # fmt: skip
        arrays: dict[str, Any] = {k: np.ascontiguousarray(p.detach().numpy(), np.float32) for k, p in parts.items()}
        return TwoTower(
            **arrays,
            space=np.array([self._pinned.space]),
            categories=np.array(self._pinned.categories or [""]),
            memory_s=np.array([self._how.half_life_s]),
            search=Search(arrays["items"]),
        )
