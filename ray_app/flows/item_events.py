"""Entries of item topics as changes of items, by the rules of our API, and what a row of changes leaves of an item."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from ray_app.catalog import item
from ray_app.catalog.tenant import parse_tenant
from ray_app.config import Events
from ray_app.errors import InvalidField
from ray_app.events import wire_items
from ray_app.events.base import Logged, Topics
from ray_app.events.schema import AHEAD_MS, Deleted, parse_id
from ray_app.events.wire_items import Change
from ray_app.types import Item

TENANT = "[a-z0-9][a-z0-9-]{0,62}"  # without a dot, so that no dead-letter topic is a tenant's
TYPED = "-items"  # vlog-items has items of type vlog


@dataclass(frozen=True, slots=True)
class Patch:
    """Fields to change, as of `version`; `added` are merged into the attributes. `whole`: the item that these fields
    make where there is none, if they are enough for one."""

    tenant: str
    id: str
    version: int
    fields: Mapping[str, Any]
    whole: Item | None

    def onto(self, known: Item) -> Item:
        changed = dict(self.fields)
        if "attributes" in changed:
            changed["attributes"] = item.parse_attributes({**known.attributes, **changed["attributes"]})
        return replace(known, version=self.version, **changed)


ItemEvent = Item | Deleted | Patch


def topics(events: Events) -> Topics:
    """The named ones, and each tenant's."""
    return Topics(events.item_topics, _pattern(events.tenant_topics).replace("(?P<tenant>", "(?:"))


def _pattern(tenant_topics: str) -> str:
    before, _, after = tenant_topics.partition("{tenant}")
    return f"{re.escape(before)}(?P<tenant>{TENANT}){re.escape(after)}" if tenant_topics else ""


class Reader:
    """What an entry says, given what its topic says."""

    def __init__(self, events: Events) -> None:
        self._shared = frozenset(events.item_topics)
        self._of_tenant = re.compile(_pattern(events.tenant_topics)) if events.tenant_topics else None

    def read(self, entry: Logged) -> ItemEvent:
        """Raises ValueError for what is no JSON, and InvalidField for what our API would refuse."""
        raw = orjson.loads(entry.body)
        change = _ours(raw) or wire_items.change(raw)
        tenant = self._tenant(entry.topic, change.tenant)
        typed = entry.topic.removesuffix(TYPED) if entry.topic.endswith(TYPED) else "item"
        return _checked(replace(change, tenant=tenant), typed, entry.appended_at)

    def _tenant(self, topic: str, named: object) -> str:
        found = None
        if topic not in self._shared and self._of_tenant:
            found = self._of_tenant.fullmatch(topic)
        if found is None:
            return parse_tenant(named)
        if named is not None and named != found["tenant"]:
            raise InvalidField("tenant_id", named, f"{found['tenant']!r}, the tenant of topic {topic}, or none")
        return parse_tenant(found["tenant"])


def _ours(raw: object) -> Change | None:
    """An entry in the form in which our API appends item changes; None for one of another form."""
    if not isinstance(raw, dict):
        return None
    if raw.get("change") == "delete" and raw.keys() == {"change", "tenant", "id", "version"}:
        return Change("delete", raw["tenant"], raw["id"], {}, _always(raw["version"]))
    fields = raw.get("item")
    if raw.get("change") != "upsert" or raw.keys() != {"change", "item"} or not isinstance(fields, dict):
        return None
    known = {k: v for k, v in fields.items() if k not in ("tenant", "id", "version")}
    return Change("upsert", fields.get("tenant"), fields.get("id"), known, _always(fields.get("version")))


def _always(version: Any) -> Any:
    """Ours has one in every change: None is an error, not the order of the log."""
    return "none" if version is None else version


def _checked(c: Change, typed: str, appended_at: int) -> ItemEvent:
    """`typed`: the type of an item that names none."""
    version = _version(c, appended_at)
    if c.kind == "delete":
        return Deleted(c.tenant, parse_id("item_id", c.item_id), version)
    raw = {"type": typed, **c.fields, "item_id": c.item_id, "version": version}
    if c.kind == "upsert":
        return item.parse(raw, c.tenant, appended_at)
    found = item.parse({"title": "none", **raw}, c.tenant, appended_at)
    said = {k: getattr(found, k) for k in c.fields}
    return Patch(c.tenant, found.id, version, said, found if "title" in c.fields else None)


def _version(c: Change, appended_at: int) -> int:
    if c.version is None and c.updated_at is not None:
        if c.updated_at > appended_at + AHEAD_MS:  # it would hold up every change until then
            raise InvalidField("updated_at", c.updated_at, "at most 5 minutes after the log's own time")
        return c.updated_at
    return item.parse_version(c.version, appended_at)


Lost = list[tuple[Logged, InvalidField]]
Refused = tuple[Logged, ItemEvent, InvalidField]


def fold(known: Item | Deleted | None, came: Iterable[tuple[Logged, ItemEvent]]) -> Folded:
    """What the changes of one item leave of it, in the order of the log; an older version changes nothing.

    A change that cannot be applied is tried again after each later one: when the same entries come again, after a
    crash, it would meet what those left.
    """
    state, changed, refused = known, False, list[Refused]()
    for entry, e in came:
        if state is not None and e.version < state.version:
            continue
        try:
            state, changed = _dated(_applied(state, e), state, entry.appended_at), True
        except InvalidField as why:
            refused.append((entry, e, why))
            continue
        state, refused = _once_more(state, refused)
    return Folded(state if changed else None, [(entry, why) for entry, _, why in refused])


def _once_more(state: Item | Deleted, before: list[Refused]) -> tuple[Item | Deleted, list[Refused]]:
    """What those of a newer version leave, and those that still cannot be applied."""
    refused, least = [], state.version
    for entry, e, why in sorted(before, key=lambda r: r[1].version):
        try:
            if e.version <= least:  # of an equal version what came last stands
                raise why
            state = _dated(_applied(state, e), state, entry.appended_at)
        except InvalidField:
            refused.append((entry, e, why))
    return state, refused


@dataclass(frozen=True, slots=True)
class Folded:
    """What is to be written, if anything, and the entries that cannot be applied."""

    item: Item | Deleted | None
    lost: Lost


def _applied(state: Item | Deleted | None, e: ItemEvent) -> Item | Deleted:
    if not isinstance(e, Patch):
        return e
    if isinstance(state, Item):
        return e.onto(state)
    if e.whole is None:
        why = "deleted" if state else "unknown"
        raise InvalidField("item_id", e.id, f"an item to update: this one is {why}. Send all its fields, or create it")
    return e.whole


def _dated(e: Item | Deleted, before: Item | Deleted | None, came: int) -> Item | Deleted:
    """An item that says nothing of its publication keeps the date that it has; a new one was published when it came."""
    if isinstance(e, Deleted) or e.published_at:
        return e
    return replace(e, published_at=(before.published_at if isinstance(before, Item) else 0) or came)
