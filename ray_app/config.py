"""Settings: one typed tree, section names are package names; from a TOML file and `LEMO_<SECTION>_<FIELD>`."""

from __future__ import annotations

import os
import re
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ray_app.errors import InvalidSettings
from ray_app.types import BehaviorType

WEIGHTS: Mapping[BehaviorType, int] = {
    "click": 1, "play": 1, "comment": 2, "like": 2, "favourite": 3, "share": 3, "cart": 4, "purchase": 5,
}  # fmt: skip


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


CLUSTER_REFUSED = (
    "It is refused: one Lua call moves a flow, and changes keys that a Cluster keeps in many slots. "
    "Use one server (redis://, rediss://, unix://) or one behind Sentinels (sentinel://, sentinels://)"
)


class Stores(Section):
    """A URL chooses the served store; none chooses the embedded one in the data folder."""

    mongodb_url: str | None = None
    redis_url: str | None = None
    redis_prefix: str = Field("lemo", pattern=r"^[a-z0-9-]{1,32}$")
    milvus_url: str | None = None
    clickhouse_url: str | None = None
    blobs_url: str | None = None
    tombstone_s: int = Field(7 * 86400, ge=60)

    @field_validator("redis_url")
    @classmethod
    def _no_cluster(cls, url: str | None) -> str | None:
        scheme = url.partition("://")[0] if url else ""
        if "cluster" in scheme:
            raise ValueError(f"it names a Redis Cluster. {CLUSTER_REFUSED}")
        if url is not None and scheme not in ("redis", "rediss", "unix", "sentinel", "sentinels"):
            raise ValueError("allowed: redis://, rediss://, unix://, sentinel://, sentinels://")
        return url


class Events(Section):
    kafka_url: str | None = None
    partitions: int = Field(4, ge=1, le=64)
    item_topics: tuple[str, ...] = Field(("items-ingest", "vlog-items", "news-items"), min_length=1)
    tenant_topics: str = Field("item-events-{tenant}", pattern=r"^$|^[a-zA-Z0-9._-]*\{tenant\}[a-zA-Z0-9._-]*$")
    behavior_topic: str = "behavior-events"
    slate_topic: str = "slates"
    neural_topic: str = "neural-events"
    task_topic: str = "task-history"
    alert_topic: str = "alerts"
    retention_s: int = Field(90 * 86400, ge=3600)

    @property
    def item_topic(self) -> str:
        """Where our own API appends item changes."""
        return self.item_topics[0]


FlowName = Literal["items", "behaviors", "slates", "hot", "metrics", "profile", "neural", "tasks"]


class Streams(Section):
    group: str = "lemo-recommender-group"
    flows: tuple[FlowName, ...] = typing.get_args(FlowName)
    batch: int = Field(1000, ge=1, le=10_000)
    lease_s: float = Field(3.0, gt=0.2)
    repeat_window_s: int = Field(600, ge=1)


class Tasks(Section):
    """`pools`: of queues with weights, `name=queue:weight+queue:weight`; none: one pool of all queues. A slot is a
    process that does one task at a time."""

    pools: Mapping[str, str] = Field({})
    slots: int = Field(2, ge=1, le=64)
    routes: Mapping[str, str] = Field({})
    lease_s: float = Field(8.0, ge=0.5)
    retries: int = Field(3, ge=0, le=100)
    retry_first_s: float = Field(60.0, ge=0)
    retry_max_s: float = Field(600.0, ge=0)
    retry_jitter: bool = True
    soft_limit_s: float = Field(240.0, gt=0)
    hard_limit_s: float = Field(300.0, gt=0)
    job_limit_s: float = Field(86400.0, gt=0)
    recycle_after: int = Field(1000, ge=1)
    result_keep_s: int = Field(7 * 86400, ge=1)
    key_keep_s: int = Field(7 * 86400, ge=1)
    max_payload_bytes: int = Field(1024 * 1024, ge=1024)

    @model_validator(mode="after")
    def _soft_before_hard(self) -> Tasks:
        if self.soft_limit_s >= self.hard_limit_s:
            raise ValueError(f"soft_limit_s is {self.soft_limit_s}; allowed: below hard_limit_s, {self.hard_limit_s}")
        return self


