"""Item changes of other producers, the tenant and type that a topic gives, and what a row of changes leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ray_app.config import Events
from ray_app.errors import InvalidField, LemoError
from ray_app.events import wire_items
from ray_app.events.base import Logged
from ray_app.events.schema import Deleted, delete_entry, item_entry
from ray_app.flows.item_events import ItemEvent, Patch, Reader, fold, topics
from ray_app.types import Item
from tests.unit.events.test_wire_behaviors import messages
from tests.unit.make import NOW, item

READER = Reader(Events())
SHARED = "items-ingest"


def logged(raw: Any, topic: str = SHARED, at: int = NOW) -> Logged:
    return Logged(topic, 0, 0, at, "", raw if isinstance(raw, bytes) else orjson.dumps(raw))


def read(raw: Any, topic: str = SHARED, at: int = NOW) -> ItemEvent:
    return READER.read(logged(raw, topic, at))


def envelope(kind: str = "item.created", tenant: str | None = "t", **data: Any) -> dict[str, Any]:
    return {"event_type": kind, "tenant_id": tenant, "data": {"itemId": "i", "title": "A", **data}}


WHOLE = Item("t", "i", "item", "A", NOW)


def test_our_own_entries_are_read_as_they_were() -> None:
    one = item("i", 3, tags=("a",), price=1.5, attributes={"colour": ["red"]}, published_at=NOW, text="b")
    assert READER.read(logged(item_entry(one).body)) == one
    assert READER.read(logged(delete_entry("t", "i", 4).body)) == Deleted("t", "i", 4)


@pytest.mark.parametrize("raw", [
    envelope(), envelope("ITEM_CREATED"), envelope("itemCreated"), envelope("create"), envelope("upsert"),
    {"type": "product.created", "tenantId": "t", "payload": {"productId": "i", "name": "A"}},
    {"event_type": "save", "tenant_id": "t", "item": {"id": "i", "headline": "A"}},
    {"tenant_id": "t", "item_id": "i", "title": "A"},
    {"tenantId": "t", "id": "i", "title": "A", "action": "add"},
])  # fmt: skip
def test_a_create_in_any_form_is_an_item_as_of_its_append(raw: dict[str, Any]) -> None:
    assert read(raw) == WHOLE


@pytest.mark.parametrize("raw", [
    {"event_type": "item.deleted", "tenant_id": "t", "data": {"item_id": "i"}},
    {"event_type": "delete", "tenant_id": "t", "item_id": "i"},
    {"tenantId": "t", "itemId": "i", "op": "REMOVE", "title": "A", "price": "wrong"},
])  # fmt: skip
def test_a_delete_needs_an_id_alone(raw: dict[str, Any]) -> None:
    assert read(raw) == Deleted("t", "i", NOW)


def test_every_field_is_read_in_other_producers_forms() -> None:
    found = read(envelope(
        contentType="vlog", description="d", categoryName="c", keywords="a, b", price="9.90", coverUrl="u",
        publishTime=NOW // 1000, status="ON_SALE", attrs={"size": 3}, brand="x", authorId=7, version="12",
    ))  # fmt: skip
    assert found == Item(
        "t", "i", "vlog", "A", 12, "d", "c", ("a", "b"), 9.9, ("u",), NOW, "available",
        {"size": 3, "brand": "x", "author_id": 7},
    )  # fmt: skip


@pytest.mark.parametrize(("data", "version"), [
    ({"version": 7, "updatedAt": NOW}, 7), ({"updated_at": NOW // 1000}, NOW),
    ({"updateTime": "2020-01-01"}, 1_577_836_800_000), ({}, NOW + 5),
])  # fmt: skip
def test_a_version_is_named_or_a_time_or_the_order_of_the_log(data: dict[str, Any], version: int) -> None:
    assert read(envelope(**data), at=NOW + 5).version == version


def test_the_version_of_an_envelopes_form_is_none_of_the_item() -> None:
    assert read({**envelope(), "version": "1.0"}).version == NOW
    assert read({**envelope(), "version": 3}).version == 3


@pytest.mark.parametrize(("topic", "type"), [
    ("items-ingest", "item"), ("vlog-items", "vlog"), ("news-items", "news"), ("item-events-t", "item"),
])  # fmt: skip
def test_a_topic_gives_the_type_that_an_item_does_not_name(topic: str, type: str) -> None:
    found, named = read(envelope(), topic), read(envelope(type="book"), topic)
    assert isinstance(found, Item)
    assert found.type == type
    assert isinstance(named, Item)
    assert named.type == "book"


@pytest.mark.parametrize("tenant", [None, "t"])
def test_on_a_tenants_topic_its_tenant_counts(tenant: str | None) -> None:
    assert read(envelope(tenant=tenant), "item-events-t").tenant == "t"


@pytest.mark.parametrize(("raw", "topic", "field"), [
    (envelope(tenant="t2"), "item-events-t", "tenant_id"), (envelope(tenant=None), SHARED, "tenant_id"),
    (envelope(tenant="T"), SHARED, "tenant_id"), (envelope(), "item-events-system", "tenant_id"),
    ({**envelope(), "tenant": "t2"}, SHARED, "tenant_id"), (envelope(tenant_id="t2"), SHARED, "tenant_id"),
    (orjson.loads(item_entry(item("i")).body), "item-events-u", "tenant_id"),
    (envelope("item.viewed"), SHARED, "event_type"), (envelope(title=""), SHARED, "title"),
    (envelope(title=None), SHARED, "title"), (envelope(itemId=None), SHARED, "item_id"),
    (envelope(itemId="a\n"), SHARED, "item_id"), (envelope(price=-1), SHARED, "price"),
    (envelope(status="gone"), SHARED, "status"), (envelope(tags=7), SHARED, "tags"),
    (envelope(version=-1), SHARED, "version"), (envelope(version=1.5), SHARED, "version"),
    (envelope(updated_at=NOW + 300_001), SHARED, "updated_at"), (envelope(updated_at="soon"), SHARED, "updated_at"),
    (envelope(published_at="soon"), SHARED, "published_at"), (envelope(text="a" * 100_001), SHARED, "text"),
    (envelope(attributes=[1]), SHARED, "attributes"), (envelope(brand="a" * 33_000), SHARED, "attributes"),
    ([], SHARED, "message"),
])  # fmt: skip
def test_what_our_api_would_refuse_is_refused_with_its_field(raw: Any, topic: str, field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        read(raw, topic)
    assert refused.value.field == field


@pytest.mark.parametrize(("word", "kind"), [(w, k) for k, words in wire_items.WORDS.items() for w in words])
def test_every_known_word_is_read(word: str, kind: str) -> None:
    kinds = {"upsert": Item, "update": Patch, "delete": Deleted}
    assert isinstance(read(envelope(f"item.{word}")), kinds[kind])


@given(messages | st.binary(max_size=60), st.sampled_from([SHARED, "vlog-items", "item-events-t"]))
def test_any_message_is_read_or_refused_and_nothing_else_happens(raw: Any, topic: str) -> None:
    try:
        found = read(raw, topic)
    except (LemoError, ValueError):  # a dead letter
        return
    assert found.tenant
    assert 0 <= found.version < 2**53
    fold(None, [(logged(raw, topic), found)])


def test_the_topics_are_the_named_ones_and_each_tenants_but_no_dead_letters() -> None:
    existing = ["item-events-a", "item-events-b-1", "item-events-a.dlq", "vlog-items", "vlog-items.dlq", "slates",
                "item-events-", "item-events-A", f"item-events-{'a' * 64}"]  # fmt: skip
    assert topics(Events()).among(existing) == [
        "items-ingest", "vlog-items", "news-items", "item-events-a", "item-events-b-1",
    ]  # fmt: skip
    assert topics(Events(item_topics=("a",), tenant_topics="")).among(existing) == ["a"]
    assert topics(Events(tenant_topics="x.{tenant}.y")).among(["x.a.y", "xxaxy"])[3:] == ["x.a.y"]


def patch(version: int = NOW, **data: Any) -> ItemEvent:
    raw = {"event_type": "update", "tenant_id": "t", "data": {"item_id": "i", "version": version, **data}}
    return read(raw)


def left(known: Item | Deleted | None, *came: ItemEvent) -> Item | Deleted | None:
    folded = fold(known, [(logged({}), e) for e in came])
    assert not folded.lost
    return folded.item


KNOWN = replace(WHOLE, version=5, price=1.0, published_at=9, tags=("a",), attributes={"brand": "x", "size": 1})


def test_an_update_changes_what_it_names_and_keeps_the_rest() -> None:
    assert left(KNOWN, patch(6, price=2)) == replace(KNOWN, version=6, price=2.0)
    assert left(KNOWN, patch(6, price=None, tags=[], size=2)) == replace(
        KNOWN, version=6, tags=(), attributes={"brand": "x", "size": 2}
    )


def test_updates_of_one_batch_add_up_and_an_older_one_changes_nothing() -> None:
    assert left(KNOWN, patch(6, price=2), patch(4, title="old"), patch(7, title="B")) == replace(
        KNOWN, version=7, price=2.0, title="B"
    )
    assert left(KNOWN, patch(4, title="old")) is None
    assert left(None, replace(WHOLE, version=3), patch(3, price=2)) == replace(
        WHOLE, version=3, price=2.0, published_at=NOW
    )


def test_a_whole_item_replaces_all_and_keeps_only_the_date() -> None:
    assert left(KNOWN, replace(WHOLE, version=5)) == replace(WHOLE, version=5, published_at=9)
    assert left(Deleted("t", "i", 5), replace(WHOLE, version=6)) == replace(WHOLE, version=6, published_at=NOW)
    assert left(Deleted("t", "i", 5), replace(WHOLE, version=4)) is None


def test_an_update_of_what_is_not_there_makes_it_when_it_is_whole() -> None:
    made = patch(6, title="A")
    assert left(None, made) == replace(WHOLE, version=6, published_at=NOW)
    assert left(Deleted("t", "i", 5), made) == replace(WHOLE, version=6, published_at=NOW)
    typed = read({"event_type": "update", "tenant_id": "t", "data": {"item_id": "i", "title": "A"}}, "vlog-items")
    whole = left(None, typed)
    assert isinstance(whole, Item)
    assert whole.type == "vlog"
    assert left(KNOWN, replace(typed, version=6)) == replace(KNOWN, version=6, title="A")


@pytest.mark.parametrize(("known", "why"), [(None, "unknown"), (Deleted("t", "i", 5), "deleted")])
def test_an_update_of_what_is_not_there_is_a_dead_letter_when_it_is_not_whole(known: Any, why: str) -> None:
    folded = fold(known, [(logged({}), patch(6, price=2)), (logged({}), patch(7, title="A"))])
    ((_, refused),) = folded.lost
    assert why in refused.allowed
    assert isinstance(folded.item, Item)  # the next one counts


def test_an_update_that_came_before_its_item_is_applied_once_the_item_is_there() -> None:
    """As it would be when the same entries came again."""
    came = patch(8, price=2), patch(7, brand="y"), replace(WHOLE, version=6)
    assert left(Deleted("t", "i", 5), *came) == replace(
        WHOLE, version=8, price=2.0, attributes={**WHOLE.attributes, "brand": "y"}, published_at=NOW
    )


def test_attributes_that_grow_too_large_are_a_dead_letter() -> None:
    known = replace(KNOWN, attributes={"a": "x" * 20_000})
    folded = fold(known, [(logged({}), patch(6, b="x" * 20_000))])
    assert folded.item is None
    assert folded.lost[0][1].field == "attributes"


versions = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["item", "patch", "delete"])), min_size=1, max_size=8)


def drawn_event(kind: str, version: int, k: int) -> ItemEvent:
    if kind == "item":
        return replace(WHOLE, version=version, title=f"title {k}")
    return Deleted("t", "i", version) if kind == "delete" else patch(version, **{f"a{k % 3}": k})


@given(versions)
@example([(1, "delete"), (3, "patch"), (2, "item")])
def test_a_batch_that_comes_again_leaves_the_same(drawn: list[tuple[int, str]]) -> None:
    """A crash after the documents were written and before the position was."""
    came = [(logged({}, at=NOW + k), drawn_event(kind, 4 + v, k)) for k, (v, kind) in enumerate(drawn)]
    once = fold(KNOWN, came).item
    again = fold(once or KNOWN, came).item
    assert (again or once) == once
