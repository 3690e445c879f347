"""The two clients: `Lemo` waits, `AsyncLemo` is awaited. Both have the calls of calls.py
and operators.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any

import httpx

from lemo_client import calls
from lemo_client.calls import Body, Call, part
from lemo_client.errors import Refused, Unreachable
from lemo_client.operators import OperatorCalls
from lemo_client.retry import Retries
from lemo_client.tasks import AsyncTaskResult, TaskResult

URL = "http://127.0.0.1:10071"
Answer = dict[str, Any]


class Lemo(OperatorCalls[Answer]):
    """`key`: an API key, which says whose data it is. `transport`: another one of httpx, as tests have it. Close it, or
    use it in a `with`; one client may be shared by threads."""

    def __init__(
        self,
        key: str,
        url: str = URL,
        *,
        timeout_s: float = 10.0,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retries, self._timeout_s = retries or Retries(), timeout_s
        self._http = httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=timeout_s, transport=transport)

    def submit(self, name: str, argument: Body | None = None, **how: Any) -> TaskResult:
        """Submit a task: `name` of its handler, or one of its old names; `how` as of `part`."""
        found = self._do(calls.submission(part(name, argument, **how)))
        return TaskResult(self, found["id"])

    def submit_many(self, tasks: Sequence[Body]) -> list[TaskResult]:
        """All or none of what `part` made."""
        return [TaskResult(self, id) for id in self._do(calls.submissions(tasks))["ids"]]

    def chain(self, *tasks: Body, key: str | None = None) -> TaskResult:
        """One after another, each once the one before has succeeded; the result of the last."""
        found = self._do(calls.composed(key, chain=list(tasks)))
        return TaskResult(self, found["last"][0])

    def group(self, *tasks: Body, then: Body | None = None, key: str | None = None) -> list[TaskResult]:
        """All at once; with `then` the result of that callback alone, else one for each."""
        found = self._do(calls.composed(key, group=list(tasks), then=then))
        return [TaskResult(self, id) for id in found["last"]]

    def result(self, id: str) -> TaskResult:
        """Of a task that was submitted before, by whomever."""
        return TaskResult(self, id)

    def wait(self, id: str, timeout_s: float | None = None) -> Any:
        """What the task returned. Raises TaskFailed, TaskTimeout."""
        return TaskResult(self, id).wait(timeout_s)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Lemo:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

    def _do(self, call: Call) -> Answer:
        tries = 0
        while True:
            tries += 1
            try:
                answer = self._http.request(**_sent(call, self._timeout_s))
            except httpx.TransportError as e:
                pause = self._retries.after_error(call, e, tries)
                if pause is None:
                    raise _unreachable(self._http.base_url, e) from e
            else:
                pause = self._retries.after_answer(answer, tries)
                if pause is None:
                    return _read(answer)
            time.sleep(pause)


class AsyncLemo(OperatorCalls[Awaitable[Answer]]):
    """As Lemo, awaited. One client belongs to one event loop."""

    def __init__(
        self,
        key: str,
        url: str = URL,
        *,
        timeout_s: float = 10.0,
        retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retries, self._timeout_s = retries or Retries(), timeout_s
        self._http = httpx.AsyncClient(
            base_url=url, headers={"X-API-Key": key}, timeout=timeout_s, transport=transport
        )  # fmt: skip

    async def submit(self, name: str, argument: Body | None = None, **how: Any) -> AsyncTaskResult:
        """As Lemo.submit."""
        found = await self._do(calls.submission(part(name, argument, **how)))
        return AsyncTaskResult(self, found["id"])

    async def submit_many(self, tasks: Sequence[Body]) -> list[AsyncTaskResult]:
        """As Lemo.submit_many."""
        return [AsyncTaskResult(self, id) for id in (await self._do(calls.submissions(tasks)))["ids"]]

    async def chain(self, *tasks: Body, key: str | None = None) -> AsyncTaskResult:
        """As Lemo.chain."""
        found = await self._do(calls.composed(key, chain=list(tasks)))
        return AsyncTaskResult(self, found["last"][0])

    async def group(self, *tasks: Body, then: Body | None = None, key: str | None = None) -> list[AsyncTaskResult]:
        """As Lemo.group."""
        found = await self._do(calls.composed(key, group=list(tasks), then=then))
        return [AsyncTaskResult(self, id) for id in found["last"]]

    def result(self, id: str) -> AsyncTaskResult:
        """As Lemo.result."""
        return AsyncTaskResult(self, id)

    async def wait(self, id: str, timeout_s: float | None = None) -> Any:
        """As Lemo.wait."""
        return await AsyncTaskResult(self, id).wait(timeout_s)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> AsyncLemo:
        return self

    async def __aexit__(self, *why: object) -> None:
        await self.close()

    async def _do(self, call: Call) -> Answer:
        tries = 0
        while True:
            tries += 1
            try:
                answer = await self._http.request(**_sent(call, self._timeout_s))
            except httpx.TransportError as e:
                pause = self._retries.after_error(call, e, tries)
                if pause is None:
                    raise _unreachable(self._http.base_url, e) from e
            else:
                pause = self._retries.after_answer(answer, tries)
                if pause is None:
                    return _read(answer)
            await asyncio.sleep(pause)


def _sent(call: Call, timeout_s: float) -> dict[str, Any]:
    body = {} if call.body is None else {"json": dict(call.body)}
    asked = {"method": call.method, "url": call.path, "params": dict(call.query) or None, **body}
    return {**asked, "timeout": timeout_s + call.wait_s}


def _read(answer: httpx.Response) -> Answer:
    """Raises Refused."""
    try:
        body = answer.json()
    except ValueError:
        body = {"message": f"{answer.url} answered {answer.status_code} with what is no JSON: {answer.text[:200]!r}"}
        raise Refused(answer.status_code, body) from None
    if not answer.is_success or not isinstance(body, dict):
        raise Refused(answer.status_code, body if isinstance(body, dict) else {"message": str(body)[:200]})
    return body


def _unreachable(url: httpx.URL, e: Exception) -> Unreachable:
    return Unreachable(f"{url} did not answer: {type(e).__name__}: {e}. Is Lemo up, and is the URL right?")
