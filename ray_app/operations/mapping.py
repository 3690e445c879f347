"""A map: which columns of somebody's file are which fields of ours. TOML; see docs/import.md."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ray_app.catalog import item
from ray_app.errors import InvalidField, InvalidSettings
from ray_app.events import schema

Row = Mapping[str, Any]
KINDS = {"items": item.FIELDS, "behaviors": schema.FIELDS}
IDS = ("event_id", "user_id", "session_id", "item_id", "request_id")
NUMBERS = ("price", "value")
COUNTS = ("position", "version")
TIMES = ("occurred_at", "published_at")


class Section(BaseModel):
    """`columns`: field -> column name, or a template such as "{Invoice}-{Code}-{row}". `constants`: field -> value."""

    model_config = ConfigDict(extra="forbid")

    file: str | None = None
    columns: dict[str, str] = {}
    constants: dict[str, Any] = {}
    time_format: str | None = None
    shift_to_yesterday: bool = False


@dataclass(frozen=True)
class Map:
    """One section of a map file, made for one kind of row."""

    kind: str
    section: Section = field(default_factory=Section)
    folder: Path = Path()

    @property
    def file(self) -> Path | None:
        """The file that the map itself names, beside it."""
        return self.folder / self.section.file if self.section.file else None

    def reader(self) -> Callable[[Row, int], dict[str, Any]]:
        """A row of the file and its number (from 1) -> the fields of ours that it has."""
        if not self.section.columns and not self.section.constants:
            return lambda row, number: {k: v for k, v in row.items() if v is not None and v != ""}
        takes = [(name, _take(source)) for name, source in self.section.columns.items()]
        constants = self.section.constants

        def read(row: Row, number: int) -> dict[str, Any]:
            found = dict(constants)
            for name, take in takes:
                value = take(row, number)
                if value is not None and value != "":
                    found[name] = value
            return found

        return read

    def column_of(self, name: str) -> str | None:
        """The column behind a field, None for a template."""
        source = self.section.columns.get(name, name if not self.section.columns else None)
        return None if source is None or "{" in source else source


def load_map(file: Path | None, kind: str) -> Map:
    """Without a file the columns have our own names. Raises InvalidSettings, naming the key, for one not known."""
    if file is None:
        return Map(kind)
    try:
        tree = tomllib.loads(file.read_text())
        section = Section.model_validate(tree.get(kind, {}))
    except (OSError, tomllib.TOMLDecodeError) as e:
        raise InvalidSettings(f"the map {file} cannot be read: {e}") from None
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(str(p) for p in first["loc"])
        raise InvalidSettings(f"the map {file} has {kind}.{key}: {first['msg']}", key=key) from None
    if section.shift_to_yesterday and (kind != "behaviors" or "{" in section.columns.get("occurred_at", "")):
        raise InvalidSettings(
            f"the map {file} has {kind}.shift_to_yesterday; allowed: under [behaviors], whose dates move all others, "
            "and where occurred_at is a column, not a template",
            key="shift_to_yesterday",
        )
    for name, source in section.columns.items():
        if wrong := _wrong_template(source):
            raise InvalidSettings(f"the map {file} has {kind}.columns.{name} = {source!r}: {wrong}", key=name)
    unknown = (set(section.columns) | set(section.constants)) - set(KINDS[kind])
    if unknown or set(tree) - set(KINDS):
        name = sorted(unknown or set(tree) - set(KINDS))[0]
        allowed = KINDS[kind] if unknown else tuple(KINDS)
        raise InvalidSettings(f"the map {file} names {name!r} for {kind}; known: {', '.join(allowed)}", key=name)
    return Map(kind, section, file.parent)


def typed(fields: dict[str, Any]) -> dict[str, Any]:
    """Text of a CSV as the numbers and lists that the API takes, and ids that JSON or Parquet hold as numbers as text;
    what cannot be one stays, to be refused by name."""
    for name in IDS:
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            fields[name] = str(value)
    for name in (*NUMBERS, *COUNTS):
        value = fields.get(name)
        if isinstance(value, str):
            fields[name] = _number(value, name in COUNTS)
    for name in ("tags", "media"):
        if isinstance(fields.get(name), str):
            fields[name] = [t.strip() for t in fields[name].split("|") if t.strip()]
    return fields


def _number(value: str, whole: bool) -> float | int | str:
    try:
        return int(value) if whole else float(value)
    except ValueError:
        return value


def _wrong_template(source: str) -> str | None:
    """What a template may not hold: braces that do not close, or a name that would be read as an attribute."""
    try:
        names = [name for _, name, _, _ in Formatter().parse(source) if name is not None]
    except ValueError as e:
        return f"{e}; allowed: {{Column}}, each brace closed"
    wrong = [n for n in names if not n or any(c in n for c in ".[]!")]
    return f"the name {wrong[0]!r} cannot stand in braces; allowed: a column's name without . [ ] !" if wrong else None


def _take(source: str) -> Callable[[Row, int], Any]:
    if "{" not in source:
        return lambda row, number: row.get(source)
    names = [name for _, name, _, _ in Formatter().parse(source) if name]

    def fill(row: Row, number: int) -> str:
        values = {**{n: row.get(n) for n in names}, "row": number}
        missing = [n for n, v in values.items() if v is None]
        if missing:
            raise InvalidField(missing[0], None, f"a value, since the map's template {source!r} needs it")
        return source.format_map(values)

    return fill
