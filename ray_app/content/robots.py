"""robots.txt as RFC 9309 reads it: all groups of our agent, else those of all agents; the longest rule that fits."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ray_app.content.failed import FetchFailed

if TYPE_CHECKING:
    from redis.asyncio import Redis

MOST_BYTES = 512 * 1024  # the RFC wants 500 KiB at least

# A longer one is kept for a collection: of a host that has a name for each page Redis would else have all of them.
LONG, LONG_KEEP_S = 16 * 1024, 600


class Robots:
    """`get`: the text at a URL, "" where the server says that there is none; raises FetchFailed while nobody knows,
    and then nothing of that host is fetched. Texts are kept in Redis for `keep_s`."""

    def __init__(
        self, redis: Redis, prefix: str, agent: str, keep_s: int, get: Callable[[str], Awaitable[str]]
    ) -> None:
        self._redis, self._prefix, self._keep_s, self._get = redis, prefix, keep_s, get
        self._agent = agent.split("/", maxsplit=1)[0]

    async def check(self, url: str) -> float:
        """The delay in seconds that it asks for, 0 without one. Raises FetchFailed for a URL that it forbids."""
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        key = f"{self._prefix}:content:robots:{origin}"
        found: Any = await self._redis.get(key)
        text: str = found.decode() if found is not None else await self._get(f"{origin}/robots.txt")
        if found is None:
            keep_s = self._keep_s if len(text) <= LONG else min(self._keep_s, LONG_KEEP_S)
            await self._redis.set(key, text.encode(), ex=keep_s)
        if not may(text, self._agent, url):
            raise FetchFailed(f"{origin}/robots.txt forbids {url} to {self._agent}")
        return _group(text, self._agent).delay_s


def may(text: str, agent: str, url: str) -> bool:
    """Whether `agent` may fetch `url`."""
    at = urlsplit(url)
    path = unquote(at.path or "/") + (f"?{unquote(at.query)}" if at.query else "")
    rules = [(len(rule), allows) for rule, allows in _group(text, agent).rules if _fits(rule, path)]
    return max(rules)[1] if rules else True  # of two as long the one that allows counts


@dataclass(slots=True)
class Group:
    """What all groups of one agent say together; `rules`: (path pattern, whether it allows)."""

    rules: list[tuple[str, bool]] = field(default_factory=list)
    delay_s: float = 0.0

    def say(self, name: str, value: str) -> None:
        if name != "crawl-delay":
            self.rules += [(value, name == "allow")] if value else []
        elif re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
            self.delay_s = max(self.delay_s, float(value))


def _group(text: str, agent: str) -> Group:
    found = _groups(text)
    return found.get(agent.lower()) or found.get("*") or Group()


@lru_cache(maxsize=128)
def _groups(text: str) -> dict[str, Group]:
    """By agent, in small letters. The standard library reads but the first group of an agent, and ends a group at an
    empty line."""
    found: dict[str, Group] = {}
    named: list[Group] = []
    begun = False  # whether a line after the names was read, so that the next name begins another group
    for name, value in _lines(text):
        if name == "user-agent":
            named, begun = ([] if begun else named), False
            named.append(found.setdefault(value.partition("/")[0].strip().lower(), Group()))
            continue
        begun = True
        for group in named:
            group.say(name, value)
    return found


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Those that say something of a group."""
    for line in text.removeprefix("\ufeff").splitlines():
        name, _, value = line.partition("#")[0].partition(":")
        if name.strip().lower() in ("user-agent", "allow", "disallow", "crawl-delay"):
            yield name.strip().lower(), value.strip()


def _fits(rule: str, path: str) -> bool:
    """Part after part, each at its first place: with patterns a hostile rule of many stars would take for ever."""
    first, *parts = (unquote(part) for part in rule.removesuffix("$").split("*"))
    if not path.startswith(first):
        return False
    at = len(first)
    last = parts.pop() if parts and rule.endswith("$") else None
    for part in parts:
        at = path.find(part, at) + len(part)
        if at < len(part):
            return False
    if last is not None:
        return path.endswith(last) and len(path) - len(last) >= at
    return at == len(path) or not rule.endswith("$")
