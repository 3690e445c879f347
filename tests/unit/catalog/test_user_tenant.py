"""Users and tenants: what is taken, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from ray_app.catalog import user
from ray_app.catalog.tenant import parse_tenant
from ray_app.errors import InvalidField
from tests.unit.make import NOW


def test_a_user_is_read_back_as_it_was_written() -> None:
    raw = {"user_id": "ü1", "attributes": {"city": "Köln", "age": 30}, "version": 4}
    assert user.public(user.parse(raw, NOW).body) == raw


def test_a_user_needs_an_id_alone() -> None:
    made = user.parse({"user_id": "u"}, NOW)
    assert (made.id, made.version, made.body["attributes"]) == ("u", NOW, {})


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({}, "user_id"), ({"user_id": 1}, "user_id"), ({"user_id": "u", "name": "x"}, "name"),
        ({"user_id": "u", "version": "1"}, "version"), ({"user_id": "u", "attributes": "x"}, "attributes"),
        ([], "element"), (None, "element"),
    ],
)  # fmt: skip
def test_a_wrong_user_is_refused_by_field(raw: Any, field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        user.parse(raw, NOW)
    assert refused.value.metadata["field"] == field


@pytest.mark.parametrize("name", ["demo", "a", "0", "shop-2", "a" * 63])
def test_tenants_that_are_taken(name: str) -> None:
    assert parse_tenant(name) == name


@pytest.mark.parametrize("name", ["", "system", "A", "-a", "a.b", "a/b", "a\n", "a" * 64, "ü", None, 5, ["a"], "a*"])
def test_tenants_that_are_refused(name: Any) -> None:
    with pytest.raises(InvalidField, match="tenant_id"):
        parse_tenant(name)
