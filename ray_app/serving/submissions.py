"""What a submission says: one task, a list, a chain, or a group with a callback, which may hold one another."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from ray_app.catalog.tenant import SYSTEM, parse_tenant
from ray_app.clock import new_id
from ray_app.errors import Forbidden, InvalidField
from ray_app.events.schema import is_number, parse_id, parse_time, refuse_unknown
from ray_app.serving.fields import parse_flag
from ray_app.tasks.names import Names, checked, merged
from ray_app.tasks.pools import LEVELS, queue_of
from ray_app.tasks.queue import MOST_TASKS
from ray_app.tasks.task import Submission
from ray_app.tasks.work import Handler

FIELDS = (
    "name", "argument", "args", "kwargs", "id", "key", "queue", "priority", "eta", "countdown_s", "after", "whatever",
    "group",
)  # fmt: skip
DEEPEST = 5  # chains and groups in one another
MOST_AFTER = 1000
MOST_COUNTDOWN_S = 400 * 86400
OURS, MARKS = ("neural-", "document-"), frozenset("@.")  # of ids that the house makes
RESERVED = "history"  # GET /api/v1/tasks/history is another call


@dataclass(frozen=True, slots=True)
class Context:
    """Who submits for whom, what there is, and when: `tenant` is the key's, `queues` are those that pools serve."""

    tenant: str
    whose: str
    names: Names
    queues: Collection[str]
    now: int
    trace: str = ""


@dataclass
class Plan:
    """The tasks of one call in the order in which they are needed. `base`: their group where they name none, and the
    beginning of their ids."""

    context: Context
    base: str = field(default_factory=new_id)
    made: list[Submission] = field(default_factory=list)

    def add(self, raw: Any, after: tuple[str, ...] = (), where: str = "", deep: int = 0) -> tuple[str, ...]:
        """The ids that whatever comes next must wait for. Raises InvalidField, Forbidden, UnknownTask."""
        if deep > DEEPEST:
            raise InvalidField(where, "chains and groups", f"at most {DEEPEST} in one another")
        if isinstance(raw, Mapping) and "chain" in raw:
            refuse_unknown(raw, ("chain",))
            for n, part in enumerate(_parts("chain", raw["chain"])):
                after = self.add(part, after, f"{where}chain[{n}].", deep + 1)
            return after
        if isinstance(raw, Mapping) and isinstance(raw.get("group"), list):
            refuse_unknown(raw, ("group", "then"))
            ends = [
                self.add(part, after, f"{where}group[{n}].", deep + 1)
                for n, part in enumerate(_parts("group", raw["group"]))
            ]
            last = tuple(id for end in ends for id in end)
            return last if raw.get("then") is None else self.add(raw["then"], last, f"{where}then.", deep + 1)
        return (self._one(raw, after, where),)

    def _one(self, raw: Any, after: tuple[str, ...], where: str) -> str:
        if len(self.made) >= MOST_TASKS:
            raise InvalidField("tasks", f"more than {MOST_TASKS}", f"at most {MOST_TASKS} in one call")
        if isinstance(raw, Mapping) and raw.get("key") is not None:
            raise InvalidField(f"{where}key", raw["key"], "none here: the whole chain or group may have one")
        found = _placed(where, raw, self.context, after)
        id = found.id or f"{self.base}.{len(self.made) + 1}"
        self.made.append(replace(found, id=id, group=found.group or self.base))
        return id


def listed(raw: Any, context: Context) -> list[Submission]:
    """Tasks that wait for one another only where they say so. Raises InvalidField, naming which."""
    if not isinstance(raw, list) or not 1 <= len(raw) <= MOST_TASKS:
        raise InvalidField("tasks", raw, f"a list of 1 to {MOST_TASKS} tasks")
    return [_placed(f"tasks[{n}].", one, context) for n, one in enumerate(raw)]


def plan(raw: Mapping[str, Any], context: Context) -> tuple[Plan, tuple[str, ...]]:
    """A whole chain or group, and the ids that end last; `key` makes it one, however often it is sent: its ids are made
    of the key."""
    known = {k: v for k, v in raw.items() if k not in ("key", "tenant")}
    key = raw.get("key")
    base = new_id() if key is None else sha256(f"{context.whose}\0{parse_id('key', key)}".encode()).hexdigest()[:32]
    made = Plan(context, base)
    return made, made.add(known)


def tenant_of(raw: Mapping[str, Any], tenant: str) -> str:
    """Whose tasks: of the key; an operator may name another. Raises Forbidden."""
    if raw.get("tenant") is None:
        return tenant
    if tenant == SYSTEM:
        return parse_tenant(raw["tenant"]) if raw["tenant"] != SYSTEM else SYSTEM
    if raw["tenant"] != tenant:
        raise Forbidden(f"the key of tenant {tenant!r} may not act for another. One that may: lemo key --operator")
    return tenant


