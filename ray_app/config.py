"""Settings: one typed tree, section names are package names; from a TOML file and `LEMO_<SECTION>_<FIELD>`."""

from __future__ import annotations

import os
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ray_app.errors import InvalidSettings


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Stores(Section):
    """A URL chooses the served store; none chooses the embedded one in the data folder."""

    mongodb_url: str | None = None
    redis_url: str | None = Field(None, pattern=r"^(redis|rediss|unix)://")
    redis_prefix: str = Field("lemo", pattern=r"^[a-z0-9-]{1,32}$")
    milvus_url: str | None = None
    clickhouse_url: str | None = None
    blobs_url: str | None = None
    tombstone_s: int = Field(7 * 86400, ge=60)


class Events(Section):
    kafka_url: str | None = None
    partitions: int = Field(4, ge=1, le=64)
    item_topic: str = "items-ingest"
    behavior_topic: str = "behavior-events"
    slate_topic: str = "slates"
    retention_s: int = Field(90 * 86400, ge=3600)


FlowName = Literal["items", "behaviors", "slates", "hot", "profile"]


class Streams(Section):
    group: str = "lemo-recommender-group"
    flows: tuple[FlowName, ...] = typing.get_args(FlowName)
    batch: int = Field(1000, ge=1, le=10_000)
    lease_s: float = Field(3.0, gt=0.2)
    repeat_window_s: int = Field(600, ge=1)


class Features(Section):
    """Hot score: integer sums per bucket, added up by windows of days when read. Profile: recent and seen items."""

    hot_bucket_s: int = Field(300, ge=10)
    hot_keep_s: int = Field(30 * 86400, ge=3600)
    recent_items: int = Field(200, ge=1, le=1000)
    seen_items: int = Field(2000, ge=1, le=20_000)
    profile_keep_s: int = Field(400 * 86400, ge=3600)


class Serving(Section):
    max_body_bytes: int = Field(4 * 1024 * 1024, ge=1024)


class Logs(Section):
    level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")


class Settings(Section):
    data: Path = Path(".lemo")
    stores: Stores = Stores()
    events: Events = Events()
    streams: Streams = Streams()
    features: Features = Features()
    serving: Serving = Serving()
    logs: Logs = Logs()

    @model_validator(mode="after")
    def _absolute(self) -> Settings:
        object.__setattr__(self, "data", self.data.expanduser().absolute())
        return self


def load(env: Mapping[str, str] | None = None, file: Path | None = None) -> Settings:
    """Settings from `file` (or LEMO_CONFIG), overridden by LEMO_ variables.

    Raises InvalidSettings, naming the key, for a key or value that is not known.
    """
    env = os.environ if env is None else env
    file = file or (Path(env["LEMO_CONFIG"]) if env.get("LEMO_CONFIG") else None)
    tree = _read(file) if file else {}
    for name, value in env.items():
        if name.startswith("LEMO_") and name != "LEMO_CONFIG":
            _put(tree, name, value)
    try:
        return Settings.model_validate(tree)
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(str(p) for p in first["loc"])
        raise InvalidSettings(f"setting {key} is {first.get('input')!r}: {first['msg']}", key=key) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, ValueError) as e:
        raise InvalidSettings(f"the settings {file} cannot be read: {e}", key="LEMO_CONFIG") from None


def _put(tree: dict[str, Any], name: str, value: str) -> None:
    path = name.removeprefix("LEMO_").lower()
    if path == "data":
        tree[path] = value
        return
    section, _, field = path.partition("_")
    info = Settings.model_fields.get(section)
    fields = getattr(info.annotation, "model_fields", {}) if info else {}
    if field not in fields:
        known = (
            ", ".join(f"LEMO_{section.upper()}_{f.upper()}" for f in fields)
            or "LEMO_DATA, LEMO_CONFIG, LEMO_<SECTION>_<FIELD>"
        )
        raise InvalidSettings(f"variable {name} is not a setting. Known: {known}", key=name)
    found = tree.setdefault(section, {})
    if not isinstance(found, dict):
        raise InvalidSettings(f"setting {section} is {found!r}; allowed: a table with {', '.join(fields)}", key=section)
    found[field] = value.split(",") if _is_list(fields[field].annotation) else value


def _is_list(annotation: Any) -> bool:
    return typing.get_origin(annotation) is tuple
