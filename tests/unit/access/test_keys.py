"""API keys: stored hashed, found by tenant, and one demo key for all replicas."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from ray_app.access.keys import HELD_S, KIND, SYSTEM, Keys, demo_key
from ray_app.clock import FixedClock
from ray_app.errors import Unauthenticated
from ray_app.stores.base import Document
from ray_app.stores.memory import MemoryDocuments

REPLICA = """
import asyncio, pathlib, sys
from ray_app.access.keys import Keys, demo_key
from ray_app.clock import SystemClock
from ray_app.stores.sqlite import SqliteDocuments

async def start(data):
    documents = SqliteDocuments(data / "documents.db", SystemClock())
    keys = Keys(documents, SystemClock())
    await keys.tenants()
    print("ready", flush=True)
    sys.stdin.readline()
    print(await demo_key(keys, data), flush=True)
    await documents.close()

asyncio.run(start(pathlib.Path(sys.argv[1])))
"""


@pytest.fixture
def keys(documents: MemoryDocuments, clock: FixedClock) -> Keys:
    return Keys(documents, clock)


async def test_a_key_names_its_tenant_and_is_stored_nowhere(keys: Keys, documents: MemoryDocuments) -> None:
    first, second = await keys.create("t"), await keys.create("u")
    assert [await keys.tenant_of(k) for k in (first, second)] == ["t", "u"]
    assert await keys.tenants() == ["t", "u"]
    stored = await documents.find(SYSTEM, KIND)
    assert len(stored) == 2
    assert not any(k in f"{d.id} {d.body}" for d in stored for k in (first, second))


@pytest.mark.parametrize("key", [None, "", "lemo_wrong", "\ud800", "x" * 10_000, "'; DROP TABLE keys"])
async def test_no_key_or_a_wrong_one_is_refused_and_told_where_to_get_one(keys: Keys, key: str | None) -> None:
    await keys.create("t")
    with pytest.raises(Unauthenticated, match="lemo key prints"):
        await keys.tenant_of(key)


async def test_a_deleted_key_works_no_longer_than_it_is_held(
    keys: Keys, documents: MemoryDocuments, clock: FixedClock
) -> None:
    key = await keys.create("t")
    await keys.tenant_of(key)
    (stored,) = await documents.find(SYSTEM, KIND)
    await documents.upsert(SYSTEM, KIND, [Document(stored.id, stored.version + 1, {}, deleted=True)])
    assert await keys.tenant_of(key) == "t"
    clock.pass_s(HELD_S + 1)
    with pytest.raises(Unauthenticated):
        await keys.tenant_of(key)


async def test_all_who_ask_get_one_secret_and_each_name_has_its_own(
    documents: MemoryDocuments, clock: FixedClock
) -> None:
    found = await asyncio.gather(*(Keys(documents, clock).secret("request_id") for _ in range(10)))
    assert len(set(found)) == 1
    assert len(found[0]) == 32
    assert await Keys(documents, clock).secret("other") != found[0]


async def test_the_demo_key_is_kept_readable_for_its_owner_alone(keys: Keys, tmp_path: Path) -> None:
    key = await demo_key(keys, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["demo.key"]
    assert (tmp_path / "demo.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "demo.key").read_text() == key + "\n"
    assert await keys.tenant_of(key) == "demo"
    assert await demo_key(keys, tmp_path) == key


async def test_a_key_file_that_was_put_there_is_used(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "demo.key").write_text("lemo_mine\n")
    assert await demo_key(keys, tmp_path) == "lemo_mine"
    assert await keys.tenant_of("lemo_mine") == "demo"


async def test_a_replica_that_finds_the_file_only_when_it_writes_keeps_it(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "demo.key").write_text("lemo_first\n")
    monkeypatch.setattr(Path, "exists", lambda path: False)  # the other one writes just after the look
    assert await demo_key(keys, tmp_path) == "lemo_first"
    assert [p.name for p in tmp_path.iterdir()] == ["demo.key"]


def test_replicas_that_start_at_once_agree_on_the_demo_key(tmp_path: Path) -> None:
    line = [sys.executable, "-c", REPLICA, str(tmp_path)]
    several = [subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [p.stdout.readline() for p in several if p.stdout] == ["ready\n"] * 3
    for p in several:
        if p.stdin:
            p.stdin.write("\n")
            p.stdin.flush()
    said = [p.communicate(timeout=30)[0] for p in several]
    assert set(said) == {(tmp_path / "demo.key").read_text()}
