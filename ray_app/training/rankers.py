"""The rankers that are fitted beside one another: the neural one, and baselines that it has to beat."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from ray_app.errors import BrokenArtifact
from ray_app.features.view import NAMES
from ray_app.models.base import Arrays, Ranker
from ray_app.models.blend import Blend
from ray_app.models.calibration import platt
from ray_app.models.multitask import MultiTask
from ray_app.models.popularity import Popularity
from ray_app.training import listwise, multitask, trees
from ray_app.training.groups import Groups, grouped, packed
from ray_app.training.listwise import Network
from ray_app.training.multitask import Design
from ray_app.training.past import Example
from ray_app.training.trees import Forest

Fit = Callable[[Arrays, Callable[[Arrays], None], Arrays | None], Arrays]  # (given, told each state, resume) -> made
Away = Callable[[Fit, Arrays, Mapping[str, Any]], Arrays]  # the last: with which parameters, for the name of the run
HELD = 10  # every so many visitors are kept from the fit: they choose the epoch and calibrate
LOGISTIC = Design(hidden=(), size=0, attention=False, learning_rate=2e-2)


@dataclass(frozen=True, slots=True)
class Designs:
    """How each of them is fitted; `kinds`: which, the simplest first. `attention` gives way to `multitask`, the same
    without attention, where it does not earn its place; `blend` is trees and whichever of the two `neural` says."""

    kinds: tuple[str, ...] = ("popularity", "logistic", "trees", "listwise", "attention", "blend")
    network: Network = field(default_factory=Network)
    neural: Design = field(default_factory=Design)
    forest: Forest = field(default_factory=Forest)


@dataclass(frozen=True)
class Parts:
    """Examples to learn from and examples kept from it, made into arrays once for all kinds."""

    learned: Sequence[Example]
    held: Sequence[Example]
    data: Groups
    kept: Groups
    away: Away | None = None


def parts(found: Sequence[Example], names: Sequence[str], away: Away | None = None) -> Parts:
    """`names`: of the visitors by number. A visitor is on one side in every slice. `away`: fits the neural ranker in
    another process, which may be killed and go on; without it, here."""
    aside = [zlib.crc32(names[e.user].encode()) % HELD == 0 for e in found]
    learned = [e for e, a in zip(found, aside, strict=True) if not a]
    held = [e for e, a in zip(found, aside, strict=True) if a]
    return Parts(learned, held, _groups(learned), _groups(held), away)


def _groups(found: Sequence[Example]) -> Groups:
    return grouped([e.scene for e in found], [e.labels for e in found])


def fit(kind: str, found: Parts, version: str, how: Designs, tell: Callable[[str], None]) -> Ranker:
    """Calibrated on what was kept from the fit. Raises ValueError when there is nothing to learn from."""
    ranker = FITTERS[kind](found, version, how, tell)
    return calibrate(ranker, found.held or found.learned)


def calibrate(ranker: Any, held: Sequence[Example]) -> Ranker:
    """Its probability of a click as often right as it says, on average; the order stays."""
    if held:
        logits = np.concatenate([ranker.logits(e.scene) for e in held])
        ranker.calibration = platt(logits, np.concatenate([e.taken for e in held]))
    found: Ranker = ranker
    return found


def _popularity(found: Parts, version: str, how: Designs, tell: Callable[[str], None]) -> Any:
    return Popularity(version, NAMES)


def _listwise(found: Parts, version: str, how: Designs, tell: Callable[[str], None]) -> Any:
    return listwise.fit(found.learned, version, how.network, tell)


def _trees(found: Parts, version: str, how: Designs, tell: Callable[[str], None]) -> Any:
    return trees.fit(found.data, version, how.forest)


def _blend(found: Parts, version: str, how: Designs, tell: Callable[[str], None]) -> Any:
    network = "attention" if how.neural.attention else "multitask"
    return blended(version, *(fit(kind, found, version, how, tell) for kind in ("trees", network)))


def blended(version: str, trees: Any, network: Any) -> Ranker:
    """Of the two kinds, fitted and calibrated."""
    return Blend(version, trees, network)


def _neural(change: Callable[[Design], Design]) -> Fitter:
    def made(found: Parts, version: str, how: Designs, tell: Callable[[str], None]) -> Any:
        design = change(how.neural)
        if found.away is None or not design.hidden:
            return MultiTask(version, multitask.fit(found.data, found.kept, design, lambda s: tell(_said(s, design))))
        given, fit_it = packed(found.data, found.kept), partial(multitask.fit_packed, how=design)
        return MultiTask(version, dict(found.away(fit_it, given, asdict(design))))

    return made


def _said(state: multitask.State, design: Design) -> str:
    loss = float(state["best.loss"])
    return f"epoch {int(state['epoch'])}/{design.epochs}: least loss on visitors kept aside {loss:.4f}"


Fitter = Callable[[Parts, str, Designs, Callable[[str], None]], Any]
FITTERS: Mapping[str, Fitter] = MappingProxyType(
    {
        "popularity": _popularity,
        "logistic": _neural(lambda d: replace(LOGISTIC, epochs=d.epochs, seed=d.seed, batch=d.batch)),
        "trees": _trees,
        "listwise": _listwise,
        "multitask": _neural(lambda d: replace(d, attention=False)),
        "attention": _neural(lambda d: replace(d, attention=True)),
        "blend": _blend,
    }
)


def reloaded(ranker: Ranker) -> Ranker:
    """As serving would load it. Raises BrokenArtifact for what may not be served."""
    from ray_app.models.ranker import load

    arrays = ranker.arrays()
    for name, array in arrays.items():
        if not isinstance(array, bytes) and array.dtype.kind == "f" and np.isnan(array).any():
            raise BrokenArtifact(f"ranker {ranker.version}: {name} has values that are no numbers")
    found: Any = arrays
    return load(ranker.version, ranker.kind, NAMES, NAMES, found)
