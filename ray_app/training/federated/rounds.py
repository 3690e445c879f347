"""The rounds of a federation: who is asked, who answered in time, and what became of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from ray_app.errors import InvalidField, LemoError
from ray_app.training.federated.average import Privacy, Update, average
from ray_app.training.federated.demand import Floats
from ray_app.training.federated.network import Steps, first
from ray_app.training.report import Tell

NO_PRIVACY = Privacy()
SLOWEST = 0.02  # the rate of the last round, by the first one's


class TooFew(LemoError):
    """Too few stores answer: the weights stay as they are."""

    reason = "TOO_FEW_STORES"


@dataclass(frozen=True, slots=True)
class Judged:
    """All that leaves a store when it judges: over how many rows, and the loss, which is WAPE; NaN where nothing was
    sold."""

    rows: int
    loss: float


@dataclass(frozen=True, slots=True)
class Plan:
    """`fraction`: the share of the stores that is asked in a round. A round of which fewer than `min_clients` answer
    within `round_s` changes nothing."""

    rounds: int = 100
    fraction: float = 1.0
    min_clients: int = 2
    local_epochs: int = 1
    rate: float = 0.03
    privacy: Privacy = NO_PRIVACY
    seed: int = 0
    round_s: float = 120.0

    def steps(self, number: int) -> Steps:
        """Of round `number`, from 1: shorter from round to round, along a half turn of a cosine."""
        turn = math.cos(math.pi * (number - 1) / self.rounds)
        return Steps(self.local_epochs, self.rate * max(SLOWEST, 0.5 * (1 + turn)), self.seed + number)

    def check(self) -> None:
        """Raises InvalidField."""
        if self.privacy.noise_multiplier and not self.privacy.clip_norm:
            allowed = "above 0 where noise_multiplier is: the noise is measured by it"
            raise InvalidField("clip_norm", self.privacy.clip_norm, allowed)


class Shops(Protocol):
    """The stores of a federation, wherever they work."""

    @property
    def names(self) -> Sequence[str]: ...

    def update(self, who: Sequence[str], weights: Floats, steps: Steps, wait_s: float) -> Mapping[str, Update]:
        """Of those that answered in time; a store that ended or is late is left out, and may answer in a later
        round."""
        ...

    def judge(self, who: Sequence[str], weights: Floats | None, wait_s: float) -> Mapping[str, Judged]:
        """Over the last weeks; without `weights`: of the plain forecast, the mean of the four weeks before."""
        ...


@dataclass(frozen=True, slots=True)
class Round:
    """`loss`: of those that answered, weighted by rows. `used`: whether the weights changed."""

    number: int
    asked: int
    answered: int
    rows: int
    loss: float | None
    used: bool


@dataclass(frozen=True)
class Trained:
    weights: Floats
    rounds: tuple[Round, ...]


def train(shops: Shops, plan: Plan, tell: Tell) -> Trained:
    """Raises TooFew where no round had enough answers, and InvalidField for a plan that cannot be."""
    plan.check()
    if len(shops.names) < plan.min_clients:
        raise TooFew(f"{len(shops.names)} stores are known, min_clients is {plan.min_clients}. Lower it, or add stores")
    # A seed that the version tells would tell its noise too, and who took part: with noise both are drawn of nothing.
    drawn = np.random.default_rng(None if plan.privacy.noise_multiplier else plan.seed)
    weights, done = first(plan.seed), list[Round]()
    for number in range(1, plan.rounds + 1):
        who = _asked(shops.names, plan, drawn)
        answers = shops.update(who, weights, plan.steps(number), plan.round_s)
        found = [u for u in answers.values() if u.rows and _whole(u)]
        used = len(found) >= plan.min_clients
        if used:
            weights = average(weights, found, plan.privacy, plan.fraction * len(shops.names), drawn)
        done.append(_noted(Round(number, len(who), len(found), 0, None, used), found))
        tell(f"round {number} of {plan.rounds}: {len(found)} of {len(who)} stores answered")
    if not any(r.used for r in done):
        raise TooFew(
            f"in none of {plan.rounds} rounds did {plan.min_clients} stores answer within {plan.round_s:g} s; the most "
            f"were {max(r.answered for r in done)}. See whether their orders can be read, or lower min_clients"
        )
    return Trained(weights, tuple(done))


def _asked(names: Sequence[str], plan: Plan, drawn: np.random.Generator) -> list[str]:
    """Each with the probability `fraction`, by itself, as the accountant takes it; without noise at least
    `min_clients`."""
    taken = [name for name in names if drawn.random() < plan.fraction]
    if not plan.privacy.noise_multiplier and len(taken) < plan.min_clients:
        taken = [names[k] for k in sorted(drawn.choice(len(names), plan.min_clients, replace=False))]
    return taken


def _whole(update: Update) -> bool:
    """A store whose numbers ran away may not spoil everybody's."""
    return bool(np.isfinite(update.weights).all())


def _noted(one: Round, found: Sequence[Update]) -> Round:
    if not found:
        return one
    rows = sum(u.rows for u in found)
    return replace(one, rows=rows, loss=sum(u.loss * u.rows for u in found) / rows)


def body(one: Round) -> dict[str, Any]:
    """As a version keeps it."""
    return asdict(one)
