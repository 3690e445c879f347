"""Handlers of the neural event queue, under the names and with the arguments of the old one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ray_app.catalog.store import Store, Stores
from ray_app.catalog.tenant import SYSTEM
from ray_app.errors import InvalidField, NotFound
from ray_app.events.schema import parse_time
from ray_app.neural import analyze, batch, process
from ray_app.neural.event import DEFAULT, HIGH, LOW, NeuralEvent, parse, queue_of
from ray_app.tasks.work import Handler, Run

OLD = "src.core.celery_tasks"
BAD: Mapping[type[BaseException], str] = {InvalidField: "fail", NotFound: "fail"}


def _time(value: object) -> int:
    return parse_time("period", value)


Time = Annotated[int, BeforeValidator(_time)]


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Event(Asked):
    """As NeuralEvent; what may stand in it is checked when it runs, as the route checks it."""

    event_id: str
    event_type: str
    event_source: str = "unknown"
    store_id: str | int
    data: dict[str, Any] = Field(default_factory=dict)
    priority: int | None = None
    occurred_at: int | str | None = None


class Indexing(Asked):
    collection_name: str
    data: dict[str, Any]


class Period(Asked):
    store_id: str
    since: Time = Field(alias="from")
    until: Time = Field(alias="to")

    @model_validator(mode="after")
    def _not_empty(self) -> Period:
        if self.since >= self.until:
            raise ValueError(f"from is {self.since} and to is {self.until}; allowed: from before to")
        return self


class Orders(Asked):
    """A list of orders, or a store and a period."""

    orders: list[Any] | None = None
    store_id: str | None = None
    since: Time | None = Field(None, alias="from")
    until: Time | None = Field(None, alias="to")

    @model_validator(mode="after")
    def _one_of_both(self) -> Orders:
        period = (self.store_id, self.since, self.until)
        listed, named = self.orders is not None, [p for p in period if p is not None]
        if len(named) != (0 if listed else 3):
            raise ValueError("orders, or store_id with from and to")
        return self


async def process_neural_event(ask: Event, run: Run) -> dict[str, Any]:
    event = parse({k: v for k, v in ask.model_dump().items() if v is not None}, run.stores.clock.now())
    store = await _store(event.store_id, run)
    found = await process.process(run.stores, store.tenant, event, run.still_mine)
    await run.log(_line(event, found))
    return found


async def index_to_vector_db(ask: Indexing, run: Run) -> dict[str, Any]:
    id = await batch.put(run.stores, run.tenant, ask.collection_name, ask.data)
    return {"collection_name": ask.collection_name, "id": id}


async def batch_index_orders(ask: Orders, run: Run) -> dict[str, Any]:
    if ask.orders is not None:
        found = await batch.put_orders(run.stores, run.tenant, run.id, ask.orders, run.progress)
    else:
        store = await _store(str(ask.store_id), run)
        period = int(ask.since or 0), int(ask.until or 0)
        found = await batch.put_period(run.stores, store.tenant, run.id, store.id, period, run.progress)
    return {"indexed": found.indexed, "failed": found.failed}


async def analyze_store(ask: Period, run: Run) -> dict[str, Any]:
    return await analyze.analyze(run.stores, await _store(ask.store_id, run), ask.since, ask.until)


async def _store(id: str, run: Run) -> Store:
    """Of the task's tenant; the house's own tasks may name any. Raises NotFound."""
    w = run.stores
    return await Stores(w.documents, w.redis, w.settings.stores.redis_prefix, w.clock).get(id, run.tenant or SYSTEM)


def _line(event: NeuralEvent, found: Mapping[str, Any]) -> str:
    what = "seen before" if found["duplicate"] else f"{len(found['effects'])} effects"
    return f"{event.event_type} {event.event_id} of {event.store_id}: {what}"


def _queue(ask: Event) -> str:
    return queue_of(ask.event_type, ask.priority)


def _handler(call: Any, asks: type[BaseModel], queue: str, *positional: str, **more: Any) -> Handler:
    names = (f"{OLD}.{call.__name__}",)
    return Handler(call, asks, queue=queue, aliases=names, positional=positional, verdicts=BAD, **more)


HANDLERS: tuple[Handler, ...] = (
    _handler(process_neural_event, Event, HIGH, "event_id", "event_type", "event_source", "store_id", "data",
             "priority", queue_of=_queue),
    _handler(index_to_vector_db, Indexing, DEFAULT, "collection_name", "data"),
    _handler(batch_index_orders, Orders, LOW, "orders"),
    _handler(analyze_store, Period, LOW, "store_id", "from", "to"),
)  # fmt: skip
