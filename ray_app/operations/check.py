"""`lemo check`: asks every store that the settings name, and says what will not work without those that are away."""

from __future__ import annotations

import asyncio
import inspect
import re
import statistics
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from ray_app.config import without_password
from ray_app.errors import LemoError

TIMEOUT_S, CLOSE_S = 5.0, 1.0
ROUND_TRIPS = 3
SHOWN = 400  # characters of a reason
# Each server and client library has words of its own for a login or a right that it refuses.
REFUSED = re.compile(
    r"authenti|authori[sz]|auth check|username-password|noauth|wrongpass|noperm|forbidden|access ?denied|permission"
    r"|accesskeyid|signaturedoesnotmatch|password is incorrect",
    re.IGNORECASE,
)
LOGIN = re.compile("@|^s3:")  # of S3 the environment has the keys
Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing, and what to do about it."""

    level: Level
    about: str
    says: str
    do: str = ""


@runtime_checkable
class Judged(Protocol):
    """A store that judges how it is set up; a plain text is a warning. An event log is given our topics."""

    async def findings(self, *topics: Collection[str]) -> Sequence[Finding | str]: ...


@dataclass(frozen=True)
class Part:
    """One store. `url` None: embedded; `idle`: so, and no cluster runs that would have started it. `open` makes its
    adapter, which has `version` and may have `close`; `ask` is one small read that its settings must give a right to;
    `topics`: those that must be there or be made."""

    name: str
    setting: str
    url: str | None
    idle: bool
    open: Callable[[], Any]
    ask: Callable[[Any], Awaitable[Any]]
    topics: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        return f"LEMO_{self.setting.replace('.', '_').upper()}"


@dataclass(slots=True)
class Dependency:
    """What a store answered; filled while it is asked, so that a late part loses none of the earlier ones.
    `authenticated` None: nobody asked for a login, or it did not come to that."""

    name: str
    where: str
    embedded: bool
    idle: bool
    reachable: bool = False
    version: str = ""
    authenticated: bool | None = None
    round_trip_ms: float | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def missing(self) -> bool:
        return not self.idle and (not self.reachable or self.authenticated is False or self.round_trip_ms is None)


@dataclass(frozen=True, slots=True)
class Role:
    """`without`: what will not work, by the missing store; `idle`: those it needs that start with the cluster."""

    name: str
    without: Mapping[str, str]
    idle: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    dependencies: tuple[Dependency, ...]
    roles: tuple[Role, ...]
    modules: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        found = [*self.modules, *(f for d in self.dependencies for f in d.findings)]
        return not any(f.level == "fail" for f in found)


async def check(
    parts: Sequence[Part],
    needs: Mapping[str, Mapping[str, str]],
    modules: Sequence[Finding] = (),
    timeout_s: float = TIMEOUT_S,
) -> Report:
    """Asks all stores at once, each for `timeout_s` at most. `needs`: by role, what it cannot do without a store."""
    found = await asyncio.gather(*(_look(part, timeout_s) for part in parts))
    roles = tuple(_role(name, needed, found) for name, needed in needs.items())
    return Report(tuple(found), roles, tuple(modules))


def _role(name: str, needed: Mapping[str, str], found: Sequence[Dependency]) -> Role:
    without = {d.name: needed[d.name] for d in found if d.missing and d.name in needed}
    return Role(name, without, tuple(d.name for d in found if d.idle and d.name in needed))


async def _look(part: Part, timeout_s: float) -> Dependency:
    found = Dependency(part.name, without_password(part.url or "embedded"), part.url is None, part.idle)
    if part.idle:
        found.findings.append(Finding("ok", part.name, "embedded: starts with `lemo up`"))
        return found
    opened: list[Any] = []
    try:
        async with asyncio.timeout(timeout_s):
            await _ask(part, found, opened)
    except TimeoutError as e:
        found.findings.append(_failed(part, found, str(e) or f"no answer within {timeout_s:g} s", False))
    except Exception as e:  # whatever it is, it is what was found of this store, and the others are asked too
        refused = any(REFUSED.search(f"{type(one).__name__} {one}") for one in _chain(e))
        if refused:
            found.reachable, found.authenticated = True, False
        why = e.message if isinstance(e, LemoError) else f"{type(e).__name__}: {e}"
        found.findings.append(_failed(part, found, why, refused))
    finally:  # also when whoever asked has gone
        for store in opened:
            await _close(store)
    return found


async def _ask(part: Part, found: Dependency, opened: list[Any]) -> None:
    store = part.open()
    opened.append(store)
    found.version = await _version(store)
    found.reachable = True
    trips = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        await part.ask(store)
        trips.append(time.perf_counter() - began)
    found.round_trip_ms = round(statistics.median(trips) * 1000, 2)
    found.authenticated = True if part.url and LOGIN.search(part.url) else None
    if part.topics:
        later = sorted(set(part.topics) - set(await store.topics()))
        found.findings += [Finding("ok", f"topic {t}", "is not there yet: it is made at the first use") for t in later]
    if isinstance(store, Judged):
        said = await store.findings(*([part.topics] if part.topics else []))
        found.findings += [f if isinstance(f, Finding) else Finding("warn", part.name, f) for f in said]


async def _version(store: Any) -> str:
    if inspect.iscoroutinefunction(store.version):
        return str(await store.version())
    return str(await asyncio.to_thread(store.version))


def _failed(part: Part, found: Dependency, why: str, refused: bool) -> Finding:
    if part.url is None:
        do = f"It is embedded and a cluster runs on the data folder: see its logs, or set {part.variable}"
    elif refused:
        do = f"Correct the user, the password or the rights of the user that {part.variable} names"
    else:
        do = f"Start it, or correct {part.variable}"
    reached = f"{found.version}: " if found.version else ""
    return Finding("fail", part.name, without_password(f"{reached}{why}")[:SHOWN], do)


def _chain(e: BaseException | None) -> list[BaseException]:
    """The error, and those that it came from."""
    chain: list[BaseException] = []
    while e is not None and e not in chain:
        chain.append(e)
        e = e.__cause__ or e.__context__
    return chain


async def _close(store: Any) -> None:
    """Not for longer than CLOSE_S: a client that waits for its server would hold up what was found of the others."""
    if hasattr(store, "close"):
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_S):
                await store.close()
