"""No flow writes beside these tests, so nothing is waited for, save where a test says so."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_app.training.embed.SETTLE_S", 0.0)
