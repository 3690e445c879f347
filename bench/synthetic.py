"""100,000 made-up items in 20 tenants, each with its key, its history and its three models."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from bench import shop
from ray_app.access.keys import Keys
from ray_app.catalog.changes import Change
from ray_app.catalog.item import parse
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.rows import assign
from ray_app.catalog.scenario import HOME
from ray_app.catalog.shelf import Shelf
from ray_app.events.base import Appended
from ray_app.events.schema import behavior_entry, item_to_dict
from ray_app.features.content import space_of, text
from ray_app.features.view import NAMES
from ray_app.models.itemcf import ItemCF
from ray_app.models.text import TextEmbedder
from ray_app.operations.load import FLOWS_OF
from ray_app.registry.watch import EMBEDDER, ITEM_CF, RANKER, Models
from ray_app.stores.base import Document
from ray_app.streams.applied import wait_applied
from ray_app.training.history import History, from_columns
from ray_app.training.listwise import fit
from ray_app.training.past import examples, past
from ray_app.types import Behavior, Item
from ray_app.wiring.stores import World

TENANTS, ITEMS, USERS, EACH = 20, 5000, 300, 20
GROUPS = 50  # categories; a visitor likes three of them
DAY_MS = 86_400_000
HISTORY_DAYS, LABEL_DAYS = 30, 7


def tenants() -> list[str]:
    return [f"shop-{k}" for k in range(TENANTS)]


def catalogue(now: int, drawn: np.random.Generator) -> list[Item]:
    """Titles of words of the category and of words of all."""
    raw = []
    for k in range(ITEMS):
        group = k % GROUPS
        words = [f"thing{w}" for w in drawn.integers(group * 40, group * 40 + 40, 4)]
        words += [f"common{w}" for w in drawn.integers(0, 300, 2)]
        raw.append({
            "item_id": f"i{k}", "title": " ".join(words), "category": f"group {group}",
            "price": float(np.round(drawn.lognormal(2, 1), 2)),
            "published_at": now - int(drawn.integers(HISTORY_DAYS, 300)) * DAY_MS,
        })  # fmt: skip
    return [parse(one, "template", now) for one in raw]


def behaviors(now: int, drawn: np.random.Generator) -> list[Behavior]:
    """Of every user, oldest first: mostly what is popular in the three categories of the user."""
    n = USERS * EACH
    users = np.repeat(np.arange(USERS), EACH)
    likes = drawn.integers(0, GROUPS, (USERS, 3))[users, drawn.integers(0, 3, n)]
    place = np.minimum(drawn.zipf(1.3, n) - 1, ITEMS // GROUPS - 1)
    items = place * GROUPS + likes
    at = np.sort(now - (drawn.random(n) * HISTORY_DAYS * DAY_MS).astype(np.int64))
    types = np.array(["click", "cart", "purchase"])[drawn.choice(3, n, p=[0.6, 0.1, 0.3])]
    order = drawn.permutation(n)
    return [
        Behavior(f"e{k}", "template", f"i{items[j]}", str(types[j]), int(at[k]), user_id=f"u{users[j]}")
        for k, j in enumerate(order)
    ]


class Template:
    """What every tenant gets: the same shop under its own name."""

    def __init__(self, now: int) -> None:
        drawn = np.random.default_rng(11)
        self.items, self.behaviors = catalogue(now, drawn), behaviors(now, drawn)
        self.embedder = TextEmbedder.fit([text(i) for i in self.items])
        self.pinned = self._pinned()
        events = self._history()
        self.item_cf = ItemCF.fit(events.events, now)
        state = past(events, self.pinned, now - LABEL_DAYS * DAY_MS, now, Models(self.embedder))
        self.ranker = fit(list(examples(state, HOME)), "template")

    def _pinned(self) -> Pinned:
        made, space = Shelf(len(self.items)), space_of(self.embedder)
        assert space is not None
        made.apply([Change(i.id, k, i.version, item_to_dict(i)) for k, i in enumerate(self.items)])
        made.replace_vectors(self.embedder.version, np.arange(len(self.items), dtype=np.int32), space.embed(self.items))
        return made.pin()

    def _history(self) -> History:
        columns = {
            "visitor": np.array([b.visitor for b in self.behaviors]),
            "item_id": np.array([b.item_id for b in self.behaviors]),
            "type": np.array([b.type for b in self.behaviors]),
            "occurred_at": np.array([b.occurred_at for b in self.behaviors]),
        }
        return from_columns(columns, self.pinned.rows, self.pinned.n)


async def fill(world: World, tenant: str, template: Template) -> list[Appended]:
    """Items and vectors as the items flow writes them, the models as the jobs do, behaviours to the log."""
    rows = await assign(world.documents, tenant, [i.id for i in template.items], {})
    bodies = [{**item_to_dict(replace(i, tenant=tenant)), "row": rows[i.id]} for i in template.items]
    await world.documents.upsert(tenant, "items", [Document(b["id"], b["version"], b) for b in bodies])
    at = np.array([b["row"] for b in bodies], np.int32)
    await world.vectors.upsert(tenant, template.embedder.version, at, template.pinned.vectors.whole())
    models: dict[str, tuple[Any, dict[str, Any]]] = {
        EMBEDDER: (template.embedder, {"kind": "text"}),
        ITEM_CF: (template.item_cf, {}),
        RANKER: (template.ranker, {"kind": template.ranker.kind, "features": list(NAMES)}),
    }
    for name, (model, about) in models.items():
        version = await world.registry.register(tenant, name, model.arrays(), {}, about, len(bodies))
        await world.registry.promote(tenant, version)
    entries = [behavior_entry(structs.replace(b, tenant=tenant)) for b in template.behaviors]
    return await world.log.append(world.settings.events.behavior_topic, entries)


async def open_shops(data: Path) -> dict[str, str]:
    """Key by tenant; nothing is made where the folder has them."""
    held = data / "keys.json"
    if not held.exists():
        with shop.embedded(data) as settings:
            async with shop.flowing(settings) as world:
                keys = await _make(world)
        held.write_text(json.dumps(keys))
    found: dict[str, str] = json.loads(held.read_text())
    return found


async def _make(world: World) -> dict[str, str]:
    template, made = await asyncio.to_thread(Template, world.clock.now()), Keys(world.documents, world.clock)
    keys, appended = {}, []
    for tenant in tenants():
        keys[tenant] = await made.create(tenant)
        appended += await fill(world, tenant, template)
    if not await wait_applied(world.redis, world.settings.stores.redis_prefix, FLOWS_OF["behaviors"], appended, 300):
        raise TimeoutError("the flows have not applied the history within 300 s")
    return keys
