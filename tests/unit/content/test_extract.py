"""Text and metadata of real pages, in whatever encoding they come."""

from __future__ import annotations

import pytest

from ray_app.content.extract import decoded, extract, language, plain, time_of
from ray_app.content.failed import FetchFailed
from tests.unit.content.pages import GARDEN, GERMAN, TEA, article

URL = "http://news.test/harbour/market"


def test_the_article_is_found_among_menus_teasers_and_footers() -> None:
    head = '<link rel="canonical" href="/harbour/market?utm_source=feed">'
    page = article("Tea warehouse to become a market", TEA, head)
    found = extract(page.encode(), "utf-8", "text/html", URL)
    assert found.title == "Tea warehouse to become a market"
    for paragraph in TEA:
        assert paragraph[:80] in found.text
    for gone in ("Sport", "Most read", "Copyright", "tracking"):
        assert gone not in found.text
    assert found.published_at == 1773480600000  # 2026-03-14T09:30 UTC
    assert (found.author, found.language, found.canonical) == ("Ruth Adeyemi", "en", URL)
    assert "harbour" in found.tags
    assert found.media == ("http://news.test/pictures/front.jpg",)


def test_a_page_of_a_video_has_it_as_its_media() -> None:
    head = '<meta property="og:video" content="https://media.test/v.mp4"><meta name="description" content="Boats.">'
    found = extract(article("Boats", [], head).encode(), "", "text/html", URL)
    assert "https://media.test/v.mp4" in found.media
    assert found.title == "Boats"


@pytest.mark.parametrize(
    ("encoding", "told", "meta"),
    [("utf-8", "iso-8859-1", "utf-8"), ("cp1252", "utf-8", "utf-8"), ("iso-8859-1", "", "iso-8859-1"),
     ("utf-16", "", "utf-16"), ("utf-8-sig", "ascii", "utf-8"), ("cp1252", "no-such-charset", "nonsense")],
)  # fmt: skip
def test_a_wrong_encoding_spoils_no_letter(encoding: str, told: str, meta: str) -> None:
    page = article("Die alte Mühle öffnet", GERMAN, lang="de").replace('charset="utf-8"', f'charset="{meta}"')
    found = extract(page.encode(encoding), told, "text/html", URL)
    assert found.title == "Die alte Mühle öffnet"
    assert "Künftig sollen dort" in found.text
    assert "Straße während" in found.text
    assert found.language == "de"


def test_bytes_of_no_encoding_become_text_with_marks() -> None:
    assert decoded(b"") == ""
    assert isinstance(decoded(bytes(range(128, 256)) * 3), str)


@pytest.mark.parametrize("body", [b"", b"\x00\x01\x02", b"<", b"<html>", b"<!-- " + b"x" * 1000, b"<p>" * 2000])
def test_what_is_hardly_a_page_says_nothing(body: bytes) -> None:
    found = extract(body, "", "text/html", URL)
    assert len(found.text) < 20


def test_a_picture_is_no_page_and_a_plain_text_is_one() -> None:
    with pytest.raises(FetchFailed, match="image/png"):
        extract(b"\x89PNG", "", "image/png", URL)
    with pytest.raises(FetchFailed, match="200000 tags"):
        extract(b"<p>" * 200_001, "", "text/html", URL)
    assert extract(" ".join(GARDEN).encode(), "", "text/plain", URL).language == "en"


def test_small_things() -> None:
    assert language("too short") == ""
    assert plain("<p>One &amp; <b>two</b><script>x()</script></p>") == "One & two"
    assert plain("a  <b") == "a"
    assert time_of("2026-03-14") == 1773446400000
    assert time_of("yesterday") == 0


@pytest.mark.parametrize(
    "head",
    ['<link rel="canonical" href="http://[bad/">', '<meta property="og:video" content="http://[bad/">',
     '<meta property="og:image" content="//[bad/i.png">'],
)  # fmt: skip
def test_an_address_that_is_none_does_not_hurt_the_page(head: str) -> None:
    page = article("Tea", TEA, head).replace("/pictures/front.jpg", "http://[bad/")
    found = extract(page.encode(), "", "text/html", URL)
    assert found.title == "Tea"
    assert (found.canonical, found.media) == ("", ())


@pytest.mark.parametrize("charset", ["unicode_escape", "raw_unicode_escape", "undefined", "idna", "punycode", "utf-7"])
def test_a_codec_that_is_no_encoding_of_pages_is_not_used(charset: str) -> None:
    """Some raise what no page may raise, one takes hours, and some make characters that cannot be written again."""
    found = decoded(b"<p>caf\xe9 \\ud800 +2AA-</p>", charset)
    assert "\\ud800 +2AA-" in found
    found.encode()


def test_a_text_that_begins_as_its_title_does_loses_no_letter() -> None:
    page = article("Tea", ["Teapots " + p for p in TEA]).replace("<h1>Tea</h1>", "")
    assert extract(page.encode(), "", "text/html", URL).text.startswith("Teapots The city council")


def test_a_time_that_no_item_may_have_is_not_said() -> None:
    assert time_of("9999-12-31") == 0
    assert time_of("0001-01-01T00:00:00+14:00") == 0
