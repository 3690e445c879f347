"""Import: rows of a file to the event log, through the same checks as the API; what is bad goes to a rejects file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from ray_app.catalog import item
from ray_app.errors import InvalidField, LemoError
from ray_app.events.base import Appended, Entry
from ray_app.events.schema import behavior_entry, item_entry, parse_behavior
from ray_app.operations.files import BATCH, batches, kind_of
from ray_app.operations.mapping import TIMES, Map, typed
from ray_app.operations.stores import Target
from ray_app.types import DAY_MS

Told = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Progress:
    """How far an import of one file with one map has come; `shift_ms` was decided when it began. `ends`: the last
    position written, by partition. `pending`: where the log ended when a batch was begun that is not finished."""

    rows: int = 0
    rejected: int = 0
    shift_ms: int = 0
    done: bool = False
    ends: dict[str, int] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Import:
    """One file on its way into the log. `history` lifts the age limit of the API. `rejects` is appended to."""

    stores: Target
    tenant: str
    file: Path
    map: Map
    rejects: Path
    history: bool = False
    shift_ms: int | None = None

    @property
    def topic(self) -> str:
        events = self.stores.settings.events
        return events.item_topic if self.map.kind == "items" else events.behavior_topic

    def place(self) -> Path:
        """Where the progress is kept, so that the same import goes on where it was cut off."""
        kind_of(self.file)  # says what is wrong with a file that is absent or of an unknown kind
        stat = self.file.stat()
        what = [str(self.file.resolve()), stat.st_size, stat.st_mtime_ns, self.tenant, self.map.kind, self.history]
        name = sha256(orjson.dumps([*what, self.map.section.model_dump()])).hexdigest()[:16]
        return self.stores.settings.data / "imports" / f"{name}.json"

    async def run(self, told: Told = lambda rows, rejected, total: None) -> Progress:
        """Append every good row. `told(rows, rejected, total)` after each batch. Of a batch that was cut off, what the
        log has already is not sent again: flows know a repeated id for ten minutes only."""
        place, progress = self.place(), self.begun()
        total, last = await asyncio.to_thread(self._look)
        if progress is None:
            progress = Progress(shift_ms=self._shift(last))
        if progress.done:
            return progress
        read, number = self.map.reader(), 0
        for batch in batches(self.file):
            number += len(batch)
            if number <= progress.rows:
                continue
            entries, bad = await asyncio.to_thread(self._parse, batch, number - len(batch), read, progress.shift_ms)
            sent = await self._sent(progress.pending)
            progress = replace(progress, pending=progress.pending or await self._log_ends())
            _save(place, progress)
            appended = await self.stores.log.append(self.topic, [e for e in entries if e.body not in sent])
            _write_rejects(self.rejects, bad)
            ends = _ends(progress.ends, [*sent.values(), *appended])
            progress = replace(progress, rows=number, rejected=progress.rejected + len(bad), ends=ends, pending={})
            _save(place, progress)
            told(progress.rows, progress.rejected, max(total, number))
        progress = replace(progress, done=True)
        _save(place, progress)
        return progress

    async def _log_ends(self) -> dict[str, int]:
        log = self.stores.log
        return {str(p): await log.end(self.topic, p) for p in range(await log.partitions(self.topic))}

    async def _sent(self, pending: dict[str, int]) -> dict[bytes, Appended]:
        """What stands in the log since `pending`, by its bytes."""
        found: dict[bytes, Appended] = {}
        for partition, position in pending.items():
            while entries := await self.stores.log.read(self.topic, int(partition), position, BATCH):
                found |= {e.body: Appended(e.topic, e.partition, e.position) for e in entries}
                position = entries[-1].position + 1
        return found

    def begun(self) -> Progress | None:
        """How far this import has come; None before its first batch."""
        return _load(self.place())

    async def shift(self) -> int:
        """How far (ms) the dates of this file move, also when its import has begun already."""
        progress = self.begun()
        return progress.shift_ms if progress else self._shift((await asyncio.to_thread(self._look))[1])

    def _parse(
        self, batch: list[dict[str, Any]], before: int, read: Callable[[Any, int], dict[str, Any]], shift_ms: int
    ) -> tuple[list[Entry], list[dict[str, Any]]]:
        entries, bad, now = [], [], self.stores.clock.now()
        fixed = _times(self.map.section.time_format, shift_ms)
        for number, row in enumerate(batch, before + 1):
            try:
                if "" in row:
                    raise InvalidField("row", row[""], "as many cells as the header has, or one JSON object a line")
                fields = typed(read(row, number))
                fields |= {name: fixed(fields[name]) for name in TIMES if name in fields}
                entries.append(self._entry(fields, now))
            except LemoError as e:
                bad.append(
                    {"row": number, "reason": e.reason, "message": e.message, "metadata": e.metadata, "was": row}
                )
        return entries, bad

    def _entry(self, fields: dict[str, Any], now: int) -> Entry:
        if self.map.kind == "items":
            return item_entry(item.parse(fields, self.tenant, now))
        return behavior_entry(parse_behavior(fields, self.tenant, now, self.history))

    def _look(self) -> tuple[int, int | None]:
        """How many rows there are, and the latest time (ms) where dates are to be shifted."""
        column, last, rows = self.map.column_of("occurred_at"), None, 0
        fixed = _times(self.map.section.time_format, 0)
        known: dict[str, int] = {}
        for batch in batches(self.file):
            rows += len(batch)
            if not self.map.section.shift_to_yesterday or column is None:
                continue
            for text in {str(row.get(column)) for row in batch} - known.keys():
                at = fixed(text)
                known[text] = at if isinstance(at, int) else 0
            last = max(known.values(), default=None)
        return rows, last

    def _shift(self, last: int | None) -> int:
        """Whole days, so that the time of the day stays: the last row becomes one of yesterday."""
        if self.shift_ms is not None:
            return self.shift_ms
        if last is None or not self.map.section.shift_to_yesterday:
            return 0
        yesterday = datetime.fromtimestamp(self.stores.clock.now() / 1000, UTC).date() - timedelta(days=1)
        return (yesterday - datetime.fromtimestamp(last / 1000, UTC).date()).days * DAY_MS


def _times(format: str | None, shift_ms: int) -> Callable[[object], object]:
    """A time as the API takes it, moved by `shift_ms`; what is no time stays as it is, to be refused by name."""
    held: dict[str, object] = {}  # dates of a file repeat: an order has many lines

    def fix(value: object) -> object:
        if not isinstance(value, str):
            return _time(value, format, shift_ms)
        found = held.get(value)
        if found is None:
            if len(held) > 10 * BATCH:
                held.clear()
            found = held[value] = _time(value, format, shift_ms)
        return found

    return fix


def _time(value: object, format: str | None, shift_ms: int) -> object:
    try:
        if isinstance(value, str) and value.isdigit() and not format:
            return int(value) + shift_ms
        if isinstance(value, str):
            at = datetime.strptime(value, format) if format else datetime.fromisoformat(value)
        elif isinstance(value, datetime):
            at = value
        else:
            return value + shift_ms if isinstance(value, int) and not isinstance(value, bool) else value
    except ValueError:
        return value
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000) + shift_ms


def _ends(before: dict[str, int], appended: list[Appended]) -> dict[str, int]:
    ends = dict(before)
    for a in appended:
        ends[str(a.partition)] = max(a.position, ends.get(str(a.partition), -1))
    return ends


def appended(progress: Progress, topic: str) -> list[Appended]:
    """The last entry of each partition, for `wait_applied`."""
    return [Appended(topic, int(p), position) for p, position in progress.ends.items()]


def _load(place: Path) -> Progress | None:
    return Progress(**orjson.loads(place.read_bytes())) if place.exists() else None


def _save(place: Path, progress: Progress) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_suffix(".part")
    part.write_bytes(orjson.dumps(asdict(progress)))
    part.replace(place)


def _write_rejects(file: Path, bad: list[dict[str, Any]]) -> None:
    if bad:
        with file.open("ab") as out:
            out.writelines(_lines(bad))


def _lines(bad: list[dict[str, Any]]) -> Iterator[bytes]:
    for one in bad:
        text = json.dumps(one, default=str, ensure_ascii=False)
        yield text.encode(errors="replace") + b"\n"  # and not by orjson: what was refused may be no UTF-8
