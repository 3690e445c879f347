"""What the stores hold for one tenant, and what a plain recount of the log says that they should hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ray_app.analytics import realtime
from ray_app.catalog import changes
from ray_app.config import Features, Metrics
from ray_app.events.base import Logged
from ray_app.events.schema import Deleted, read_slate
from ray_app.features.hot import WEIGHTS, names
from ray_app.recommend.request_id import RequestIds
from ray_app.stores.base import Document, Documents
from ray_app.types import Behavior
from tests.crash.hyperloglog import hyperloglog
from tests.written import read_behavior, read_item_event

if TYPE_CHECKING:
    from tests.crash.world import Stores

Counts = dict[Any, Any]
REGISTERS = """
local held, found = redis.call('EXISTS', KEYS[1]) == 1 and redis.call('PFDEBUG', 'GETREG', KEYS[1]) or {}, {}
for k = 1, #held do
  if held[k] ~= 0 then found[#found + 1] = k - 1; found[#found + 1] = held[k] end
end
return found
"""  # those that are set, and to what: there are 16,384
PREFIX = "lemo"
SECRET = b"k" * 32
IDS = RequestIds(SECRET)
METRICS = Metrics(lateness_s=2 * 86400, minutes_keep_s=10**10, hours_keep_s=10**10, days_keep_s=10**10)  # long past
FEATURES = Features(recent_items=1000, seen_items=20_000)  # so many that nothing is trimmed


async def keep_secret(documents: Documents) -> None:
    """So that members that are made by the wiring know the request ids of the tests for theirs."""
    await documents.upsert("system", "secret-request_id", [Document("0", 0, {"hex": SECRET.hex()})])


def first_of_each(log: Iterable[Logged]) -> list[tuple[int, Behavior]]:
    """(appended_at, behaviour) of the first occurrence of each event id."""
    met: dict[str, tuple[int, Behavior]] = {}
    for e in log:
        b = read_behavior(e.body)
        met.setdefault(b.event_id, (e.appended_at, b))
    return list(met.values())


def hot(log: Iterable[Logged]) -> Counts:
    sums: dict[tuple[str, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for appended_at, b in first_of_each(log):
        if b.type in WEIGHTS and appended_at - b.occurred_at <= FEATURES.hot_keep_s * 1000:
            for scenario in names(b.scenario):
                sums[scenario, b.occurred_at // 300_000][b.item_id] += WEIGHTS[b.type]
    return {k: dict(v) for k, v in sums.items()}


async def hot_held(stores: Stores) -> Counts:
    found: Counts = {}
    async for key in stores.redis.scan_iter(f"{PREFIX}:hot:{stores.tenant}:*", count=1000):
        scenario, bucket = key.decode().split(":")[-2:]
        found[scenario, int(bucket)] = {i.decode(): int(n) for i, n in (await stores.redis.hgetall(key)).items()}
    return found


def metrics(log: Iterable[Logged]) -> Counts:
    """Counts by the rest of the key, and the registers of the HyperLogLog of visitors."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    users: dict[str, dict[int, int]] = defaultdict(dict)
    for appended_at, b in first_of_each(log):
        shown = IDS.read(b.request_id or "")
        scenario, arms = (shown.scenario, shown.arms) if shown else (b.scenario, {})
        late = appended_at - b.occurred_at > METRICS.lateness_s * 1000
        at = appended_at if late else b.occurred_at
        field = (
            "late" if late else {"impression": "impressions", "click": "clicks", "purchase": "conversions"}.get(b.type)
        )
        for window, size_s in realtime.WINDOWS.items():
            for s in filter(None, ("-", scenario)):
                for arm in ("-", *(f"{e}={a}" for e, a in arms.items())):
                    name = realtime.key("", window, at // (size_s * 1000), realtime.Slot(b.tenant, s, arm))
                    if field:
                        counts[name][field] += 1
                    if not late:
                        register, rank = hyperloglog(b.visitor)
                        users[name][register] = max(rank, users[name].get(register, 0))
    return {name: (dict(counts.get(name, {})), users.get(name, {})) for name in {*counts, *users}}


async def metrics_held(stores: Stores) -> Counts:
    found: Counts = {}
    async for one in stores.redis.scan_iter(f"{PREFIX}:metrics:{stores.tenant}:*", count=1000):
        name = one.decode().removesuffix(":users")
        counts = {f.decode(): int(n) for f, n in (await stores.redis.hgetall(name)).items()}
        registers: Any = await stores.redis.eval(REGISTERS, 1, realtime.users_key(name))  # type: ignore[misc]
        found[name.removeprefix(PREFIX)] = counts, dict(zip(registers[::2], registers[1::2], strict=True))
    return found


def profile(log: Iterable[Logged]) -> Counts:
    """Purchases, the seen set and the latest time of each recent item, by visitor."""
    found: Counts = {}
    for _, b in first_of_each(log):
        if b.type == "impression":
            continue
        bought, seen, wanted = found.setdefault(b.visitor, ({}, {}, set()))
        seen[b.item_id] = max(b.occurred_at, seen.get(b.item_id, 0))
        if b.type == "dislike":
            wanted.discard(b.item_id)
            continue
        wanted.add(b.item_id)
        if b.type == "purchase":
            bought[b.item_id] = bought.get(b.item_id, 0) + 1
    return found


async def profile_held(stores: Stores) -> Counts:
    found: Counts = {}
    base = f"{PREFIX}:profile:{stores.tenant}:"
    async for key in stores.redis.scan_iter(f"{base}*:seen", count=1000):
        visitor = key.decode().removeprefix(base).removesuffix(":seen")
        bought = await stores.redis.hgetall(f"{base}{visitor}:purchases")
        seen = await stores.redis.zrange(key, 0, -1, withscores=True)
        wanted = await stores.redis.zrange(f"{base}{visitor}:recent", 0, -1)
        found[visitor] = (
            {i.decode(): int(n) for i, n in bought.items()},
            {i.decode(): int(at) for i, at in seen},
            {i.decode() for i in wanted},
        )
    return found


def behaviors(log: Iterable[Logged]) -> Counts:
    return {b.event_id: [(b.item_id, b.type, b.visitor, b.occurred_at)] for _, b in first_of_each(log)}


async def behaviors_held(stores: Stores) -> Counts:
    sql = "SELECT event_id, item_id, type, visitor, occurred_at FROM behaviors FINAL WHERE tenant = {t:String}"
    found: Counts = defaultdict(list)
    for r in await stores.olap.query(sql, {"t": stores.tenant}):
        found[r["event_id"]].append((r["item_id"], r["type"], r["visitor"], r["occurred_at"]))
    return dict(found)


def slates(log: Iterable[Logged]) -> Counts:
    return {s.request_id: [(s.visitor, s.answered_at)] for s in (read_slate(e.body) for e in log)}


async def slates_held(stores: Stores) -> Counts:
    sql = "SELECT request_id, visitor, answered_at FROM slates FINAL WHERE tenant = {t:String}"
    found: Counts = defaultdict(list)
    for r in await stores.olap.query(sql, {"t": stores.tenant}):
        found[r["request_id"]].append((r["visitor"], r["answered_at"]))
    return dict(found)


def items(log: Iterable[Logged]) -> Counts:
    """The newest version of each item, the later of equal ones; None for one that was taken away."""
    newest: dict[str, Any] = {}
    for e in log:
        change = read_item_event(e.body)
        if change.id not in newest or change.version >= newest[change.id].version:
            newest[change.id] = change
    return {i: (c.version, None if isinstance(c, Deleted) else c.title) for i, c in newest.items()}


async def items_held(stores: Stores) -> Counts:
    """As the documents have it, and only if whoever follows the change feed has the same, row numbers included."""
    feed: dict[int, Any] = {}
    for _, fields in await stores.redis.xrange(changes.key(PREFIX, stores.tenant)):
        c = changes.decode(fields)
        if c.row not in feed or c.version >= feed[c.row].version:
            feed[c.row] = c
    followed = {c.item_id: (c.row, c.version, c.item["title"] if c.item else None) for c in feed.values()}
    ids = [c.item_id for c in feed.values()]
    stored = await stores.documents.get_many(stores.tenant, "items", ids, deleted=True)
    kept = {i: (d.body["row"], d.version, None if d.deleted else d.body["title"]) for i, d in stored.items()}
    assert len(ids) == len(set(ids)), "an item has two rows"
    assert followed == kept, "the change feed and the documents differ"
    return {i: (version, title) for i, (_, version, title) in kept.items()}


WANTED = {"items": items, "behaviors": behaviors, "slates": slates, "hot": hot, "metrics": metrics, "profile": profile}
HELD = {
    "items": items_held, "behaviors": behaviors_held, "slates": slates_held, "hot": hot_held, "metrics": metrics_held,
    "profile": profile_held,
}  # fmt: skip
