"""Calls that need an operator's key: what belongs to the house and not to one tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from lemo_client.calls import Call, Calls, get, given, in_path

R = TypeVar("R")


class OperatorCalls(Calls[R]):
    """With a tenant's key each of them raises Refused, reason FORBIDDEN."""

    def list_schedules(self, *, limit: int | None = None, after: str | None = None) -> R:
        return self._do(get("/api/v1/schedules", limit=limit, after=after))

    def get_schedule(self, id: str, *, n: int | None = None, limit: int | None = None) -> R:
        """Where it stands, its next `n` due times, and the newest `limit` lines of its ledger."""
        return self._do(get(f"/api/v1/schedules/{in_path(id)}", n=n, limit=limit))

    def put_schedule(self, id: str, handler: str, **fields: Any) -> R:
        """`fields`: cron or every_s, argument, tenant, zone, overlap and others, as docs/schedules.md has them."""
        return self._do(Call("PUT", f"/api/v1/schedules/{in_path(id)}", {"handler": handler, **fields}))

    def delete_schedule(self, id: str) -> R:
        return self._do(Call("DELETE", f"/api/v1/schedules/{in_path(id)}", safe=False))

    def pause_schedule(self, id: str, note: str | None = None) -> R:
        return self._do(Call("POST", f"/api/v1/schedules/{in_path(id)}/pause", given(note=note)))

    def resume_schedule(self, id: str) -> R:
        return self._do(Call("POST", f"/api/v1/schedules/{in_path(id)}/resume", {}))

    def trigger_schedule(self, id: str) -> R:
        """Once, now; the id of the task. Not sent again where an answer was lost: it would run twice."""
        return self._do(Call("POST", f"/api/v1/schedules/{in_path(id)}/trigger", {}, safe=False))

    def backfill_schedule(self, id: str, since: str | int, until: str | int, order: str | None = None) -> R:
        """What was due from `since` to `until` and did not run; each instant runs once."""
        asked = {"from": since, "to": until, **given(order=order)}
        return self._do(Call("POST", f"/api/v1/schedules/{in_path(id)}/backfill", asked))

    def preview_schedule(self, **fields: Any) -> R:
        """The next due times of a schedule that is not written."""
        return self._do(Call("POST", "/api/v1/schedules/preview", fields))

    def status(self) -> R:
        """What the last health check found."""
        return self._do(get("/api/v1/status"))

    def list_alerts(self, *, n: int | None = None) -> R:
        return self._do(get("/api/v1/alerts", n=n))

    def list_workers(self) -> R:
        return self._do(get("/api/v1/workers"))

    def list_queues(self) -> R:
        return self._do(get("/api/v1/queues"))

    def list_pools(self) -> R:
        return self._do(get("/api/v1/pools"))

    def get_pool(self, pool: str) -> R:
        return self._do(get(f"/api/v1/pools/{in_path(pool)}"))

    def steer_pool(self, pool: str, **wanted: Any) -> R:
        """`wanted`: slots, paused, queues, replicas, restart."""
        safe = "restart" not in wanted
        return self._do(Call("PUT", f"/api/v1/pools/{in_path(pool)}", wanted, safe=safe))

    def list_streams(self) -> R:
        return self._do(get("/api/v1/streams"))

    def steer_stream(self, flow: str, paused: bool) -> R:
        return self._do(Call("PUT", f"/api/v1/streams/{in_path(flow)}", {"paused": paused}))

    def list_letters(self, topic: str | None = None) -> R:
        return self._do(get("/api/v1/dead-letters", topic=topic))

    def replay_letters(self, topic: str, ids: Sequence[str]) -> R:
        return self._do(Call("POST", "/api/v1/dead-letters/replay", {"topic": topic, "ids": list(ids)}, safe=False))

    def drop_letters(self, topic: str, ids: Sequence[str]) -> R:
        return self._do(Call("POST", "/api/v1/dead-letters/drop", {"topic": topic, "ids": list(ids)}))

    def list_models(self, tenant: str, name: str | None = None) -> R:
        return self._do(get("/api/v1/models", tenant=tenant, name=name))

    def show_model(self, tenant: str, name: str, version: str) -> R:
        return self._do(get(f"/api/v1/models/{in_path(name)}/{in_path(version)}", tenant=tenant))

    def move_model(self, tenant: str, name: str, version: str, status: str) -> R:
        """`status`: live, shadow or retired."""
        body = {"tenant": tenant, "status": status}
        return self._do(Call("PUT", f"/api/v1/models/{in_path(name)}/{in_path(version)}", body, safe=False))

    def rollback_model(self, tenant: str, name: str, version: str | None = None) -> R:
        """Back to what was live before; sent twice it would go back twice."""
        body = {"tenant": tenant, **given(version=version)}
        return self._do(Call("POST", f"/api/v1/models/{in_path(name)}/rollback", body, safe=False))

    def compare_shadow(self, tenant: str, days: int | None = None) -> R:
        return self._do(get("/api/v1/models/shadow", tenant=tenant, days=days))
