"""What an event may hold, and which queue it goes to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.clock import FixedClock
from ray_app.config import Tasks
from ray_app.errors import InvalidField
from ray_app.neural.event import DATA, parse, task_id
from ray_app.neural.orders import Known, behaviors
from ray_app.neural.search import words
from ray_app.neural.tasks import HANDLERS
from ray_app.tasks.queue import Queue
from ray_app.tasks.task import Submission
from tests.unit.make import NOW, TENANT
from tests.unit.neural.conftest import event

if TYPE_CHECKING:
    from redis.asyncio import Redis

OF_TYPE: dict[str, tuple[str, dict[str, Any]]] = {
    "order.created": ("high_priority", {"order_id": "o1", "lines": [{"dish_id": "d1"}]}),
    "order.updated": ("high_priority", {"order_id": "o1", "status": "paid"}),
    "payment.completed": ("high_priority", {"order_id": "o1", "amount": 3}),
    "inventory.alert": ("high_priority", {"dish_id": "d1", "quantity": 0}),
    "dish.updated": ("default", {"dish_id": "d1", "name": "Soup"}),
    "staff.scheduled": ("default", {"staff_id": "s1"}),
}


def test_every_known_type_has_its_queue() -> None:
    assert OF_TYPE.keys() == DATA.keys()
    assert {t: event(t, data).queue for t, (_, data) in OF_TYPE.items()} == {t: q for t, (q, _) in OF_TYPE.items()}
    assert event("weather.changed", {"rain": True}).queue == "default"


@pytest.mark.parametrize(
    ("priority", "queue"),
    [
        (10, "high_priority"), (8, "high_priority"), (7, "default"), (5, "default"), (4, "default"), (3, "default"),
        (2, "low_priority"), (1, "low_priority"), (0, "low_priority"),
    ],
)  # fmt: skip
def test_a_priority_overrides_the_queue_of_the_type(priority: int, queue: str) -> None:
    assert event("order.created", {"order_id": "o"}, priority=priority).queue == queue
    assert event("anything", {}, priority=priority).queue == queue


@pytest.mark.parametrize(
    ("type", "data", "field"),
    [
        ("order.created", {}, "data.order_id"),
        ("order.created", {"order_id": "o", "lines": [{"dish_id": "d", "quantity": -1}]}, "data.lines.0.quantity"),
        ("order.created", {"order_id": "o", "lines": "none"}, "data.lines"),
        ("payment.completed", {"amount": 1}, "data.order_id"),
        ("inventory.alert", {"dish_id": "d"}, "data"),
        ("dish.updated", {"dish_id": "d", "price": "much"}, "data.price"),
    ],
)
def test_the_data_of_a_known_type_is_checked(type: str, data: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as e:
        event(type, data)
    assert e.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_id", ""), ("event_type", None), ("store_id", "a\nb"), ("data", [1]), ("priority", 11),
        ("priority", True), ("occurred_at", NOW + 600_000), ("colour", "red"), ("data", {"x": "y" * 300_000}),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_named(field: str, value: object) -> None:
    raw = {"event_id": "e", "event_type": "order.x", "event_source": "pos", "store_id": "s", "data": {}}
    with pytest.raises(InvalidField) as e:
        parse({**raw, field: value}, NOW)
    assert e.value.field == field


def test_whole_numbers_are_ids_and_the_time_of_receipt_is_the_time() -> None:
    found = parse({"event_id": "e", "event_type": "x", "store_id": 7}, NOW)
    assert (found.store_id, found.event_source, found.at) == ("7", "unknown", NOW)
    assert event("order.created", {"order_id": 9, "customer_id": 12, "lines": [{"dish_id": 5}]}).data["order_id"] == 9


def test_an_event_is_read_back_as_it_was_written() -> None:
    one = event("order.created", {"order_id": "o", "table": 4}, priority=5)
    assert parse(one.public(), NOW) == one


def test_the_same_event_is_the_same_task_of_a_tenant() -> None:
    one = event("order.created", {"order_id": "o"})
    assert one.submission("a") == event("order.created", {"order_id": "o"}).submission("a")
    assert one.submission("a").id == task_id("a", "e1") != task_id("b", "e1")
    assert one.submission("a").queue == "high_priority"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = ["order_id", "customer_id", "lines", "dish_id", "quantity", "price", "sold_out", "paid_at", "name", "available"]
LIKELY = {
    "order_id": st.text("ab1", min_size=1) | st.integers(), "dish_id": st.just("soup"), "quantity": st.integers(0, 9),
    "lines": st.lists(st.fixed_dictionaries({"dish_id": st.sampled_from(["a", 5])}, optional={"price": JSON})),
}  # fmt: skip
DATA_OF = st.fixed_dictionaries({}, optional={k: LIKELY.get(k, JSON) for k in KEYS}) | JSON


@given(st.sampled_from([*DATA, "other"]), DATA_OF, st.just("e") | JSON, st.none() | JSON)
def test_what_anybody_may_send_is_an_event_or_names_a_field(type: str, data: Any, id: Any, at: Any) -> None:
    named = ""
    try:
        found = parse({"event_id": id, "event_type": type, "store_id": "s", "data": data, "occurred_at": at}, NOW)
    except InvalidField as e:
        named = e.field.split(".")[0]
    if named:
        assert named in {"event_id", "data", "occurred_at"}
        return
    assert parse(orjson.loads(found.entry().body), NOW) == found
    assert isinstance(words(found.data), str)
    if type.startswith(("order", "payment")):  # what was taken can be worked on
        assert all(b.item_id in ("a", "5") for b in behaviors(TENANT, found, "o", Known([found], frozenset())))


@pytest.mark.parametrize("name", ["process_neural_event", "src.core.celery_tasks.process_neural_event"])
@pytest.mark.parametrize(
    ("said", "queue"),
    [({"event_type": "order.created"}, "high_priority"), ({"event_type": "dish.updated"}, "default"),
     ({"event_type": "dish.updated", "priority": 10}, "high_priority"), ({"event_type": "new.one"}, "default"),
     ({"event_type": "order.created", "priority": 1}, "low_priority")],
)  # fmt: skip
async def test_a_task_that_is_submitted_by_its_name_has_the_queue_of_its_event(
    redis: Redis, name: str, said: dict[str, Any], queue: str
) -> None:
    tasks = Queue(redis, "test", Tasks(), FixedClock(NOW), HANDLERS)
    asked = Submission(name, {"event_id": "e", "store_id": "s", **said}, TENANT)
    (id,) = await tasks.submit(asked)
    assert (await tasks.get(id)).queue == queue
    (id,) = await tasks.submit(replace(asked, queue="bulk"))
    assert (await tasks.get(id)).queue == "bulk"
    routed = Queue(redis, "test", Tasks(routes={"process_neural_event": "processing"}), FixedClock(NOW), HANDLERS)
    (id,) = await routed.submit(asked)
    assert (await routed.get(id)).queue == "processing"
