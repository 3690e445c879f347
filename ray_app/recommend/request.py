"""One request on its way through the stages."""

from __future__ import annotations

from dataclasses import dataclass

from ray_app.catalog.rule import Rule
from ray_app.catalog.scenario import Scenario
from ray_app.features.view import Moment
from ray_app.recommend.budget import Budget
from ray_app.registry.watch import Models
from ray_app.types import Mask, Visitor


@dataclass(frozen=True, slots=True)
class Request:
    """`allowed`: bool by row, what is eligible; `fresh`: the same without what the visitor has seen. `rules`: those in
    force, the most important first. `seed`: of what is drawn by chance."""

    n: int
    visitor: Visitor
    scenario: Scenario
    models: Models
    moment: Moment
    budget: Budget
    allowed: Mask
    fresh: Mask
    rules: tuple[Rule, ...] = ()
    seed: int = 0
    tenant: str = ""
