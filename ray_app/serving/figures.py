"""Use cases that show what it added up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ray_app.analytics import realtime
from ray_app.errors import InvalidField
from ray_app.events.schema import parse_id, refuse_unknown
from ray_app.serving.app import App
from ray_app.serving.fields import parse_count

Ask = Mapping[str, Any]
Answer = dict[str, Any]
MOST_WINDOWS = 1440


async def read_realtime(app: App, tenant: str, raw: Ask) -> Answer:
    """The last `n` windows of the tenant, oldest first; the last one is not over yet."""
    refuse_unknown(raw, ("window", "n", "scenario", "arm"))
    window = raw.get("window", "1m")
    if window not in realtime.WINDOWS:
        raise InvalidField("window", window, ", ".join(realtime.WINDOWS))
    names = {f: parse_id(f, raw[f]) for f in ("scenario", "arm") if raw.get(f) is not None}
    now, size_ms = app.clock.now(), realtime.WINDOWS[window] * 1000
    span = (now - (parse_count("n", raw.get("n", 60), MOST_WINDOWS) - 1) * size_ms, now)
    slot = realtime.Slot(tenant, **names)
    found = await realtime.read(app.redis, app.prefixes.of("metrics"), slot, window, span)
    return {"window": window, **names, "windows": [{**asdict(c), "ctr": c.ctr} for c in found]}
