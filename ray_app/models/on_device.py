"""The multi-task ranker on a GPU, in torch: all requests of a turn in one forward pass, by the arrays of `multitask`.

Candidates stand one behind another and find their visitor by an index; only histories are padded. Embeddings and trunk
are in half precision where the device has it; attention adds up, and the heads work, in float32. Calibration and limits
are those of numpy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_app.models.base import Ranker, Scene, parted
from ray_app.models.blend import Blend
from ray_app.models.multitask import MOST_RECENT, MultiTask
from ray_app.types import DAY_S, Matrix, Visitor

logger = logging.getLogger(__name__)
Named = Mapping[str, Tensor]
HALVED = ("items", "users", "weight", "bias")  # beginnings of the names of what is kept in half precision
UNUSED = ("item_known", "user_known", "learned", "watch_unit", "calibration", "convert_calibration", "taste")
WARM_UP = ((1, 1), (1, 200), (2, 200), (8, 200), (32, 200))  # requests, candidates: for one there is code of its own
MOST_APART = 0.02  # probabilities: half precision moves them by less


class OnDevice:
    """The twin of `host`, which answers where the device fails. `dtype`: of embeddings and trunk; `compiled`: code is
    made for the device at the first passes."""

    def __init__(self, host: MultiTask, device: str, dtype: torch.dtype, compiled: bool = False) -> None:
        self.version, self.kind, self._host, self._device = host.version, host.kind, host, device
        self._p = {k: _tensor(k, v, device, dtype) for k, v in host.arrays().items() if k not in UNUSED}
        self._pass = _compiled() if compiled else forward

    def predict(self, scene: Scene) -> Matrix:
        return self.predict_many([scene])[0]

    def predict_many(self, scenes: Sequence[Scene]) -> list[Matrix]:
        try:
            raw = self.heads(scenes)
        except RuntimeError as e:  # whatever a device can raise: it may be lost for good
            logger.error("the device failed; numpy answers", extra={"version": self.version, "why": str(e)[:200]})
            return [self._host.predict(scene) for scene in scenes]
        return parted(self._host.said(raw), scenes)

    def heads(self, scenes: Sequence[Scene]) -> Matrix:
        """float32 [candidates of all, 3]. Raises RuntimeError where the device fails."""
        packed = pack(self._host, scenes)
        if not len(packed["features"]):
            return np.zeros((0, 3), np.float32)
        with torch.inference_mode():
            given = {k: torch.from_numpy(v).to(self._device) for k, v in packed.items()}
            return np.asarray(self._pass(self._p, given).cpu().numpy())

    def arrays(self) -> dict[str, NDArray[Any]]:
        return self._host.arrays()


def pack(host: MultiTask, scenes: Sequence[Scene]) -> dict[str, NDArray[Any]]:
    """What a forward pass reads of n candidates of g visitors: features [n, f]; and where the model has embeddings item
    [n] and user [g], where theirs stand, owner [n], which visitor looks at the candidate; and for attention recent,
    there, taste and age [g, MOST_RECENT]."""
    found: dict[str, NDArray[Any]] = {"features": np.concatenate([s.features for s in scenes])}
    if host.kind == "logistic":
        return found
    found["item"] = host.item_at(np.concatenate([s.rows for s in scenes]))
    found["user"] = np.array([host.user_at(s.visitor.name) for s in scenes], np.int64)
    found["owner"] = np.repeat(np.arange(len(scenes)), [len(s.rows) for s in scenes])
    return found | _histories(host, [s.visitor for s in scenes]) if host.attends else found


def _histories(host: MultiTask, visitors: Sequence[Visitor]) -> dict[str, NDArray[Any]]:
    mean, spread = host.arrays()["taste"]
    shape = (len(visitors), MOST_RECENT)
    rows, there = np.zeros(shape, np.int32), np.zeros(shape, np.bool_)
    taste, age = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for k, v in enumerate(visitors):
        r = min(len(v.recent), MOST_RECENT)
        rows[k, :r], there[k, :r] = v.recent[:r], True
        taste[k, :r] = (v.weights[:r] - mean) / spread
        age[k, :r] = np.log1p(np.maximum(v.ages_s[:r], 0.0) / DAY_S)
    return {"recent": host.item_at(rows), "there": there, "taste": taste, "age": age}


def forward(p: Named, b: Named) -> Tensor:
    """float32 [n, 3]: what MultiTask does, for what `pack` made."""
    known = torch.nan_to_num((b["features"] - p["centre"]) / p["spread"])
    wide = torch.cat([known, torch.isnan(b["features"][:, p["gaps"]]).float()], dim=1)
    x = torch.cat([wide, *_taste(p, b)], dim=1) if "items" in p else wide
    layers = sum(name.startswith("weight") for name in p)
    for k in range(layers):
        x = torch.relu(x.to(p[f"weight{k}"].dtype) @ p[f"weight{k}"] + p[f"bias{k}"])
    x = torch.cat([x.float(), wide], dim=1) if layers else x
    return x @ p["head"] + p["head_bias"]


def _taste(p: Named, b: Named) -> list[Tensor]:
    item, user = p["items"][b["item"]].float(), p["users"][b["user"]][b["owner"]].float()
    parts = [item, user, user * item]
    if "query" not in p:
        return parts
    recent, owner = p["items"][b["recent"]].float(), b["owner"]
    kin = torch.einsum("nd,nrd->nr", item @ p["query"], (recent @ p["key"])[owner]) / item.shape[1] ** 0.5
    kin = torch.exp(torch.clamp(kin - (p["fade"] * b["age"])[owner], -30.0, 30.0)) * b["there"][owner]
    share = kin / (kin.sum(dim=1, keepdim=True) + torch.exp(torch.clamp(p["nothing"], -30.0, 30.0)))
    pooled = torch.einsum("nr,nrd->nd", share, recent[owner])
    liked = (share * b["taste"][owner]).sum(dim=1, keepdim=True)
    return [*parts, pooled, pooled * item, liked, share.sum(dim=1, keepdim=True)]


def _tensor(name: str, value: NDArray[Any], device: str, dtype: torch.dtype) -> Tensor:
    if name == "gaps":
        return torch.tensor(value, dtype=torch.int64, device=device)
    return torch.tensor(value, dtype=dtype if name.startswith(HALVED) else torch.float32, device=device)


@cache
def _compiled() -> Any:
    """Once for all versions: their arrays are given to it, so that a new version needs no new code."""
    return torch.compile(forward, dynamic=True)


def to_gpu() -> Callable[[Ranker], Ranker] | None:
    """What brings a ranker to this process's GPU; None, and a warning, where it has none."""
    if not torch.cuda.is_available():
        logger.warning("setting serving.rank_gpus asks for a GPU, and this process has none; numpy ranks")
        return None
    half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return partial(moved, device="cuda", dtype=half)


