"""Use cases that show what jobs made: popular lists, and profiles over months."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_app.catalog.lists import MOST
from ray_app.catalog.scenario import HOME
from ray_app.errors import InvalidField, NotFound
from ray_app.events.schema import parse_id, refuse_unknown
from ray_app.features import profile
from ray_app.serving.app import App
from ray_app.serving.fields import parse_count

Ask = Mapping[str, Any]
Answer = dict[str, Any]
MOST_CATEGORY = 256  # characters


async def list_popular(app: App, tenant: str, raw: Ask) -> Answer:
    """What is popular in a scenario and may be shown now: the list of the job `precompute`, or where it made none what
    is hot at this moment."""
    refuse_unknown(raw, ("scenario", "category", "n"))
    scenario, category = parse_id("scenario", raw.get("scenario", HOME.id)), raw.get("category", "")
    if not isinstance(category, str) or len(category) > MOST_CATEGORY:
        raise InvalidField("category", category, f"at most {MOST_CATEGORY} characters")
    n = parse_count("n", raw.get("n", 10), MOST)
    found, made_at = await app.recommender.popular(tenant, scenario, category)
    return {
        "scenario": scenario, **({"category": category} if category else {}),
        "source": "hot" if made_at is None else "precomputed",
        "made_at": app.clock.now() if made_at is None else made_at,
        "items": [{"item_id": id} for id in found[:n]],
    }  # fmt: skip


async def get_profile(app: App, tenant: str, raw: Ask) -> Answer:
    """What is known of what a user did: the newest items of the stream, and the interests of the job `profiles`."""
    refuse_unknown(raw, ("user_id",))
    id = parse_id("user_id", raw.get("user_id"))
    recent = await profile.read(app.redis, app.prefixes.of("profile"), tenant, f"u:{id}")
    made = await app.documents.get(tenant, profile.LONG_TERM, f"u:{id}")
    if made is None and not recent.seen:
        raise NotFound(f"user {id!r} has done nothing at tenant {tenant!r} yet", field="user_id", value=id)
    return {
        "user_id": id,
        "recent": [r._asdict() for r in recent.recent],
        "seen": len(recent.seen),
        "long_term": None if made is None else dict(made.body),
    }
