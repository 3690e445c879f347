"""Rankers fitted beside one another on older slices, judged on the newest: which is best, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ray_app.errors import BrokenArtifact
from ray_app.models.base import Ranker
from ray_app.training.judge import SHOWN, K, Slice, earns_attention, judge
from ray_app.training.rankers import Designs, Parts, blended, calibrate, fit, reloaded
from ray_app.training.report import Tell

FIGURE = f"ndcg@{K}"
NEURAL = ("attention", "multitask")
NO_BASELINE = (*NEURAL, "blend")


@dataclass(frozen=True)
class Entry:
    """A fitted ranker with its figures on the slice that judges; `figure`: the one that decides."""

    ranker: Ranker
    metrics: Mapping[str, float]

    @property
    def figure(self) -> float:
        return self.metrics[FIGURE]


class NoneLeft(Exception):
    """Not one ranker could be fitted and judged; says why, kind by kind."""


def hold(found: Parts, on: Slice, how: Designs, tell: Tell) -> dict[str, Entry]:
    """Every kind that can be fitted, by its name in the order of `how.kinds`. Raises NoneLeft."""
    entries: dict[str, Entry] = {}
    reasons: dict[str, str] = {}
    for kind in how.kinds:
        said = _named(kind, tell, reasons)
        name, entry = _entry(kind, found, on, how, said) if kind != "blend" else _blend(entries, found, on, said)
        if entry is not None:
            entries[name] = entry
            tell(f"{name}: " + ", ".join(f"{f} {entry.metrics[f]:.4f}" for f in SHOWN if f in entry.metrics))
    if not entries:
        raise NoneLeft("; ".join(f"{kind}: {why}" for kind, why in reasons.items()))
    return entries


def _named(kind: str, tell: Tell, reasons: dict[str, str]) -> Callable[[str], None]:
    def out(why: str) -> None:
        reasons[kind] = why
        tell(f"{kind}: {why}")

    return out


def _entry(kind: str, found: Parts, on: Slice, how: Designs, tell: Tell) -> tuple[str, Entry | None]:
    """With attention only where it earns its place: else the same ranker without it."""
    try:
        ranker = reloaded(fit(kind, found, kind, how, tell))
        if kind == "attention":
            earned, said = earns_attention(ranker, on)
            tell(said)
            if not earned:
                tell("attention does not earn its place: the ranker without it is kept")
                return _entry("multitask", found, on, replace(how, kinds=()), tell)
        return kind, Entry(ranker, judge(ranker, on))
    except (ValueError, BrokenArtifact) as e:
        tell(f"left out, {e}")
        return kind, None


def _blend(entries: Mapping[str, Entry], found: Parts, on: Slice, tell: Tell) -> tuple[str, Entry | None]:
    """Of the trees and the network as they are: neither is fitted twice."""
    network = neural_of(entries)
    if network is None or "trees" not in entries:
        tell("left out, it needs trees and a network, and one of them was left out")
        return "blend", None
    ranker = blended("blend", entries["trees"].ranker, entries[network].ranker)
    calibrate(ranker, found.held or found.learned)
    return "blend", Entry(ranker, judge(ranker, on))


def neural_of(entries: Mapping[str, Entry]) -> str | None:
    """Which of the two networks was kept."""
    return next((k for k in NEURAL if k in entries), None)


def winner(entries: Mapping[str, Entry], tell: Tell) -> str:
    """The kind with the most NDCG; of equals the simplest. Says so where a baseline beats the neural one."""
    best = max(entries, key=lambda kind: entries[kind].figure)
    neural = neural_of(entries)
    if best not in NO_BASELINE:
        lost = f"above {neural}'s {entries[neural].figure:.4f}" if neural else "without a neural ranker beside it"
        tell(f"the baseline {best} wins and is to serve: {FIGURE} {entries[best].figure:.4f}, {lost}")
    return best