class Content(Section):
    """Fetching of sources. `allow_hosts`: names whose addresses and ports are not judged. `pages`: that one collection
    of a source fetches. `near`: from which share of common parts on two texts are copies."""

    allow_hosts: tuple[str, ...] = ()
    user_agent: str = Field("LemoBot/1.0", pattern=r"^[\x20-\x7e]{1,200}$")
    timeout_s: float = Field(20.0, gt=0, le=200)
    max_bytes: int = Field(5 * 1024 * 1024, ge=1024)
    max_redirects: int = Field(5, ge=0, le=20)
    delay_s: float = Field(1.0, ge=0, le=60)
    robots_keep_s: int = Field(86400, ge=1)
    pages: int = Field(100, ge=1, le=10_000)
    near: float = Field(0.8, ge=0.5, le=1)
    keep_s: int = Field(180 * 86400, ge=3600)

    @field_validator("allow_hosts")
    @classmethod
    def _lower(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(h.lower().rstrip(".") for h in hosts if h)


class Neural(Section):
    """What stores report."""

    keep_s: int = Field(730 * 86400, ge=86400)


class Scheduler(Section):
    """`workers_s`: it decides only while a worker was seen within so long; 0: always. `ledger_keep`: due times of each
    schedule whose line is kept."""

    lease_s: float = Field(10.0, ge=0.3, le=600)
    workers_s: float = Field(30.0, ge=0)
    ledger_keep: int = Field(500, ge=10, le=100_000)


class Features(Section):
    """Hot score: integer sums per bucket, faded and added up when read. Profile: recent and seen items."""

    hot_weights: Mapping[BehaviorType, Annotated[int, Field(ge=0, le=1000)]] = Field(WEIGHTS)
    hot_half_life_s: int = Field(7 * 86400, ge=60)
    hot_bucket_s: int = Field(300, ge=10)
    hot_keep_s: int = Field(30 * 86400, ge=3600)
    recent_items: int = Field(200, ge=1, le=1000)
    seen_items: int = Field(2000, ge=1, le=20_000)
    profile_keep_s: int = Field(400 * 86400, ge=3600)


class Metrics(Section):
    """Realtime metrics: how late a behaviour may be, by the log's time, and how long a window is kept after its end."""

    lateness_s: int = Field(3600, ge=0)
    minutes_keep_s: int = Field(2 * 86400, ge=60)
    hours_keep_s: int = Field(14 * 86400, ge=3600)
    days_keep_s: int = Field(400 * 86400, ge=86400)


class Serving(Section):
    """`placement`: the stages of an answer in the Gateway's process, or in deployments of their own. `rank_gpus`: of
    each replica of Rank, where it is one of these; below 1 replicas share a GPU.
    Decision traces: how many a replica keeps on average, and for how long; some 10 kB of Redis each."""

    max_body_bytes: int = Field(4 * 1024 * 1024, ge=1024)
    placement: Literal["inline", "graph"] = "inline"
    rank_gpus: float = Field(0.0, ge=0, le=1)
    traces_per_s: float = Field(2.0, ge=0, le=1000)
    trace_keep_s: int = Field(3600, ge=1)

    @model_validator(mode="after")
    def _gpu_of_rank(self) -> Serving:
        if self.rank_gpus and self.placement == "inline":
            raise ValueError("rank_gpus is for the replicas of Rank, which placement 'graph' has; 'inline' has none")
        return self


class Operations(Section):
    """How long is kept what nothing ends by itself: artifacts that serve no more by number of each name, popular lists
    that no job has made again, runs and alerts, dead letters. `most_lag` (events of a flow) and `oldest_task_s` (of a
    queue): above them health_check alerts."""

    keep_versions: int = Field(5, ge=1, le=1000)
    list_keep_s: int = Field(7 * 86400, ge=3600)
    history_keep_s: int = Field(90 * 86400, ge=3600)
    letter_keep_s: int = Field(30 * 86400, ge=3600)
    most_lag: int = Field(10_000, ge=1)
    oldest_task_s: int = Field(3600, ge=1)


class Logs(Section):
    level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")


class Settings(Section):
    data: Path = Path(".lemo")
    stores: Stores = Stores()
    events: Events = Events()
    streams: Streams = Streams()
    tasks: Tasks = Tasks()
    content: Content = Content()
    neural: Neural = Neural()
    scheduler: Scheduler = Scheduler()
    features: Features = Features()
    metrics: Metrics = Metrics()
    serving: Serving = Serving()
    operations: Operations = Operations()
    logs: Logs = Logs()

    def embedded(self) -> list[str]:
        """The settings whose URL is unset, so that their store lies in the data folder of one node."""
        urls = {
            "stores.mongodb_url": self.stores.mongodb_url,
            "stores.redis_url": self.stores.redis_url,
            "stores.milvus_url": self.stores.milvus_url,
            "stores.clickhouse_url": self.stores.clickhouse_url,
            "stores.blobs_url": self.stores.blobs_url,
            "events.kafka_url": self.events.kafka_url,
        }
        return [name for name, url in urls.items() if not url]

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
        value, why = without_password(repr(first.get("input"))), first["msg"].removeprefix("Value error, ")
        raise InvalidSettings(f"setting {key} is {value}: {why}", key=key) from None


def without_password(text: str) -> str:
    """`text` with the passwords of its URLs shown as ***."""
    return re.sub(r"(password=)[^&\s'\"]+", r"\1***", re.sub(r"(://[^\s:/@]*:)[^\s@]*@", r"\1***@", text))


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
    kind = typing.get_origin(fields[field].annotation)
    if kind is tuple:
        found[field] = [part.strip() for part in value.split(",")]
    else:
        found[field] = _mapping(f"{section}.{field}", value) if kind is Mapping else value


def _mapping(key: str, value: str) -> dict[str, str]:
    """`click=1,purchase=5` as a mapping."""
    pairs = [part.split("=") for part in value.split(",")]
    if any(len(p) != 2 for p in pairs) or len({p[0].strip() for p in pairs}) != len(pairs):
        raise InvalidSettings(f"setting {key} is {value!r}; allowed: name=value,name=value, each name once", key=key)
    return {name.strip(): found.strip() for name, found in pairs}
