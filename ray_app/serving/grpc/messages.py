"""Messages and the plain objects that use cases take and give: a field that was not set is absent, never a default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf import struct_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)
FREE = (struct_pb2.Struct.DESCRIPTOR.full_name, struct_pb2.Value.DESCRIPTOR.full_name)


def as_dict(message: Message) -> dict[str, Any]:
    """Fields that are set, by their proto name; integers stay integers, and a plain number field that was left at 0
    counts as absent."""
    return {field.name: _plain(field, value) for field, value in message.ListFields()}


def _plain(field: Any, value: Any) -> Any:
    if field.message_type is None:
        return list(value) if field.is_repeated else value
    if field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_message(field, v) for v in value]
    return _message(field, value)


def _message(field: Any, value: Message) -> Any:
    return MessageToDict(value) if field.message_type.full_name in FREE else as_dict(value)


def as_message(cls: type[M], answer: Mapping[str, Any]) -> M:
    """`answer` has the fields of `cls`."""
    return ParseDict(dict(answer), cls())
