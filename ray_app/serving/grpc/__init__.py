"""The gRPC door: methods made from the table of use cases; Serve calls them by name."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf import struct_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2

from ray_app import logs
from ray_app.clock import new_id
from ray_app.errors import BodyTooLarge, LemoError
from ray_app.serving.app import App
from ray_app.serving.bulk import AllRejected
from ray_app.serving.grpc.lemo.v1 import bulk_pb2, item_pb2, recommendation_pb2
from ray_app.serving.grpc.messages import as_dict, as_message
from ray_app.serving.use import Use
from ray_app.serving.usecases import USES

logger = logging.getLogger(__name__)
MOST_SHOWN = 10  # rejections in the details: a header is no place for a thousand
Method = Callable[..., Awaitable[Message]]
ANSWERS: Mapping[str, type[Message]] = {
    "Recommend": recommendation_pb2.RecommendResponse,
    "GetTrace": struct_pb2.Struct,
    "Explain": struct_pb2.Struct,
    "ListPopular": recommendation_pb2.ListPopularResponse,
    "UpsertItems": bulk_pb2.BulkResponse,
    "GetItem": item_pb2.CatalogItem,
    "ListItems": item_pb2.ListItemsResponse,
    "DeleteItem": bulk_pb2.BulkResponse,
    "TrackBehaviors": bulk_pb2.BulkResponse,
}


def _method(use: Use) -> Method:
    answer = ANSWERS[str(use.rpc)]

    async def call(self: Any, request: Message, grpc_context: Any) -> Message:
        logs.request_id.set(new_id())
        try:
            app: App = self.lemo
            tenant = await app.keys.tenant_of(_key(grpc_context))
            logs.tenant.set(tenant)
            if request.ByteSize() > app.settings.serving.max_body_bytes:
                raise BodyTooLarge(app.settings.serving.max_body_bytes)
            return as_message(answer, await use.answer(app, tenant, as_dict(request)))
        except AllRejected as e:
            refuse(grpc_context, e, as_message(answer, {**e.answer, "rejected": e.answer["rejected"][:MOST_SHOWN]}))
        except LemoError as e:
            refuse(grpc_context, e)
        except Exception:
            logger.exception("a call failed", extra={"use": use.name})
            refuse(grpc_context, LemoError(f"an error of ours; the log has it under request {logs.request_id.get()}"))
        return answer()

    call.__name__ = str(use.rpc)
    return call


def _key(context: Any) -> str | None:
    sent = {str(k).lower(): v for k, v in context.invocation_metadata()}
    scheme, _, token = str(sent.get("authorization", "")).partition(" ")
    return sent.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else None)


def refuse(context: Any, e: LemoError, answer: Message | None = None) -> None:
    """Status and message, an ErrorInfo with the same reason and metadata that HTTP answers, and the answer itself as
    a second detail, since gRPC drops the message of a call that failed."""
    code = grpc.StatusCode[e.code]
    info = error_details_pb2.ErrorInfo(reason=e.reason, domain="lemo", metadata=_ascii(e.metadata))
    status = status_pb2.Status(code=code.value[0], message=e.message)
    status.details.add().Pack(info)
    if answer is not None:
        status.details.add().Pack(answer)
    context.set_code(code)
    context.set_details(e.message)
    context.set_trailing_metadata([("reason", e.reason), ("grpc-status-details-bin", status.SerializeToString())])


def _ascii(metadata: Mapping[str, str]) -> dict[str, str]:
    """Lone surrogates cannot travel in protobuf."""
    return {k: v.encode("utf-8", "replace").decode() for k, v in metadata.items()}


async def check(self: Any, request: Message, grpc_context: Any) -> health_pb2.HealthCheckResponse:
    return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


async def watch(self: Any, request: Message, grpc_context: Any) -> AsyncIterator[health_pb2.HealthCheckResponse]:
    """Refused: an open stream holds a place in the replica and holds up its drain. Clients fall back to Check."""
    grpc_context.set_code(grpc.StatusCode.UNIMPLEMENTED)
    grpc_context.set_details("Watch is not served; call Check")
    nothing: tuple[health_pb2.HealthCheckResponse, ...] = ()
    for answer in nothing:
        yield answer


METHODS: Mapping[str, Any] = {**{str(u.rpc): _method(u) for u in USES if u.rpc}, "Check": check, "Watch": watch}
