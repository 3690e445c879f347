"""What `lemo up` prints when it is ready: real customers, what they bought last, and what is recommended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ray_app.cli.doors import over_grpc, over_http

if TYPE_CHECKING:
    from ray_app.wiring.stores import World

CUSTOMERS = """
    SELECT user_id FROM behaviors FINAL
    WHERE tenant = {tenant:String} AND user_id != '' AND type = 'purchase'
    GROUP BY user_id HAVING uniqExact(item_id) BETWEEN 8 AND 60
    ORDER BY max(occurred_at) DESC, user_id LIMIT {n:UInt32}
"""
BOUGHT = """
    SELECT item_id FROM behaviors FINAL
    WHERE tenant = {tenant:String} AND user_id = {user:String} AND type = 'purchase'
    GROUP BY item_id ORDER BY max(occurred_at) DESC, item_id LIMIT {n:UInt32}
"""


@dataclass(frozen=True)
class Customer:
    user_id: str
    bought: tuple[str, ...]


async def customers(world: World, tenant: str, n: int = 3) -> list[Customer]:
    """The n customers who bought last, with the titles of their last four items."""
    found = []
    for line in await world.olap.query(CUSTOMERS, {"tenant": tenant, "n": n}):
        user = line["user_id"]
        ids = [b["item_id"] for b in await world.olap.query(BOUGHT, {"tenant": tenant, "user": user, "n": 4})]
        names = await titles(world, tenant, ids)
        found.append(Customer(user, tuple(names[i] for i in ids)))
    return found


async def titles(world: World, tenant: str, ids: list[str]) -> dict[str, str]:
    """By id; the id itself where no item has it."""
    stored = await world.documents.get_many(tenant, "items", ids)
    return {i: str(stored[i].body["title"]) if i in stored else i for i in ids}


async def wait_live(world: World, tenant: str, url: str, key: str, timeout_s: float = 30.0) -> None:
    """Returns when the answers name the live versions; replicas look for them every second."""
    wanted = await world.registry.live_ids(tenant)
    deadline = world.clock.monotonic() + timeout_s
    while world.clock.monotonic() < deadline:
        answer = await asyncio.to_thread(over_http, url, key, {"scenario": "home", "n": 1})
        if answer.get("versions", {}).items() >= wanted.items():
            return
        await asyncio.sleep(0.2)


async def show(world: World, tenant: str, url: str, grpc_port: int, key: str) -> None:
    """Print the table and the two commands to ask oneself."""
    console, asked = Console(), "u1"
    for customer in await customers(world, tenant):
        asked = customer.user_id
        body = {"scenario": "home", "user_id": asked, "n": 4}
        items = over_http(url, key, body)["items"]
        names = await titles(world, tenant, [i["item_id"] for i in items])
        table = Table(title=f"customer {asked} bought last: {'; '.join(customer.bought)}", title_justify="left")
        for head in ("recommended", "why", "channels"):
            table.add_column(head)
        for i in items:
            table.add_row(names[i["item_id"]], i["reason"]["text"], ", ".join(i["channels"]))
        console.print(table)
        again = over_grpc(f"127.0.0.1:{grpc_port}", key, body)["items"]
        same = [i["item_id"] for i in again] == [i["item_id"] for i in items]
        console.print(f"over gRPC: {'the same items' if same else 'other items, the models have just changed'}\n")
    console.print("Ask yourself:", style="bold")
    print(commands(url, grpc_port, asked), flush=True)


def commands(url: str, grpc_port: int, user: str) -> str:
    """The two lines of the ready message; they work when pasted."""
    body = f'{{"scenario": "home", "user_id": "{user}", "n": 5}}'
    return (
        f"  curl -s {url}/api/v1/recommend -H \"X-API-Key: $(.venv/bin/lemo key)\" -d '{body}'\n"
        f"  .venv/bin/lemo recommend {user} --grpc 127.0.0.1:{grpc_port}"
    )
