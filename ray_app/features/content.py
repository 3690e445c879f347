"""Content: the text of an item that embedders read, and items embedded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ray_app.catalog.plane import Space
from ray_app.types import Item, Matrix


class Embeds(Protocol):
    @property
    def version(self) -> str: ...
    def embed(self, texts: Sequence[str]) -> Matrix: ...


def text(item: Item) -> str:
    """Title, category, tags and the beginning of the text, one after the other."""
    return " ".join((item.title, item.category, " ".join(item.tags), item.text[:2000])).strip()


def space_of(embedder: Embeds | None, base: Matrix | None = None) -> Space | None:
    """The embedder's space, with the vectors that were made with it; None before there is an embedder."""
    if embedder is None:
        return None
    return Space(embedder.version, lambda items: embedder.embed([text(i) for i in items]), base)
