"""Tenants: everything belongs to one, and no call sees another's data."""

from __future__ import annotations

import re

from ray_app.errors import InvalidField

DEMO = "demo"
SYSTEM = "system"  # what belongs to the house itself: keys
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def parse_tenant(value: object) -> str:
    """Raises InvalidField. The pattern has no dot: a topic named after a tenant is never a dead-letter topic."""
    if not isinstance(value, str) or not _ID.fullmatch(value) or value == SYSTEM:
        raise InvalidField("tenant_id", value, f"[a-z0-9][a-z0-9-]{{0,62}}, not {SYSTEM!r}")
    return value
