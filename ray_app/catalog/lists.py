"""Popular lists that the job `precompute` made, one a scenario and category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray_app.stores.base import Document

if TYPE_CHECKING:
    from ray_app.stores.base import Documents

KIND = "lists"
MOST = 200  # items of a list


@dataclass(frozen=True, slots=True)
class Popular:
    """Ids, the most popular first, and when they were put in order (ms)."""

    items: tuple[str, ...]
    made_at: int


def document(scenario: str, category: str, items: Sequence[str], now: int) -> Document:
    """`category` "": of all of them."""
    return Document(_id(scenario, category), now, {"items": list(items), "made_at": now})


async def popular(documents: Documents, tenant: str, scenario: str, category: str = "") -> Popular | None:
    """None where no job has made it. Raises Unavailable."""
    found = await documents.get(tenant, KIND, _id(scenario, category))
    return None if found is None else Popular(tuple(found.body["items"]), int(found.body["made_at"]))


def _id(scenario: str, category: str) -> str:
    return f"popular:{scenario}:{category}"
