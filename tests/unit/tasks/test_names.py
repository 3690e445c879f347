"""Arguments as they are kept."""

from __future__ import annotations

import orjson

from ray_app.tasks.names import Names, as_json, checked
from ray_app.wiring.handlers import HANDLERS


def test_an_argument_is_kept_under_the_names_by_which_it_is_asked() -> None:
    handler = Names(HANDLERS).of("analyze_store")
    asked = {"store_id": "s", "from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z"}
    kept = orjson.loads(as_json(checked(handler, asked)))
    assert set(kept) == set(asked)
    assert checked(handler, kept) == checked(handler, asked)
