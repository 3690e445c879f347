"""A neural event: one thing that a store reports; what its `data` may hold, and the task that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ray_app.errors import InvalidField
from ray_app.events.base import Entry, Logged
from ray_app.events.schema import AHEAD_MS, parse_id, parse_time, refuse_unknown
from ray_app.events.wire import as_id, as_time
from ray_app.tasks.task import Submission

FIELDS = ("event_id", "event_type", "event_source", "store_id", "data", "priority", "occurred_at")
MOST_DATA = 256 * 1024  # bytes of JSON
HIGH, DEFAULT, LOW = "high_priority", "default", "low_priority"
LEVELS: Mapping[int, str] = {10: HIGH, 5: DEFAULT, 1: LOW}
HANDLER = "process_neural_event"
T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class NeuralEvent:
    """`at`: when it happened (ms), by which a store's statements are put in order. `data` as it came."""

    event_id: str
    event_type: str
    event_source: str
    store_id: str
    data: Mapping[str, Any]
    priority: int | None
    at: int

    @property
    def queue(self) -> str:
        return queue_of(self.event_type, self.priority)

    @property
    def urgent(self) -> bool:
        """What it says of the stock is told to the replicas before its task has a slot."""
        return self.event_type == "inventory.alert"

    def submission(self, tenant: str) -> Submission:
        """The task of this event; that of the same event again is the same task."""
        asked = {k: v for k, v in self.public().items() if v is not None}
        return Submission(HANDLER, asked, tenant, task_id(tenant, self.event_id), queue=self.queue)

    def public(self) -> dict[str, Any]:
        """As `parse` reads it."""
        said = self.body()
        return {"occurred_at": said.pop("at"), **said}

    def body(self) -> dict[str, Any]:
        """As it is stored, for `event_of`."""
        return {k: getattr(self, k) for k in NeuralEvent.__slots__}

    def entry(self) -> Entry:
        """For the topic. One store's events keep their order there, but not as tasks."""
        return Entry(self.store_id, orjson.dumps({k: v for k, v in self.public().items() if v is not None}))


def event_of(body: Mapping[str, Any]) -> NeuralEvent:
    """What `body` wrote; what else stands there is left out."""
    return NeuralEvent(**{k: body[k] for k in NeuralEvent.__slots__})


def queue_of(event_type: str, priority: int | None) -> str:
    """By the priority that an event names, or by its type; one between two levels counts as the nearer, or the
    higher."""
    if priority is None:
        return DATA[event_type].queue if event_type in DATA else DEFAULT
    return LEVELS[min(LEVELS, key=lambda level: (abs(level - priority), -level))]


def task_id(tenant: str, event_id: str) -> str:
    return f"neural-{digest(tenant, event_id)}"


def digest(*parts: str) -> str:
    """32 hex digits of what these texts are together."""
    return blake2b(orjson.dumps(parts), digest_size=16).hexdigest()


def parse(raw: Mapping[str, Any], now: int) -> NeuralEvent:
    """`now`: when it was received, which is when it happened unless it says so. Raises InvalidField for the first field
    that is not allowed, also in the data of a known type."""
    refuse_unknown(raw, FIELDS)
    said = raw.get("occurred_at")
    at = now if said is None else parse_time("occurred_at", said)
    if at > now + AHEAD_MS:
        raise InvalidField("occurred_at", said, "until 5 minutes ahead")
    event = NeuralEvent(
        parse_id("event_id", raw.get("event_id")), parse_id("event_type", raw.get("event_type")),
        parse_id("event_source", raw.get("event_source", "unknown")), parse_id("store_id", as_id(raw.get("store_id"))),
        _data(raw.get("data")), _priority(raw.get("priority")), at,
    )  # fmt: skip
    if event.event_type in DATA:
        read(DATA[event.event_type].form, event)
    return event


def read_entry(entry: Logged) -> NeuralEvent:
    """Raises ValueError for what is no JSON, else as `parse`."""
    return parse(orjson.loads(entry.body), entry.appended_at)


def read(form: type[T], event: NeuralEvent) -> T:
    """Its data in this form. Raises InvalidField, naming the field of `data`."""
    try:
        return form.model_validate(event.data)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        where, input = ".".join(("data", *(str(p) for p in first["loc"]))), first.get("input")
        shown = None if first["type"] == "missing" else input
        raise InvalidField(where, shown, first["msg"].removeprefix("Value error, ")) from None


def _data(value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise InvalidField("data", value, "an object")
    try:
        size = len(orjson.dumps([[[[value]]]])) - 8  # it is written deep in other messages
    except (TypeError, ValueError):
        raise InvalidField("data", value, "an object that can be written as JSON in UTF-8") from None
    if size > MOST_DATA:
        raise InvalidField("data", f"{size} bytes", f"at most {MOST_DATA} bytes of JSON")
    return value


def _priority(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10:
        raise InvalidField("priority", value, "0..10: 10 high, 5 default, 1 low, others as the nearest of these")
    return value


def _an_id(value: object) -> str:
    return parse_id("data", as_id(value))


def _optional_id(value: object) -> str | None:
    return None if value is None or value == "" else _an_id(value)


def _a_time(value: object) -> int | None:
    return None if value is None else as_time("data", value)


Id = Annotated[str, BeforeValidator(_an_id)]
Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class Form(BaseModel):
    """Fields that are not named here are kept, and searchable."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Line(Form):
    """`price`: of one."""

    dish_id: Id
    quantity: Amount = 1.0
    price: Amount | None = None


class Order(Form):
    """`lines` of an update: all that the order has now; without them its lines are those before."""

    order_id: Id
    customer_id: Annotated[str | None, BeforeValidator(_optional_id)] = None
    lines: tuple[Line, ...] | None = Field(None, max_length=1000)
    total: Amount | None = None
    status: str | None = None


class Payment(Form):
    order_id: Id
    amount: Amount | None = None
    method: str | None = None
    paid_at: Annotated[int | None, BeforeValidator(_a_time)] = None


class Alert(Form):
    """`is_out`: what it says, or where it says nothing whether there is none left."""

    dish_id: Id
    quantity: Amount | None = None
    threshold: Amount | None = None
    sold_out: bool | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Alert:
        if self.sold_out is None and self.quantity is None:
            raise ValueError("sold_out, or quantity")
        return self

    @property
    def is_out(self) -> bool:
        return self.quantity == 0 if self.sold_out is None else self.sold_out


class Dish(Form):
    dish_id: Id
    name: str | None = None
    category: str | None = None
    price: Amount | None = None
    available: bool | None = None


@dataclass(frozen=True, slots=True)
class Type:
    queue: str
    form: type[BaseModel]


DATA: Mapping[str, Type] = {
    "order.created": Type(HIGH, Order),
    "order.updated": Type(HIGH, Order),
    "payment.completed": Type(HIGH, Payment),
    "inventory.alert": Type(HIGH, Alert),
    "dish.updated": Type(DEFAULT, Dish),
    "staff.scheduled": Type(DEFAULT, Form),
}
