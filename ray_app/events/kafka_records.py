"""From the bytes that a broker sends to entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords

from ray_app.events.base import Logged, Place


def unpack(
    place: Place, raw: bytes, position: int, aborted: Sequence[tuple[int, int]] | None = None
) -> tuple[list[Logged], int]:
    """The entries in `raw` from `position` on, and the position after them, which lies beyond markers, removed entries
    and those of aborted transactions. `aborted`: (producer, first position) of each such transaction.

    A key that is missing is "", a value that is missing is empty, and a time that is missing is 0.
    Raises KafkaError for bytes that are damaged or are compressed by a codec that is not installed.
    """
    topic, partition = place
    found: list[Logged] = []
    ahead, dropped = sorted(aborted or (), key=lambda a: a[1]), set[int]()
    batches: Any = MemoryRecords(raw)
    while batches.has_next():
        batch = batches.next_batch()
        if not batch.validate_crc():
            raise CorruptRecordException(f"the bytes of {topic}/{partition} from {batch.base_offset} on are damaged")
        while ahead and ahead[0][1] <= batch.base_offset:
            dropped.add(ahead.pop(0)[0])
        if batch.is_control_batch:
            _end_transaction(batch, dropped)
        elif not (dropped and batch.is_transactional and batch.producer_id in dropped):
            found += [
                Logged(topic, partition, at, max(0, r.timestamp or 0), _text(r.key), r.value or b"")
                for r in batch
                if (at := r.offset) >= position
            ]
        position = max(position, batch.next_offset)
    return found, position


def _text(key: bytes | None) -> str:
    return key.decode("utf-8", "backslashreplace") if key else ""


def _end_transaction(batch: Any, dropped: set[int]) -> None:
    for record in batch:
        if ControlRecord.parse(record.key) == ABORT_MARKER:
            dropped.discard(batch.producer_id)
