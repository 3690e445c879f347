"""One page over HTTP: what comes, what is refused, and what is never asked for."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

import pytest

from ray_app.content.failed import FetchFailed
from ray_app.content.fetch import Fetcher, Seen, checked, retry_after_s
from ray_app.content.unpack import gunzip
from tests.unit.content.conftest import Open
from tests.web import Answer, Web, endless, moved, zipped

if TYPE_CHECKING:
    from redis.asyncio import Redis

PAGE = Answer(b"<p>hello</p>")


async def why(fetcher: Fetcher, url: str) -> FetchFailed:
    with pytest.raises(FetchFailed) as failed:
        await fetcher.get(url)
    return failed.value


async def test_a_page_comes_as_it_is(web: Web, fetcher: Fetcher) -> None:
    web.pages["/a"] = Answer(b"<p>hello</p>", "text/html; charset=latin-1", headers={"ETag": '"1"'})
    page = await fetcher.get(web.url("/a#part", "news.test"))
    assert (page.status, page.body, page.type, page.charset) == (200, b"<p>hello</p>", "text/html", "latin-1")
    assert page.seen.etag == '"1"'
    headers = web.asked[-1][1]
    assert headers["Host"] == f"news.test:{web.port}"
    assert headers["User-Agent"].startswith("LemoBot")


async def test_a_packed_page_is_unpacked(web: Web, fetcher: Fetcher) -> None:
    web.pages["/a"] = zipped(b"hello" * 100)
    members = gzip.compress(b"one ") + gzip.compress(b"two")
    web.pages["/b"] = Answer(members, headers={"Content-Encoding": "gzip"})
    assert (await fetcher.get(web.url("/a", "news.test"))).body == b"hello" * 100
    assert (await fetcher.get(web.url("/b", "news.test"))).body == b"one two"


async def test_a_zip_bomb_ends_at_the_limit(web: Web, open_fetcher: Open) -> None:
    fetcher = open_fetcher(max_bytes=100_000)
    web.pages["/bomb"] = zipped(bytes(50_000_000))
    web.pages["/nested"] = Answer(
        gzip.compress(gzip.compress(bytes(50_000_000))), headers={"Content-Encoding": "gzip, gzip"}
    )
    web.pages["/other"] = Answer(zlib.compress(bytes(1000)), headers={"Content-Encoding": "deflate"})
    assert "larger than 100000 bytes" in (await why(fetcher, web.url("/bomb", "news.test"))).message
    assert "gzip, identity" in (await why(fetcher, web.url("/nested", "news.test"))).message
    assert "gzip, identity" in (await why(fetcher, web.url("/other", "news.test"))).message


async def test_what_is_no_gzip_says_so(web: Web, fetcher: Fetcher) -> None:
    web.pages["/a"] = Answer(b"plain", headers={"Content-Encoding": "gzip"})
    assert "no gzip" in (await why(fetcher, web.url("/a", "news.test"))).message


async def test_an_endless_body_ends_at_the_limit(web: Web, open_fetcher: Open) -> None:
    web.pages["/a"] = Answer(endless)
    failed = await why(open_fetcher(max_bytes=100_000), web.url("/a", "news.test"))
    assert "larger" in failed.message
    assert not failed.again


async def test_a_body_that_drips_ends_at_the_time(web: Web, open_fetcher: Open) -> None:
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()

    def drip(to: BaseHTTPRequestHandler) -> None:
        """A byte at a time, so that no single read is slow, until the client goes."""
        to.connection.settimeout(0.05)
        try:
            while True:
                to.wfile.write(b".")
                try:
                    to.connection.recv(1)
                    break
                except TimeoutError:
                    continue
        finally:
            loop.call_soon_threadsafe(gone.set)

    web.pages["/a"] = Answer(drip)
    failed = await why(open_fetcher(timeout_s=0.3), web.url("/a", "news.test"))
    assert "in 0.3 s" in failed.message
    assert failed.again
    await asyncio.wait_for(gone.wait(), 5)  # the connection is not kept either


@pytest.mark.parametrize(
    ("status", "again"), [(404, False), (410, False), (403, False), (500, True), (503, True), (408, True)]
)
async def test_a_status_says_whether_another_try_may_help(web: Web, fetcher: Fetcher, status: int, again: bool) -> None:
    web.pages["/a"] = Answer(status=status)
    failed = await why(fetcher, web.url("/a", "news.test"))
    assert (failed.status_code, failed.again) == (status, again)


async def test_too_many_requests_holds_the_host_for_as_long_as_it_says(
    web: Web, fetcher: Fetcher, open_fetcher: Open, redis: Redis
) -> None:
    web.pages["/a"] = Answer(status=429, headers={"Retry-After": "120"})
    web.pages["/b"] = PAGE
    failed = await why(fetcher, web.url("/a", "news.test"))
    assert (failed.again, failed.after_s) == (True, 120.0)
    held = await why(open_fetcher(), web.url("/b", "news.test"))  # as another process
    assert held.again
    assert 100 < (held.after_s or 0) <= 120
    assert "/b" not in web.paths()
    assert retry_after_s("Sat, 01 Aug 2026 10:01:00 GMT", "Sat, 01 Aug 2026 10:00:00 GMT") == 60
    assert retry_after_s("soon", "") is None


async def test_nothing_changed_is_no_body(web: Web, fetcher: Fetcher) -> None:
    def answer(to: BaseHTTPRequestHandler) -> Answer:
        same = to.headers["If-None-Match"] == '"1"' and to.headers["If-Modified-Since"] == "then"
        return Answer(status=304) if same else PAGE

    web.pages["/a"] = answer
    page = await fetcher.get(web.url("/a", "news.test"), Seen('"1"', "then"))
    assert page.unchanged
    assert page.body == b""
    assert not (await fetcher.get(web.url("/a", "news.test"), Seen('"0"', "then"))).unchanged


async def test_redirects_are_followed_as_far_as_allowed(web: Web, open_fetcher: Open) -> None:
    web.pages |= {"/a": moved("/b", 301), "/b": moved("c"), "/c": PAGE, "/loop": moved("/loop")}
    page = await open_fetcher(max_redirects=2).get(web.url("/a", "news.test"))
    assert page.url == web.url("/c", "news.test")
    assert "more than 1 redirects" in (await why(open_fetcher(max_redirects=1), web.url("/a", "news.test"))).message
    web.asked.clear()
    await why(open_fetcher(max_redirects=3), web.url("/loop", "news.test"))
    assert web.paths() == ["/loop"] * 4


@pytest.mark.parametrize(
    "to",
    ["http://127.0.0.1:{port}/secret", "http://169.254.169.254/latest/meta-data/", "http://[::ffff:127.0.0.1]:{port}/",
     "http://metadata.test:{port}/secret", "file:///etc/passwd", "gopher://news.test/", "http://u:p@news.test:{port}/"],
)  # fmt: skip
async def test_a_redirect_to_where_nobody_may_go_is_refused(web: Web, fetcher: Fetcher, to: str) -> None:
    web.pages |= {"/a": moved(to.format(port=web.port)), "/secret": Answer(b"secret")}
    failed = await why(fetcher, web.url("/a", "news.test"))
    assert not failed.again
    assert "allowed:" in failed.message
    assert web.paths() == ["/a"]


async def test_dns_that_changes_its_answer_is_asked_once(web: Web, open_fetcher: Open) -> None:
    """The first answer is judged and connected to; a second look, which would lead inside, does not happen."""
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["192.0.2.1"] if len(asked) == 1 else ["127.0.0.1"]

    web.pages["/a"] = Answer(b"secret")
    failed = await why(open_fetcher(rebinding, timeout_s=0.5), "http://rebind.test:8080/a")
    assert "192.0.2.1" in failed.message  # documentation addresses are public for nobody
    assert asked == ["rebind.test"]
    assert web.asked == []


async def test_the_connection_goes_to_the_address_that_was_judged(web: Web, open_fetcher: Open) -> None:
    """The name of this URL does not exist for the machine: what is connected to can only be the judged answer."""
    web.pages["/a"] = PAGE
    fetcher = open_fetcher(allow_hosts=("nowhere.invalid",))
    assert (await fetcher.get(web.url("/a", "nowhere.invalid"))).body == b"<p>hello</p>"


async def test_one_bad_address_of_several_refuses_the_host(web: Web, open_fetcher: Open) -> None:
    async def mixed(host: str, port: int) -> Sequence[str]:
        return ["93.184.215.14", "127.0.0.1"]

    assert "127.0.0.1" in (await why(open_fetcher(mixed), "http://mixed.test/")).message


async def test_a_port_that_nobody_serves_pages_on_is_refused(open_fetcher: Open) -> None:
    async def public(host: str, port: int) -> Sequence[str]:
        return ["93.184.215.14"]

    assert "80, 443, 8080, 8443" in (await why(open_fetcher(public), "http://news.example:6379/")).message


@pytest.mark.parametrize(
    "url", ["", "news.test", "ftp://a/", "http://", "http://a:b@c/", "http://a:99999/", "http://a/\n"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(FetchFailed, match="is no URL to fetch"):
        checked(url)


async def test_a_closed_port_and_an_unknown_name_are_told(web: Web, open_fetcher: Open) -> None:
    async def nothing(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    dead = Web()
    dead.stop()
    closed = await why(open_fetcher(), dead.url("/", "news.test"))
    assert closed.again
    assert not (await why(open_fetcher(nothing), "http://unknown.test/")).again


async def test_two_requests_to_a_host_are_apart_whoever_makes_them(web: Web, open_fetcher: Open) -> None:
    web.pages |= {f"/{k}": PAGE for k in range(3)}
    one, two = open_fetcher(delay_s=0.2), open_fetcher(delay_s=0.2)
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(f.get(web.url(f"/{k}", "news.test")) for k, f in enumerate((one, two, one))))
    # robots.txt and three pages at the least: four turns
    assert asyncio.get_running_loop().time() - began >= 3 * 0.2


@pytest.mark.parametrize("to", ["http://[bad/", "//[bad", "http://a:b:c/", "http://\u00e9" + "x" * 300 + "/"])
async def test_a_redirect_to_what_is_no_address_is_told(web: Web, fetcher: Fetcher, to: str) -> None:
    web.pages["/a"] = moved(to.encode().decode("latin-1"))
    assert not (await why(fetcher, web.url("/a", "news.test"))).again
    assert web.paths() == ["/a"]


async def test_what_an_answer_says_of_itself_can_always_be_sent_back(web: Web, fetcher: Fetcher) -> None:
    """An ETag may hold any byte from 0x80 on; one that we cannot send is none."""
    web.pages["/a"] = Answer(b"x", headers={"ETag": '"\u00e9"', "Last-Modified": "\u00e4"})
    first = await fetcher.get(web.url("/a", "news.test"))
    assert (await fetcher.get(web.url("/a", "news.test"), first.seen)).body == b"x"


def test_a_gzip_of_very_many_members_is_refused() -> None:
    """Each is looked for in what is left of the body: so many, and none of them holds a byte."""
    with pytest.raises(FetchFailed, match="members"):
        gunzip(gzip.compress(b"") * 250_000, 5_000_000)
