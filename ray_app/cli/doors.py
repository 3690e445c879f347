"""Ask the running system as a client does, through either door."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from ray_app.errors import NotFound, Unavailable

TIMEOUT_S = 10


def demo_key(data: Path) -> str:
    """Raises NotFound before the first start."""
    file = data / "demo.key"
    if not file.exists():
        raise NotFound(f"{file} does not exist; the first start makes it. Start: lemo up")
    return file.read_text().strip()


def over_http(url: str, key: str, asked: Mapping[str, Any]) -> Any:
    """The answer of POST /api/v1/recommend, a refusal included. Raises Unavailable when nothing answers."""
    try:
        answer = httpx.post(f"{url}/api/v1/recommend", json=asked, headers={"X-API-Key": key}, timeout=TIMEOUT_S)
        return answer.json()
    except (httpx.HTTPError, ValueError) as e:
        raise Unavailable(f"{url} does not answer: {e}. Is Lemo up? Start it: lemo up") from None


def over_grpc(address: str, key: str, asked: Mapping[str, Any]) -> Any:
    """The same fields from lemo.v1.Recommendation/Recommend. Raises Unavailable when nothing answers."""
    import grpc
    from google.protobuf.json_format import MessageToDict, ParseDict

    from ray_app.serving.grpc.lemo.v1 import recommendation_pb2 as pb
    from ray_app.serving.grpc.lemo.v1 import recommendation_pb2_grpc as stubs

    message, metadata = ParseDict(dict(asked), pb.RecommendRequest()), (("x-api-key", key),)
    try:
        with grpc.insecure_channel(address) as channel:
            found = stubs.RecommendationStub(channel).Recommend(message, metadata=metadata, timeout=TIMEOUT_S)
    except grpc.RpcError as e:
        raise Unavailable(f"{address} refused: {e.details()}") from None
    return MessageToDict(found, preserving_proto_field_name=True)
