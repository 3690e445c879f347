"""Every call: its method, path, body and query. What is done with it, `Lemo` and `AsyncLemo` say."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote

R = TypeVar("R")
Body = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """`safe`: sent twice it has no other effect than once. `wait_s`: the server may take so much longer."""

    method: str
    path: str
    body: Body | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    safe: bool = True
    wait_s: float = 0.0


class Calls(Generic[R]):
    """R is an answer (a JSON object), or an awaitable of one. Fields that are not given are not sent."""

    def _do(self, call: Call) -> R:
        raise NotImplementedError

    def recommend(
        self,
        scenario: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        n: int | None = None,
        context_item_id: str | None = None,
        filters: Sequence[Body] | None = None,
        exclude: Sequence[str] | None = None,
        debug: bool | None = None,
    ) -> R:
        """Ranked items for one visitor: `items`, and the `request_id` that belongs into the behaviours that follow."""
        body = given(
            scenario=scenario, user_id=user_id, session_id=session_id, n=n, context_item_id=context_item_id,
            filters=_listed(filters), exclude=_listed(exclude), debug=debug,
        )  # fmt: skip
        return self._do(Call("POST", "/api/v1/recommend", body))

    def related(
        self, item_id: str, *, n: int | None = None, user_id: str | None = None, session_id: str | None = None
    ) -> R:
        """Items near one item."""
        return self._do(get(f"/api/v1/items/{in_path(item_id)}/related", n=n, user_id=user_id, session_id=session_id))

    def popular(self, *, scenario: str | None = None, category: str | None = None, n: int | None = None) -> R:
        return self._do(get("/api/v1/popular", scenario=scenario, category=category, n=n))

    def explain(self, item_id: str, scenario: str, **ask: Any) -> R:
        """Why the item is in an answer, or why it is not; `ask` as of `recommend`."""
        return self._do(Call("POST", "/api/v1/recommend/explain", {"item_id": item_id, "scenario": scenario, **ask}))

    def trace(self, request_id: str) -> R:
        """How the answer of that id came to be."""
        return self._do(get(f"/api/v1/recommend/{in_path(request_id)}/trace"))

    def put_items(self, items: Sequence[Body], *, wait: bool = False) -> R:
        """`wait`: answer when they can be read. Give each a `version`, so that a retry overwrites nothing newer."""
        versioned = all("version" in one for one in items)
        return self._do(Call("POST", "/api/v1/items", {"items": list(items), "wait": wait}, safe=versioned))

    def get_item(self, item_id: str) -> R:
        return self._do(get(f"/api/v1/items/{in_path(item_id)}"))

    def list_items(
        self,
        *,
        limit: int | None = None,
        after: str | None = None,
        category: str | None = None,
        type: str | None = None,
    ) -> R:
        """By id; `next` of the answer is the next page's `after`."""
        return self._do(get("/api/v1/items", limit=limit, after=after, category=category, type=type))

    def delete_item(self, item_id: str, *, version: int | None = None, wait: bool = False) -> R:
        query = _query(version=version, wait=wait)
        path = f"/api/v1/items/{in_path(item_id)}"
        return self._do(Call("DELETE", path, query=query, safe=version is not None))

    def track(self, behaviors: Sequence[Body], *, wait: bool = False) -> R:
        """What visitors did. `event_id` and `occurred_at` (now) are added where they are absent."""
        now = time.time_ns() // 1_000_000
        made = [{"event_id": uuid.uuid4().hex, "occurred_at": now, **one} for one in behaviors]
        return self._do(Call("POST", "/api/v1/behaviors", {"behaviors": made, "wait": wait}))

    def put_users(self, users: Sequence[Body]) -> R:
        versioned = all("version" in one for one in users)
        return self._do(Call("POST", "/api/v1/users", {"users": list(users)}, safe=versioned))

    def get_user(self, user_id: str) -> R:
        return self._do(get(f"/api/v1/users/{in_path(user_id)}"))

    def profile(self, user_id: str) -> R:
        """What the user did lately, and cared for over months."""
        return self._do(get(f"/api/v1/users/{in_path(user_id)}/profile"))

    def scenarios(self) -> R:
        return self._do(get("/api/v1/scenarios"))

    def put_scenario(self, scenario: str, **fields: Any) -> R:
        """Make it, or change the fields that are given."""
        return self._do(Call("PUT", f"/api/v1/scenarios/{in_path(scenario)}", fields))

    def rules(self) -> R:
        return self._do(get("/api/v1/rules"))

    def put_rule(self, rule: str, action: str, items: Sequence[Body], **fields: Any) -> R:
        body = {"action": action, "items": list(items), **fields}
        return self._do(Call("PUT", f"/api/v1/rules/{in_path(rule)}", body))

    def delete_rule(self, rule: str) -> R:
        return self._do(Call("DELETE", f"/api/v1/rules/{in_path(rule)}"))

    def realtime(
        self,
        *,
        window: str | None = None,
        n: int | None = None,
        scenario: str | None = None,
        arm: str | None = None,
    ) -> R:
        """Impressions, clicks, conversions and users of the last windows: `1m`, `1h` or `1d`."""
        return self._do(get("/api/v1/analytics/realtime", window=window, n=n, scenario=scenario, arm=arm))

    def put_store(self, store: str, **fields: Any) -> R:
        """Written whole."""
        return self._do(Call("PUT", f"/api/v1/stores/{in_path(store)}", fields))

    def get_store(self, store: str) -> R:
        return self._do(get(f"/api/v1/stores/{in_path(store)}"))

    def list_stores(self, *, limit: int | None = None, after: str | None = None) -> R:
        return self._do(get("/api/v1/stores", limit=limit, after=after))

    def send_events(self, events: Sequence[Body]) -> R:
        """What stores report; `tasks` of the answer are the ids of the tasks that they become."""
        return self._do(Call("POST", "/api/v1/neural-events", {"events": list(events)}))

    def search_events(self, q: str | None = None, **asked: Any) -> R:
        """By text, or the newest; `asked`: type, store, source, from, to, n."""
        return self._do(get("/api/v1/neural-events/search", q=q, **asked))

    def get_event(self, event_id: str) -> R:
        return self._do(get(f"/api/v1/neural-events/{in_path(event_id)}"))

    def search_collection(self, collection: str, q: str | None = None, *, n: int | None = None) -> R:
        """What tasks put into the vector database."""
        return self._do(get(f"/api/v1/collections/{in_path(collection)}/search", q=q, n=n))

    def list_sources(self) -> R:
        """Where content comes from."""
        return self._do(get("/api/v1/sources"))

    def get_source(self, source: str) -> R:
        return self._do(get(f"/api/v1/sources/{in_path(source)}"))

    def put_source(self, source: str, kind: str, url: str, **fields: Any) -> R:
        """`kind`: rss, sitemap, html or json. Written whole."""
        return self._do(Call("PUT", f"/api/v1/sources/{in_path(source)}", {"kind": kind, "url": url, **fields}))

    def delete_source(self, source: str) -> R:
        return self._do(Call("DELETE", f"/api/v1/sources/{in_path(source)}"))

    def list_documents(
        self,
        *,
        limit: int | None = None,
        after: str | None = None,
        status: str | None = None,
        source_id: str | None = None,
    ) -> R:
        return self._do(get("/api/v1/documents", limit=limit, after=after, status=status, source_id=source_id))

    def search_documents(self, q: str, *, n: int | None = None) -> R:
        return self._do(get("/api/v1/documents/search", q=q, n=n))

    def get_document(self, document_id: str) -> R:
        return self._do(get(f"/api/v1/documents/{in_path(document_id)}"))

    def get_task(self, id: str, *, wait_s: float = 0.0) -> R:
        """With `wait_s` (up to 30) it answers when the task has ended, or after that time as it is."""
        query = {"wait_s": f"{wait_s:g}"} if wait_s else {}
        return self._do(Call("GET", f"/api/v1/tasks/{in_path(id)}", query=query, wait_s=wait_s))

    def list_tasks(self, *, state: str | None = None, group: str | None = None, limit: int | None = None) -> R:
        return self._do(get("/api/v1/tasks", state=state, group=group, limit=limit))

    def cancel_task(self, id: str) -> R:
        return self._do(Call("POST", f"/api/v1/tasks/{in_path(id)}/cancel"))

    def task_history(
        self,
        *,
        id: str | None = None,
        task: str | None = None,
        state: str | None = None,
        group: str | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> R:
        """Attempts that ended, the newest first; `before` in ms since 1970."""
        asked = {"id": id, "task": task, "state": state, "group": group, "before": before, "limit": limit}
        return self._do(get("/api/v1/tasks/history", **asked))

    def dead_tasks(self, *, limit: int | None = None) -> R:
        return self._do(get("/api/v1/dead-tasks", limit=limit))

    def list_reports(self) -> R:
        """The tenant's weekly reports, the newest first."""
        return self._do(get("/api/v1/reports"))

    def get_report(self, id: str) -> R:
        return self._do(get(f"/api/v1/reports/{in_path(id)}"))

    def replay_dead_tasks(self, ids: Sequence[str]) -> R:
        """They begin again. One that was replayed and died once more meanwhile would begin a third time."""
        return self._do(Call("POST", "/api/v1/dead-tasks/replay", {"ids": list(ids)}, safe=False))

    def drop_dead_tasks(self, ids: Sequence[str]) -> R:
        return self._do(Call("POST", "/api/v1/dead-tasks/drop", {"ids": list(ids)}))


def part(
    name: str,
    argument: Body | None = None,
    *,
    args: Sequence[Any] | None = None,
    kwargs: Body | None = None,
    eta: datetime | int | None = None,
    after: Sequence[str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One task, or one part of a chain or group. `args` and `kwargs`: as old producers send them, in place of
    `argument`. `eta`: a datetime, or ms since 1970. `more`: id, key, queue, priority, countdown_s, whatever, group."""
    at = int(eta.astimezone(UTC).timestamp() * 1000) if isinstance(eta, datetime) else eta
    named = dict(argument) if argument is not None else None
    return given(name=name, argument=named, args=_listed(args), kwargs=kwargs, eta=at, after=_listed(after), **more)


def submission(wanted: Body) -> Call:
    """A call that makes one task, however often it is sent: an id is made where it has neither id nor key."""
    mark = {} if wanted.get("id") or wanted.get("key") else {"id": uuid.uuid4().hex}
    return Call("POST", "/api/v1/tasks", {**wanted, **mark})


def submissions(wanted: Sequence[Body]) -> Call:
    return Call("POST", "/api/v1/tasks", {"tasks": [submission(one).body for one in wanted]})


def composed(key: str | None, **wanted: Any) -> Call:
    """A chain, or a group with `then`; a key makes it one, however often it is sent."""
    return Call("POST", "/api/v1/tasks", given(**wanted, key=key or uuid.uuid4().hex))


def given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _listed(values: Sequence[Any] | None) -> list[Any] | None:
    return None if values is None else list(values)


def get(path: str, **asked: Any) -> Call:
    return Call("GET", path, query=_query(**asked))


def _query(**asked: Any) -> dict[str, str]:
    return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in given(**asked).items()}


def in_path(id: str) -> str:
    return quote(id, safe="")
