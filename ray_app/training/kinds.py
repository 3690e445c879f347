"""How each channel that learns from the history is fitted, and in which variants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ray_app.catalog.pinned import Pinned
from ray_app.models import covisit, factors, itemcf
from ray_app.models.base import Recaller
from ray_app.models.covisit import Covisit
from ray_app.models.factors import Factors
from ray_app.models.itemcf import ItemCF
from ray_app.models.product import Product
from ray_app.models.two_tower import TwoTower
from ray_app.training import towers
from ray_app.types import Interactions


@dataclass(frozen=True, slots=True)
class Kind:
    """`variants` where so many items were taken, the usual one first; `fit` of one of them, as of a moment (ms).
    `product`: of which the neighbours can be found in parts, with how many of each; None for other ways."""

    variants: Callable[[int], Sequence[str]]
    fit: Callable[[str, Interactions, int, Pinned], Recaller]
    product: Callable[[str, Interactions, int], tuple[Product, int] | None] = lambda variant, history, now: None


def _item_cf(variant: str, history: Interactions, now: int, pinned: Pinned) -> Recaller:
    return ItemCF.fit(history, now, itemcf.VARIANTS[variant], variant)


def _item_cf_product(variant: str, history: Interactions, now: int) -> tuple[Product, int] | None:
    how = itemcf.VARIANTS[variant]
    alike = itemcf.product(history, now, how)
    return (alike, how.neighbours) if alike else None


def _covisit_product(variant: str, history: Interactions, now: int) -> tuple[Product, int]:
    return covisit.product(history, now), covisit.Fit().neighbours


def _covisit(variant: str, history: Interactions, now: int, pinned: Pinned) -> Recaller:
    return Covisit.fit(history, now)


def _factors(variant: str, history: Interactions, now: int, pinned: Pinned) -> Recaller:
    return Factors.fit(history, now, factors.Fit(variant=variant))


def _two_tower(variant: str, history: Interactions, now: int, pinned: Pinned) -> Recaller:
    return towers.fit(history, now, pinned)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        ItemCF.name: Kind(itemcf.variants, _item_cf, _item_cf_product),
        Covisit.name: Kind(lambda taken: (Covisit.variant,), _covisit, _covisit_product),
        Factors.name: Kind(lambda taken: tuple(factors.HALF_LIVES), _factors),
        TwoTower.name: Kind(lambda taken: (TwoTower.variant,), _two_tower),
    }
)
