"""Content: the text of an item that embedders read."""

from __future__ import annotations

from ray_app.types import Item


def text(item: Item) -> str:
    """Title, category, tags and the beginning of the text, one after the other."""
    return " ".join((item.title, item.category, " ".join(item.tags), item.text[:2000])).strip()
