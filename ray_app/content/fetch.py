"""One page over HTTP: guarded addresses, robots.txt, patience with hosts, limits of size, time and redirects."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import httpx

from ray_app.config import Content
from ray_app.content.address import Resolve, system_resolve
from ray_app.content.failed import FetchFailed
from ray_app.content.guard import Guarded
from ray_app.content.pace import Pace
from ray_app.content.robots import MOST_BYTES, Robots
from ray_app.content.unpack import read

if TYPE_CHECKING:
    from redis.asyncio import Redis

REDIRECTS = (301, 302, 303, 307, 308)
AGAIN = (408, 425, 429, 500, 502, 503, 504)
FOR_GOOD = ("CERTIFICATE_VERIFY_FAILED", "Invalid URL in location header")  # another try would end alike
MOST_URL = 2000
ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,application/json;q=0.9,*/*;q=0.5"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the last answer said of its page, so that the next may say that nothing changed."""

    etag: str = ""
    modified: str = ""

    def headers(self) -> dict[str, str]:
        found = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {k: v for k, v in found.items() if v}


@dataclass(frozen=True, slots=True)
class Page:
    """`url`: where it was found, behind the redirects. `body`: unpacked. `type`: without its parameters. With status
    304 there is no body."""

    url: str
    status: int
    body: bytes = b""
    type: str = ""
    charset: str = ""
    seen: Seen = Seen()

    @property
    def unchanged(self) -> bool:
        return self.status == 304


class Fetcher:
    """`resolve`: DNS. `verify`: an SSL context in place of the system's authorities. Raises FetchFailed from `get`."""

    def __init__(
        self, settings: Content, redis: Redis, prefix: str, resolve: Resolve = system_resolve, verify: Any = True
    ) -> None:
        self._settings, self._pace = settings, Pace(redis, prefix, settings.delay_s)
        self._robots = Robots(redis, prefix, settings.user_agent, settings.robots_keep_s, self._robots_of)
        headers = {"User-Agent": settings.user_agent, "Accept": ACCEPT, "Accept-Encoding": "gzip"}
        transport = Guarded(settings, resolve, verify)
        self._client = httpx.AsyncClient(
            transport=transport, headers=headers, timeout=settings.timeout_s, trust_env=False, follow_redirects=False
        )

    async def __aenter__(self) -> Fetcher:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.aclose()

    async def get(self, url: str, seen: Seen = Seen()) -> Page:
        """Raises FetchFailed: what is refused, away, too large, too slow, or answered by anything but 2xx and 304."""
        return await self._follow(checked(url), seen, self._settings.max_bytes, True)

    async def _robots_of(self, url: str) -> str:
        try:
            page = await self._follow(url, Seen(), MOST_BYTES, False)
        except FetchFailed as e:
            if 400 <= e.status_code < 500 and not e.again:
                return ""
            raise
        return page.body.decode("utf-8", "replace")

    async def _follow(self, url: str, seen: Seen, limit: int, asks_robots: bool) -> Page:
        for _ in range(self._settings.max_redirects + 1):
            delay_s = await self._robots.check(url) if asks_robots else 0.0
            await self._pace.turn(_host(url), delay_s)
            found = await self._ask(url, seen, limit)
            if isinstance(found, Page):
                return found
            url = checked(found)
        raise FetchFailed(f"more than {self._settings.max_redirects} redirects, the last to {url}")

    async def _ask(self, url: str, seen: Seen, limit: int) -> Page | str:
        """The page, or where it is said to be."""
        try:
            async with (
                asyncio.timeout(self._settings.timeout_s),
                self._client.stream("GET", url, headers=seen.headers()) as answer,
            ):
                return await self._answered(url, answer, limit)
        except (TimeoutError, httpx.TimeoutException):
            why = f"{url} did not answer whole in {self._settings.timeout_s:g} s"
            raise FetchFailed(why, again=True) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as e:
            sure = isinstance(e, httpx.InvalidURL) or any(known in str(e) for known in FOR_GOOD)
            raise FetchFailed(f"{url} did not answer: {str(e)[:300] or type(e).__name__}", again=not sure) from None

    async def _answered(self, url: str, answer: httpx.Response, limit: int) -> Page | str:
        status, headers = answer.status_code, answer.headers
        if status in REDIRECTS and "location" in headers:
            return _moved(url, headers["location"])
        if status not in range(200, 300) and status != 304:
            raise await self._refused(
                url, status, retry_after_s(headers.get("retry-after", ""), headers.get("date", ""))
            )
        kind, charset = headers.get("content-type", "").partition(";")[0].strip().lower(), answer.charset_encoding or ""
        told = Seen(_sendable(headers.get("etag", ""), 500), _sendable(headers.get("last-modified", ""), 100))
        if status == 304:
            return Page(url, status, seen=told)
        body = await read(answer.aiter_raw(), headers.get("content-encoding", "").strip().lower(), limit)
        return Page(url, status, body, kind, charset, told)

    async def _refused(self, url: str, status: int, after_s: float | None) -> FetchFailed:
        wait_s = after_s if status in (429, 503) else None
        if wait_s is not None:
            await self._pace.hold(_host(url), wait_s)
        return FetchFailed(f"{url} answered {status}", status in AGAIN, wait_s, status)


def checked(url: str) -> str:
    """Raises FetchFailed for what is no http or https URL with a host, or has a user in it."""
    try:
        at = urlsplit(url)
        known = bool(at.scheme.lower() in ("http", "https") and at.hostname and at.username is None and at.port != 0)
    except ValueError:
        known = False
    if not known or len(url) > MOST_URL or not url.isprintable():
        shown = ascii(url[:200])
        raise FetchFailed(f"{shown} is no URL to fetch; allowed: http(s)://host/, without a user, {MOST_URL} long")
    return url.partition("#")[0]


def retry_after_s(told: str, date: str) -> float | None:
    """Of a header Retry-After: seconds, or a date, which counts from the answer's own. None where it is neither."""
    if told.isdigit():
        return float(told[:9])
    try:
        return max(0.0, (parsedate_to_datetime(told) - parsedate_to_datetime(date)).total_seconds())
    except (ValueError, TypeError):
        return None


def _moved(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as e:
        raise FetchFailed(f"{url} redirects to {location[:200]!a}, which is no URL: {e}") from None


def _sendable(value: str, most: int) -> str:
    """A header's value as it may be sent back; "" for one that may not, or is cut short."""
    return value if len(value) <= most and value.isascii() and value.isprintable() else ""


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower()
