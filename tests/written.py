"""What our API appended to the log, read back as it stands: apart from the readers of the flows, which tests judge."""

from __future__ import annotations

import orjson

from ray_app.events.schema import Deleted, item_from_dict
from ray_app.types import Behavior, Item


def read_behavior(body: bytes) -> Behavior:
    return Behavior(**orjson.loads(body))


def read_item_event(body: bytes) -> Item | Deleted:
    event = orjson.loads(body)
    if event["change"] == "delete":
        return Deleted(event["tenant"], event["id"], event["version"])
    return item_from_dict(event["item"])
