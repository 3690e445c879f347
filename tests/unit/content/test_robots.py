"""robots.txt: who may fetch what, kept for all processes, and what its absence means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ray_app.content.failed import FetchFailed
from ray_app.content.robots import may
from tests.unit.content.conftest import Open
from tests.web import Answer, Web, moved

if TYPE_CHECKING:
    from redis.asyncio import Redis

TEXT = """
User-agent: other
Disallow: /

User-agent: LemoBot
Disallow: /private
Allow: /private/open
Disallow: /*.pdf$
Disallow: /*?session=
Disallow: /caf%C3%A9
Crawl-delay: 2
"""


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/", True), ("/private", False), ("/private/x", False), ("/private/open/x", True), ("/a/b.pdf", False),
     ("/a/b.pdf.html", True), ("/a?session=1", False), ("/a?page=1", True), ("/café", False), ("/caf%c3%a9", False)],
)  # fmt: skip
def test_the_longest_rule_that_fits_counts(path: str, allowed: bool) -> None:
    assert may(TEXT, "LemoBot", f"http://news.test{path}") is allowed


def test_another_agent_has_its_own_rules_or_none() -> None:
    assert not may(TEXT, "other", "http://news.test/")
    assert may(TEXT, "third", "http://news.test/private")
    assert may("", "LemoBot", "http://news.test/private")
    assert may("<html>not found</html>", "LemoBot", "http://news.test/private")
    assert not may("User-agent: *\nDisallow: /", "LemoBot", "http://news.test/x")


async def test_a_page_that_is_forbidden_is_never_asked_for(web: Web, open_fetcher: Open) -> None:
    web.pages |= {
        "/robots.txt": Answer(b"User-agent: *\nDisallow: /private", "text/plain"),
        "/private": Answer(b"x"), "/open": Answer(b"x"), "/hop": moved("/private"),
    }  # fmt: skip
    for path in ("/private", "/hop"):
        with pytest.raises(FetchFailed, match="forbids"):
            await open_fetcher().get(web.url(path, "news.test"))
    await open_fetcher().get(web.url("/open", "news.test"))
    assert web.paths() == ["/hop", "/open"]
    assert [p for p, _ in web.asked].count("/robots.txt") == 1  # kept for all


@pytest.mark.parametrize(("status", "may_fetch"), [(404, True), (403, True), (500, False), (503, False)])
async def test_a_robots_txt_that_is_not_there_forbids_nothing_and_one_that_is_away_all(
    web: Web, open_fetcher: Open, status: int, may_fetch: bool
) -> None:
    web.pages |= {"/robots.txt": Answer(status=status), "/a": Answer(b"x")}
    if may_fetch:
        assert (await open_fetcher().get(web.url("/a", "news.test"))).body == b"x"
        return
    with pytest.raises(FetchFailed) as failed:
        await open_fetcher().get(web.url("/a", "news.test"))
    assert failed.value.again
    assert web.paths() == []


@pytest.mark.parametrize(
    "text",
    ["User-agent: LemoBot\nDisallow: /a\n\nUser-agent: LemoBot\nDisallow: /b",
     "User-agent: *\nDisallow: /a\n\nUser-agent: *\nDisallow: /b",
     "User-agent: lemobot\n\nDisallow: /b",
     "User-agent: other\nUser-agent: LemoBot # both\nDisallow: /b",
     "\ufeffUSER-AGENT : *\ndisallow:/b\nSitemap: /map"],
)  # fmt: skip
def test_all_groups_of_an_agent_count_whatever_lines_are_between(text: str) -> None:
    assert not may(text, "LemoBot", "http://news.test/b")
    assert may(text, "LemoBot", "http://news.test/c")


def test_a_name_that_is_only_like_ours_is_another() -> None:
    assert may("User-agent: Lemo\nDisallow: /", "LemoBot", "http://news.test/b")
    own_first = "User-agent: *\nDisallow: /\n\nUser-agent: LemoBot\nDisallow: /a"
    assert may(own_first, "LemoBot", "http://news.test/b")


@pytest.mark.parametrize(("rule", "fits"), [("/" + "*a" * 500 + "*b", False), ("/" + "*a" * 500 + "$", True)])
def test_a_rule_of_many_stars_takes_no_time(rule: str, fits: bool) -> None:
    """As a pattern with `.*` it would be tried in more ways than there is time for."""
    assert may(f"User-agent: *\nDisallow: {rule}", "LemoBot", "http://news.test/" + "a" * 1900) is not fits


async def test_a_long_robots_txt_is_not_kept_for_long(web: Web, open_fetcher: Open, redis: Redis) -> None:
    """Who has a name for each page could fill Redis with them."""
    web.pages |= {"/a": Answer(b"x"), "/robots.txt": Answer(b"# " + b"x" * 100_000, "text/plain")}
    await open_fetcher().get(web.url("/a", "news.test"))
    assert 0 < await redis.ttl(f"test:content:robots:http://news.test:{web.port}") <= 600
