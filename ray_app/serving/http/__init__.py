"""The HTTP door: routes made from the table of use cases."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from ray_app import logs
from ray_app.clock import new_id
from ray_app.errors import BodyTooLarge, InvalidBody, InvalidField, LemoError, Unavailable
from ray_app.serving.app import App
from ray_app.serving.bulk import AllRejected
from ray_app.serving.http.openapi import BODIES, NOTHING, PAGE, openapi
from ray_app.serving.use import Use
from ray_app.serving.usecases import USES

logger = logging.getLogger(__name__)
Provider = Callable[[], App]
Endpoint = Callable[[Request], Awaitable[Response]]
WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")
WHOLE = ("n", "limit", "version", "days")  # numbers, also where a query can only write them as text


def build(provider: Provider) -> Starlette:
    """`provider` gives the App when the first request comes."""
    routes = [Route(use.path, _endpoint(use, provider), methods=[use.method]) for use in USES]
    routes += [
        Route("/health", _health, methods=["GET"]),
        Route("/ready", _ready(provider), methods=["GET"]),
        Route("/api/v1/openapi.json", _openapi, methods=["GET"]),
        Route("/api/v1/docs", _docs, methods=["GET"]),
    ]
    return Starlette(routes=_merged(routes), exception_handlers={HTTPException: _no_route})


def _merged(routes: list[Route]) -> list[Route]:
    """One route for each path, so that a wrong method is told from a wrong path."""
    by_path: dict[str, dict[str, Any]] = {}
    for r in routes:
        for method in r.methods or ():
            by_path.setdefault(r.path, {}).setdefault(method, r.endpoint)
    return [Route(path, _by_method(ends), methods=sorted(ends)) for path, ends in by_path.items()]


def _by_method(ends: Mapping[str, Endpoint]) -> Endpoint:
    async def call(request: Request) -> Response:
        return await ends[request.method](request)

    return call


def _endpoint(use: Use, provider: Provider) -> Endpoint:
    async def call(request: Request) -> Response:
        logs.request_id.set(new_id())
        try:
            app = provider()
            tenant = await app.keys.tenant_of(_key(request))
            logs.tenant.set(tenant)
            return _json(await use.answer(app, tenant, await _ask(use, request, app.settings.serving.max_body_bytes)))
        except LemoError as e:
            return refusal(e)
        except Exception:
            logger.exception("a request failed", extra={"use": use.name})
            return refusal(LemoError(f"an error of ours; the log has it under request {logs.request_id.get()}"))

    return call


def _key(request: Request) -> str | None:
    key = request.headers.get("x-api-key")
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return key or (token.strip() if scheme.lower() == "bearer" else None)


async def _ask(use: Use, request: Request, most: int) -> dict[str, Any]:
    """Path, query and body as one object. Raises InvalidField for a query parameter that the use does not know."""
    body = await _body(request, most) if use.method in ("POST", "PUT") else b""
    asked = _object(body) if body or BODIES.get(use.name, NOTHING) != NOTHING else {}
    for name, value in request.query_params.multi_items():
        if name not in use.query:
            raise InvalidField(name, value, "query parameters: " + (", ".join(use.query) or "none"))
        asked[name] = int(value) if name in WHOLE and WHOLE_NUMBER.fullmatch(value) else value
        if name == "debug":
            asked[name] = {"true": True, "false": False}.get(value, value)
    return {**asked, **request.path_params}


async def _body(request: Request, most: int) -> bytes:
    """Raises BodyTooLarge as soon as it is known, also when the length is absent or not true."""
    told = request.headers.get("content-length", "")
    body = bytearray()
    if not told.isdigit() or int(told) <= most:
        async for part in request.stream():
            body += part
            if len(body) > most:
                break
        else:
            return bytes(body)
    raise BodyTooLarge(most)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as e:
        raise InvalidBody(f"the body is not JSON: {e}. Send an object in UTF-8") from None
    if not isinstance(found, dict):
        raise InvalidBody(f"the body is a JSON {type(found).__name__}; allowed: an object")
    return found


def refusal(e: LemoError) -> Response:
    body = {"code": e.status, "reason": e.reason, "message": e.message, "metadata": dict(e.metadata)}
    if isinstance(e, AllRejected):
        body |= e.answer
    headers = {"Retry-After": str(e.retry_after_s)} if isinstance(e, Unavailable) else {}
    return _json(body, e.status, headers)


def _json(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


async def _no_route(request: Request, e: Exception) -> Response:
    """404 and 405 in the shape of every other error."""
    status = e.status_code if isinstance(e, HTTPException) else 500
    known = sorted({u.path.replace(":path", "") for u in USES})
    reason = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(status, "INTERNAL")
    message = f"{request.method} {request.url.path} is not served. See /api/v1/docs"
    return _json(
        {"code": status, "reason": reason, "message": message, "metadata": {"allowed": ", ".join(known)}}, status
    )


async def _health(request: Request) -> Response:
    """The process answers; says nothing of the stores."""
    return _json({"status": "ok"})


def _ready(provider: Provider) -> Endpoint:
    async def call(request: Request) -> Response:
        """200 when recommendations can be made and events taken; 503 with the reasons otherwise."""
        away = await provider().check()
        needed = {k: why for k, why in away.items() if k != "analytics"}
        return _json({"ready": not needed, "away": away}, 503 if needed else 200)

    return call


async def _openapi(request: Request) -> Response:
    return _json(openapi())


async def _docs(request: Request) -> Response:
    return HTMLResponse(PAGE)