def moved(ranker: Ranker, device: str, dtype: torch.dtype) -> Ranker:
    """The twin on the device, warmed up; `ranker` itself where its kind has none, and, with a warning, where the twin
    fails or says something else; of a blend its network is moved. Without a compiler the twin works operation by
    operation."""
    if isinstance(ranker, Blend):
        return ranker.over(partial(moved, device=device, dtype=dtype))
    if not isinstance(ranker, MultiTask):
        return ranker
    for compiled in (True, False):
        try:
            twin = OnDevice(ranker, device, dtype, compiled)
            apart = np.max([_apart(twin, ranker, warm_up(ranker, *size)) for size in WARM_UP])  # NaN where one is
        except RuntimeError as e:
            about = {"version": ranker.version, "compiled": compiled, "why": str(e)[:300]}
            logger.warning("a ranker cannot be brought to the device in this way", extra=about)
            continue
        if apart <= MOST_APART:
            return twin
        logger.warning("a ranker says something else there; numpy ranks", extra={"apart": apart, "compiled": compiled})
    return ranker


def warm_up(host: MultiTask, requests: int, candidates: int) -> list[Scene]:
    """Requests of visitors with ever longer histories; features as they were at the fit, and missing ones."""
    random, a, found = np.random.default_rng(0), host.arrays(), []
    spread = np.where(np.isfinite(a["spread"]), a["spread"], 0.0)
    for k in range(requests):
        x = (a["centre"] + spread * random.standard_normal((candidates, len(spread)))).astype(np.float32)
        x[random.random(x.shape) < 0.05] = np.nan
        recent = np.arange(2 * k, dtype=np.int32)
        ones = np.ones(len(recent), np.float32)
        visitor = Visitor(f"u:{k}", recent, ones, ones * 3600, ones, recent)
        found.append(Scene(x, random.integers(0, 1000, candidates).astype(np.int32), visitor))
    return found


def _apart(twin: OnDevice, host: MultiTask, scenes: Sequence[Scene]) -> float:
    """The largest difference of a probability. Raises RuntimeError where the device fails."""
    said = host.said(twin.heads(scenes))
    wanted = np.concatenate([host.predict(s) for s in scenes])
    return float(np.abs(said - wanted)[:, :2].max())
