"""What may be asked, and what is refused by name."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ray_app.catalog.filter import Filter
from ray_app.errors import InvalidField
from ray_app.recommend.ask import Ask, parse


def one(field: Any = "category", op: Any = "eq", value: Any = "tea") -> dict[str, Any]:
    return {"field": field, "op": op, "value": value}


def test_a_scenario_is_enough() -> None:
    assert parse({"scenario": "home"}) == Ask("home", 10)
    assert parse({"scenario": "home"}).visitor == ""


def test_everything_that_may_be_asked() -> None:
    asked = parse({
        "scenario": "home", "user_id": "ü", "n": 200, "context_item_id": "i", "exclude": ["a", "b"], "debug": True,
        "filters": [one(), one("price", "gte", 2), one("tags", "in", ["x", "y"]), one("attributes.on", "eq", True)],
    })  # fmt: skip
    filters = (
        Filter("category", "eq", "tea"), Filter("price", "gte", 2.0), Filter("tags", "in", ("x", "y")),
        Filter("attributes.on", "eq", True),
    )  # fmt: skip
    assert asked == Ask("home", 200, "ü", None, "i", filters, ("a", "b"), True)
    assert asked.visitor == "u:ü"
    assert parse({"scenario": "home", "session_id": "s"}).visitor == "s:s"


def test_null_is_as_if_it_were_not_there() -> None:
    nothing = dict.fromkeys(("user_id", "session_id", "context_item_id", "filters", "exclude"))
    assert parse({"scenario": "home", **nothing}) == Ask("home")


@pytest.mark.parametrize(
    ("changed", "field", "allowed"),
    [
        ({"scenario": None}, "scenario", "1 to 256 bytes"),
        ({"scenario": "x" * 1_000}, "scenario", "1 to 256 bytes"),
        ({"n": 0}, "n", "1..200"),
        ({"n": 10_000}, "n", "1..200"),
        ({"n": -1}, "n", "1..200"),
        ({"n": "10"}, "n", "1..200"),
        ({"n": 10.0}, "n", "1..200"),
        ({"n": True}, "n", "1..200"),
        ({"n": None}, "n", "1..200"),
        ({"user_id": "u", "session_id": "s"}, "user_id", "not both"),
        ({"user_id": "a\x00"}, "user_id", "control characters"),
        ({"user_id": "u" * 1_000}, "user_id", "1 to 256 bytes"),
        ({"session_id": 5}, "session_id", "1 to 256 bytes"),
        ({"context_item_id": ""}, "context_item_id", "1 to 256 bytes"),
        ({"debug": "yes"}, "debug", "true or false"),
        ({"exclude": "a"}, "exclude", "a list of at most 1000"),
        ({"exclude": ["a"] * 1001}, "exclude", "a list of at most 1000"),
        ({"exclude": [1]}, "exclude", "1 to 256 bytes"),
        ({"filters": {"a": 1}}, "filters", "a list of at most 20"),
        ({"filters": [one()] * 21}, "filters", "a list of at most 20"),
        ({"filters": ["x"]}, "filters[0]", "exactly field, op and value"),
        ({"filters": [one(), {"field": "price", "op": "eq"}]}, "filters[1]", "exactly field, op and value"),
        ({"filters": [{**one(), "not": True}]}, "filters[0]", "exactly field, op and value"),
        ({"filters": [one("colour")]}, "filters[0].field", "item_id, type"),
        ({"filters": [one(["price"])]}, "filters[0].field", "attributes.<name>"),
        ({"filters": [one(op="like")]}, "filters[0].op", "eq, in, gte, lte"),
        ({"filters": [one(op=["eq"])]}, "filters[0].op", "eq, in, gte, lte"),
        ({"filters": [one(op="gte")]}, "filters[0].op", "gte and lte on price"),
        ({"filters": [one(value=3)]}, "filters[0].value", "a string"),
        ({"filters": [one(value=None)]}, "filters[0].value", "a string"),
        ({"filters": [one(value=["tea"])]}, "filters[0].value", "a string"),
        ({"filters": [one("price", "gte", "3")]}, "filters[0].value", "a number"),
        ({"filters": [one("price", "eq", True)]}, "filters[0].value", "a number"),
        ({"filters": [one("price", "lte", math.nan)]}, "filters[0].value", "a number"),
        ({"filters": [one("price", "lte", 10**400)]}, "filters[0].value", "a number"),
        ({"filters": [one("attributes.x", "gte", "3")]}, "filters[0].value", "a number"),
        ({"filters": [one("attributes.x", "eq", {})]}, "filters[0].value", "a string"),
        ({"filters": [one(op="in", value=[])]}, "filters[0].value", "a list of 1 to 1000"),
        ({"filters": [one(op="in", value="tea")]}, "filters[0].value", "a list of 1 to 1000"),
        ({"filters": [one(op="in", value=["tea", 1])]}, "filters[0].value", "a string"),
        ({"limit": 3}, "limit", "one of the fields scenario"),
    ],
)
def test_a_rejection_names_field_value_and_what_is_allowed(changed: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(InvalidField) as refused:
        parse({"scenario": "home", **changed})
    assert refused.value.metadata["field"] == field
    assert allowed in refused.value.metadata["allowed"]
    assert "value" in refused.value.metadata


@pytest.mark.parametrize("raw", [None, [], "home", 3])
def test_what_is_no_object_is_refused(raw: Any) -> None:
    with pytest.raises(InvalidField, match="an object"):
        parse(raw)