def _placed(where: str, raw: Any, context: Context, after: tuple[str, ...] = ()) -> Submission:
    try:
        return parse(raw, context, after)
    except InvalidField as e:
        raise InvalidField(f"{where}{e.field}", e.metadata["value"], e.allowed) from None


def parse(raw: Any, context: Context, after: tuple[str, ...] = ()) -> Submission:
    """One task. Raises InvalidField, Forbidden for what is for operators alone, UnknownTask."""
    refuse_unknown(raw, FIELDS)
    handler = context.names.of(parse_id("name", raw.get("name")))
    argument = _argument(raw, handler)
    _check_may(handler, argument, context.tenant)
    checked(handler, argument)
    ids = {f: parse_id(f, raw[f]) for f in ("id", "key", "group") if raw.get(f) is not None}
    _check_id(ids.get("id", ""), context.tenant)
    return Submission(
        handler.name, argument, context.whose, ids.get("id"), ids.get("key"), _queue(raw, context),
        _eta(raw, context.now), (*after, *_after(raw)), parse_flag("whatever", raw.get("whatever")),
        group=ids.get("group", ""), trace=context.trace,
    )  # fmt: skip


def _check_id(id: str, tenant: str) -> None:
    """Ids of events, of schedules' runs and of children can be foreseen: who took one first would have that task for
    done. Raises InvalidField."""
    if id == RESERVED:
        raise InvalidField("id", RESERVED, "any other id")
    if tenant != SYSTEM and (id.startswith(OURS) or not MARKS.isdisjoint(id)):
        raise InvalidField(
            "id", id, f"one without {' and '.join(sorted(MARKS))} that does not begin with {' or '.join(OURS)}"
        )


def _argument(raw: Mapping[str, Any], handler: Handler) -> dict[str, Any]:
    """`argument`, or `args` and `kwargs` as old producers send them."""
    args, kwargs = raw.get("args") or [], raw.get("kwargs") or {}
    named = raw.get("argument")
    if named is not None and (args or kwargs):
        raise InvalidField("argument", named, "either argument, or args and kwargs")
    for name, value, kind in (("argument", named or {}, dict), ("args", args, list), ("kwargs", kwargs, dict)):
        if not isinstance(value, kind):
            raise InvalidField(name, value, "a list" if kind is list else "an object")
    return merged(handler, args, kwargs if named is None else named)


def _check_may(handler: Handler, argument: Mapping[str, Any], tenant: str) -> None:
    if tenant == SYSTEM:
        return
    if handler.house:
        raise Forbidden(f"task {handler.name!r} is for operators: its work is all tenants'. A key: lemo key --operator")
    for name in ("tenant", "tenant_id"):
        if argument.get(name) not in (None, "", tenant):
            raise Forbidden(f"the key of tenant {tenant!r} may not name another tenant in an argument")


def _queue(raw: Mapping[str, Any], context: Context) -> str | None:
    """The one that is named, or the priority's. None: the handler's."""
    queue, priority = raw.get("queue"), raw.get("priority")
    if queue is not None and queue not in context.queues:
        raise InvalidField("queue", queue, ", ".join(sorted(context.queues)))
    if priority is None or queue is not None:
        return queue
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= max(LEVELS):
        raise InvalidField("priority", priority, f"0..{max(LEVELS)}, the largest is the most urgent")
    return queue_of(priority)


def _eta(raw: Mapping[str, Any], now: int) -> int:
    eta, countdown = raw.get("eta"), raw.get("countdown_s")
    if countdown is None:
        return 0 if eta is None else parse_time("eta", eta)
    if eta is not None:
        raise InvalidField("countdown_s", countdown, "either eta or countdown_s")
    if not is_number(countdown) or not 0 <= countdown <= MOST_COUNTDOWN_S:
        raise InvalidField("countdown_s", countdown, f"seconds, 0 to {MOST_COUNTDOWN_S}")
    return now + int(countdown * 1000)


def _after(raw: Mapping[str, Any]) -> tuple[str, ...]:
    after = raw.get("after")
    if after is None:
        return ()
    if not isinstance(after, list) or len(after) > MOST_AFTER:
        raise InvalidField("after", after, f"a list of at most {MOST_AFTER} ids of tasks")
    return tuple(parse_id("after", one) for one in after)


def _parts(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise InvalidField(name, value, "a list of one or more tasks, chains and groups")
    return value
