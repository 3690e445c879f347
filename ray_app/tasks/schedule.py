"""A schedule: when which handler runs, and what becomes of a due time that cannot be kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, date, datetime, tzinfo
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ray_app.errors import InvalidField

CRON = (
    "5 fields (minute hour day month weekday), or 6 with seconds first; each *, a number, a name, a range a-b, a step "
    "*/n or a list with commas; day also L and LW, weekday also 5L (the last Friday) and 1#2 (the second Monday)"
)
ID = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$"
YEAR_2100 = 4_102_444_800_000
FIRST, BOTH = "first", "both"
TIMING = ("cron", "every_s", "anchor", "zone", "gap", "fold", "jitter_s", "exclude")


class Schedule(BaseModel):
    """`cron` in local time of `zone`, or every `every_s` seconds counted from `anchor` (ms), which never drifts.

    `gap`: a local time that the clock leaps over is skipped, or runs by the offset before (02:30 as 03:30). `fold`: of
    a local time that comes twice the first runs, or both; None: both where minutes or hours begin with *, as cron(8)
    does, else the first. `exclude`: local dates on which nothing runs.

    A due time that is reached later than `catch_up_s` is missed. Of several that are reached at once `coalesce` chooses
    the latest, the earliest, or all, the newest `most` of them. `overlap`: what happens while the one before goes on.
    `jitter_s`: each runs later by its own share of it, the same at every try. `pause_after` failures in a row: it
    pauses; 0: never. `paused`: None leaves it as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=ID)
    handler: str = Field(min_length=1, max_length=200)
    argument: Mapping[str, Any] = {}
    tenant: str = "system"
    cron: str | None = None
    every_s: int | None = Field(None, ge=1, le=400 * 86400)
    anchor: int = Field(0, ge=0, le=YEAR_2100, multiple_of=1000)
    zone: str = "UTC"
    gap: Literal["skip", "shift"] = "shift"
    fold: Literal["first", "both"] | None = None
    exclude: tuple[Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")], ...] = ()
    catch_up_s: int = Field(86400, ge=1)
    coalesce: Literal["latest", "earliest", "all"] = "latest"
    most: int = Field(10, ge=1, le=1000)
    overlap: Literal["skip", "buffer_one", "buffer_all", "allow", "cancel"] = "skip"
    jitter_s: int = Field(0, ge=0, le=86400)
    pause_after: int = Field(0, ge=0)
    paused: bool | None = None
    note: str = Field("", max_length=1000)

    @field_validator("cron")
    @classmethod
    def _cron(cls, cron: str | None) -> str | None:
        if cron is None:
            return None
        try:
            next(CronSim(cron, datetime(2000, 1, 1)))
        except CronSimError as e:
            raise ValueError(f"{CRON}. {e}") from None
        except StopIteration:
            raise ValueError(f"{CRON}. It names no day of the next 50 years") from None
        return cron

    @field_validator("zone")
    @classmethod
    def _zone(cls, name: str) -> str:
        try:
            zone_of(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                "a name of the time zone database, e.g. UTC, Europe/London, America/New_York. None is known but UTC? "
                "Install the system's tzdata"
            ) from None
        return name

    @field_validator("exclude")
    @classmethod
    def _dates(cls, dates: tuple[str, ...]) -> tuple[str, ...]:
        for one in dates:
            date.fromisoformat(one)
        return dates

    @model_validator(mode="after")
    def _one_of_both(self) -> Schedule:
        if (self.cron is None) == (self.every_s is None):
            raise ValueError("cron or every_s, and not both")
        return self

    @property
    def twice(self) -> bool:
        """A local time that comes twice runs twice."""
        if self.fold is not None or self.cron is None:
            return self.fold == BOTH
        minute, hour = self.cron.split()[-5:-3]
        return minute.startswith("*") or hour.startswith("*")

    def jitter(self, at: int) -> int:
        """Milliseconds by which the occurrence of `at` (ms) runs later; the same at every call."""
        if not self.jitter_s:
            return 0
        drawn = hashlib.blake2b(occurrence_id(self.id, at).encode(), digest_size=8).digest()
        return int.from_bytes(drawn) % (self.jitter_s * 1000)

    def same_times(self, other: Schedule) -> bool:
        """Both are due at the same times."""
        return all(getattr(self, name) == getattr(other, name) for name in TIMING)

    def public(self) -> dict[str, Any]:
        """What `parse` reads, without what is not set."""
        return self.model_dump(mode="json", exclude_none=True)


def parse(raw: Mapping[str, Any]) -> Schedule:
    """Raises InvalidField, which names the field, its value and what is allowed."""
    try:
        return Schedule.model_validate(raw)
    except ValidationError as e:
        first = e.errors()[0]
        name = ".".join(str(p) for p in first["loc"]) or "cron"
        value = first.get("input") if first["loc"] else {k: raw.get(k) for k in ("cron", "every_s")}
        allowed = ", ".join(Schedule.model_fields) if first["type"] == "extra_forbidden" else first["msg"]
        raise InvalidField(name, value, allowed.removeprefix("Value error, ")) from None


def zone_of(name: str) -> tzinfo:
    """Raises KeyError, ValueError or OSError for a name that is not one."""
    return UTC if name == "UTC" else ZoneInfo(name)


def occurrence_id(schedule: str, at: int) -> str:
    """Also the id of its task. `at`: ms."""
    return f"{schedule}@{written(at)}"


def written(at: int) -> str:
    """The instant `at` (ms) in UTC; milliseconds only where there are some."""
    precision = "milliseconds" if at % 1000 else "seconds"
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec=precision).replace("+00:00", "Z")
