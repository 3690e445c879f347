"""Settings: from a file and from variables; what is not known is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ray_app.config import Settings, load
from ray_app.errors import InvalidSettings


def of(settings: Settings, key: str) -> Any:
    found: Any = settings
    for part in key.split("."):
        found = getattr(found, part)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lemo.toml"


def test_without_anything_a_laptop_works() -> None:
    settings = load({})
    assert settings.data.is_absolute()
    assert settings.data.name == ".lemo"
    assert settings.events.partitions >= 4
    assert (settings.stores.redis_url, settings.stores.mongodb_url, settings.events.kafka_url) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "value", "key", "expected"),
    [
        ("LEMO_EVENTS_PARTITIONS", "8", "events.partitions", 8),
        ("LEMO_STORES_REDIS_URL", "redis://h:1/0", "stores.redis_url", "redis://h:1/0"),
        ("LEMO_STREAMS_LEASE_S", "1.5", "streams.lease_s", 1.5),
        ("LEMO_STREAMS_FLOWS", "hot,profile", "streams.flows", ("hot", "profile")),
        ("LEMO_LOGS_LEVEL", "DEBUG", "logs.level", "DEBUG"),
        ("LEMO_FEATURES_HOT_WEIGHTS", "click=1, purchase=2", "features.hot_weights", {"click": 1, "purchase": 2}),
        ("LEMO_EVENTS_ITEM_TOPICS", "a, b-items", "events.item_topics", ("a", "b-items")),
        ("LEMO_EVENTS_TENANT_TOPICS", "", "events.tenant_topics", ""),
        ("LEMO_SERVING_MAX_BODY_BYTES", "2048", "serving.max_body_bytes", 2048),
    ],
)
def test_a_variable_sets_a_field(name: str, value: str, key: str, expected: Any) -> None:
    assert of(load({name: value, "OTHER": "x", "lemo_x": "y"}), key) == expected


def test_a_gpu_is_given_to_a_placement_that_has_replicas_of_rank() -> None:
    graph = {"LEMO_SERVING_PLACEMENT": "graph", "LEMO_SERVING_RANK_GPUS": "0.5"}
    assert of(load(graph), "serving.rank_gpus") == 0.5
    with pytest.raises(InvalidSettings, match="'inline' has none"):
        load({"LEMO_SERVING_RANK_GPUS": "1"})
    with pytest.raises(InvalidSettings, match=r"serving\.rank_gpus is '2'"):
        load({**graph, "LEMO_SERVING_RANK_GPUS": "2"})


def test_the_data_folder_is_made_absolute_from_where_the_process_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load({"LEMO_DATA": "some/where"}).data == tmp_path / "some" / "where"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load({"LEMO_DATA": "~/x"}).data == tmp_path / "home" / "x"


def test_a_file_sets_fields_and_a_variable_wins(file: Path) -> None:
    file.write_text('data = "/srv/lemo"\n[events]\npartitions = 8\nretention_s = 7200\n[streams]\nflows = ["hot"]\n')
    settings = load({"LEMO_CONFIG": str(file), "LEMO_EVENTS_PARTITIONS": "16"})
    assert (str(settings.data), settings.events.partitions, settings.events.retention_s) == ("/srv/lemo", 16, 7200)
    assert settings.streams.flows == ("hot",)
    assert load({}, file).events.partitions == 8


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"LEMO_EVENTS_PARTITION": "8"}, "LEMO_EVENTS_PARTITIONS"),
        ({"LEMO_NOTHING": "8"}, "LEMO_<SECTION>_<FIELD>"),
        ({"LEMO_EVENT_PARTITIONS": "8"}, "LEMO_DATA"),
        ({"LEMO_EVENTS": "8"}, "LEMO_EVENTS_KAFKA_URL"),
        ({"LEMO_EVENTS_PARTITIONS": "0"}, "events.partitions"),
        ({"LEMO_EVENTS_PARTITIONS": "many"}, "events.partitions is 'many'"),
        ({"LEMO_EVENTS_PARTITIONS": ""}, "events.partitions"),
        ({"LEMO_LOGS_LEVEL": "LOUD"}, "logs.level is 'LOUD'"),
        ({"LEMO_STORES_REDIS_PREFIX": "a*b"}, "stores.redis_prefix"),
        ({"LEMO_STREAMS_LEASE_S": "nan"}, "streams.lease_s"),
    ],
)
def test_a_wrong_variable_is_refused_and_the_known_are_named(env: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        load(env)
    assert named in refused.value.message
    assert refused.value.metadata["key"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[event]\npartitions = 8\n", "event"),
        ("[events]\npartition = 8\n", "events.partition"),
        ("colour = 'red'\n", "colour"),
        ("[events]\npartitions = 1.5\n", "events.partitions"),
        ("events = 3\n", "events"),
        ("[streams]\nbatch = 10001\n", "streams.batch"),
        ("[events\n", "lemo.toml"),
    ],
)
def test_a_wrong_file_is_refused_by_key(file: Path, text: str, named: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidSettings, match=named):
        load({}, file)


def test_a_file_that_is_absent_is_named(file: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"lemo\.toml"):
        load({"LEMO_CONFIG": str(file)})


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load({}).events.partitions = 9  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"), [("LEMO_STREAMS_FLOWS", "items,heat"), ("LEMO_STORES_REDIS_URL", "http://127.0.0.1:6379")]
)
def test_what_could_not_run_is_refused_at_the_start(name: str, value: str) -> None:
    with pytest.raises(InvalidSettings):
        load({name: value})


@pytest.mark.parametrize(
    "value", ["", "click", "click=", "click=x", "click=-1", "click=1001", "clack=1", "click=1,click=2", "click=1=2"]
)
def test_a_table_that_is_none_is_refused_with_its_key(value: str) -> None:
    with pytest.raises(InvalidSettings, match=r"features\.hot_weights"):
        load({"LEMO_FEATURES_HOT_WEIGHTS": value})


@pytest.mark.parametrize("value", ["item-events", "{tenant}-{tenant}", "a b{tenant}", "{Tenant}"])
def test_topics_of_tenants_need_a_place_for_the_tenant(value: str) -> None:
    with pytest.raises(InvalidSettings, match=r"events\.tenant_topics"):
        load({"LEMO_EVENTS_TENANT_TOPICS": value})


def test_the_first_item_topic_is_the_one_that_we_write_to() -> None:
    assert load({}).events.item_topic == "items-ingest"
