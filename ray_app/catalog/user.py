"""Users: known fields of a person. What they did lies in the profile; neither needs the other to exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_app.catalog.item import parse_attributes, parse_version
from ray_app.events.schema import parse_id, refuse_unknown
from ray_app.stores.base import Document

KIND = "users"
FIELDS = ("user_id", "attributes", "version")


def parse(raw: Mapping[str, Any], now: int) -> Document:
    """Raises InvalidField for the first field that is not allowed."""
    refuse_unknown(raw, FIELDS)
    id, version = parse_id("user_id", raw.get("user_id")), parse_version(raw.get("version"), now)
    return Document(id, version, {"id": id, "version": version, "attributes": parse_attributes(raw.get("attributes"))})


def public(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"user_id": body["id"], "attributes": body["attributes"], "version": body["version"]}
