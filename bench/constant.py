"""An ingress that answers a constant: what Serve itself costs, behind the same doors and flags."""

from __future__ import annotations

from typing import Any

from ray import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ANSWER = b'{"request_id": "0", "items": [], "degraded": [], "arms": {}, "versions": {}}'


async def answer(request: Request) -> Response:
    await request.body()
    return Response(ANSWER, media_type="application/json")


class Constant:
    def __serve_build_asgi_app__(self) -> Any:  # the name that Serve looks for
        return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])


app = serve.deployment(serve.ingress()(Constant), name="Gateway").bind()
