"""robots.txt as RFC 9309 reads it: the groups by the standard library, the longest rule that fits, * and $."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit
from urllib.robotparser import RobotFileParser

from ray_app.content.failed import FetchFailed

if TYPE_CHECKING:
    from redis.asyncio import Redis

MOST_BYTES = 512 * 1024  # the RFC wants 500 KiB at least


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
            await self._redis.set(key, text.encode(), ex=self._keep_s)
        if not may(text, self._agent, url):
            raise FetchFailed(f"{origin}/robots.txt forbids {url} to {self._agent}")
        return float(_parsed(text).crawl_delay(self._agent) or 0)


def may(text: str, agent: str, url: str) -> bool:
    """Whether `agent` may fetch `url`."""
    at = urlsplit(url)
    path = quote(unquote(at.path or "/")) + (f"?{at.query}" if at.query else "")
    rules = [(len(r.path), r.allowance) for r in _rules(text, agent) if r.path and _fits(r.path, path)]
    return max(rules)[1] if rules else True  # of two as long the one that allows counts


def _rules(text: str, agent: str) -> list[Any]:
    parsed: Any = _parsed(text)
    entry = next((e for e in parsed.entries if e.applies_to(agent)), parsed.default_entry)
    if entry is not None:
        return list(entry.rulelines)
    return []


def _fits(rule: str, path: str) -> bool:
    """`rule`: quoted, as the standard library keeps it."""
    pattern = re.escape(unquote(rule)).replace(r"\*", ".*")
    end = "$" if pattern.endswith(r"\$") else ""
    return re.match(pattern.removesuffix(r"\$") + end, unquote(path), re.DOTALL) is not None


@lru_cache(maxsize=128)
def _parsed(text: str) -> RobotFileParser:
    parser = RobotFileParser()
    parser.parse(text.splitlines())
    return parser
