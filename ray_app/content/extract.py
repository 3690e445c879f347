"""What a page says: its text and metadata by trafilatura, its language, and text of bytes in whatever encoding."""

from __future__ import annotations

import codecs
import re
from datetime import UTC, datetime
from html import unescape
from typing import Any

from ray_app.content.document import Found, joined, normal_url
from ray_app.content.failed import FetchFailed
from ray_app.events.schema import LATEST_MS

LEAST_LETTERS = 40  # of which a language can be told
MOST_TEXT, MOST_TITLE, MOST_TAGS = 100_000, 1000, 50
MOST_MARKS = 200_000  # tags of a page; they take some 20 s, and real pages have a tenth of them
# Codecs that Python knows as encodings and no browser does: some raise what they like, one takes hours, and some make
# characters that cannot be written again.
NO_PAGE = frozenset({"idna", "mbcs", "oem", "palmos", "punycode", "raw-unicode-escape", "undefined",
                     "unicode-escape", "utf-7"})  # fmt: skip
BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_META = re.compile(rb"""<(?:meta[^>]{0,200}?charset|\?xml[^>]{0,200}?encoding)\s*=\s*["']?\s*([\w.:-]{1,40})""", re.I)
MARKUP = ("text/html", "application/xhtml+xml", "text/plain", "application/xml", "text/xml", "")


def decoded(body: bytes, charset: str = "") -> str:
    """By its byte order mark; as UTF-8 where it is that, whatever was said; by what the answer or the page says; by
    what it looks like. Never raises: what is in no encoding has marks in its place."""
    for mark, name in BOMS:
        if body.startswith(mark):
            return body.decode(name, "replace")
    told = _META.search(body[:4096])
    for name in ("utf-8", charset, told[1].decode("ascii", "ignore") if told else ""):
        try:
            if name and codecs.lookup(name).name.replace("_", "-") not in NO_PAGE:
                return body.decode(name)
        except (ValueError, LookupError):
            continue
    from charset_normalizer import from_bytes

    best = from_bytes(body[:200_000]).best()
    return body.decode(best.encoding if best else "cp1252", "replace")


def extract(body: bytes, charset: str, kind: str, url: str) -> Found:
    """Of an HTML page or a plain text. Raises FetchFailed for another content type, and for a page of so many tags that
    it would hold up all others."""
    if kind not in MARKUP:
        raise FetchFailed(f"{url} is {kind!r}; allowed: {', '.join(filter(None, MARKUP))}")
    if body.count(b"<") > MOST_MARKS:
        raise FetchFailed(f"{url} has more than {MOST_MARKS} tags")
    text = decoded(body, charset).replace("\x00", "")
    return Found(text=text.strip()[:MOST_TEXT], language=language(text)) if kind == "text/plain" else _page(text, url)


def _page(html: str, url: str) -> Found:
    from trafilatura import bare_extraction

    found: Any = bare_extraction(html, url=url, with_metadata=True, include_comments=False)
    if found is None:
        return Found()
    told = _told(html, url)
    title = (found.title or "").strip()[:MOST_TITLE]
    text = f"{found.text or ''}\n".lstrip().removeprefix(f"{title}\n").strip() or (found.description or "").strip()
    image = [joined(url, found.image)] if found.image else []
    return Found(
        title=title,
        text=text[:MOST_TEXT],
        published_at=told.published_at or time_of(found.date or ""),
        author=(found.author or "").strip()[:200],
        tags=words([t for tags in (*(found.tags or ()), *(found.categories or ())) for t in tags.split(",")]),
        media=tuple(m for m in dict.fromkeys([*image, *told.media]) if m)[:20],
        language=language(f"{title} {text}"),
        canonical=told.canonical,
    )


PUBLISHED = (
    "//meta[@property='article:published_time']/@content | //meta[@itemprop='datePublished']/@content"
    " | //time[@itemprop='datePublished']/@datetime"
)
MEDIA = "//meta[@property='og:video' or @property='og:video:url' or @property='og:image']/@content | //video/@src"


def _told(html: str, url: str) -> Found:
    """What its head says of it, to the second and with its videos, which trafilatura leaves out."""
    from lxml import html as markup

    tree = markup.fromstring(html.encode(), parser=markup.HTMLParser(encoding="utf-8"))
    canonical = [joined(url, href) for href in tree.xpath("//link[@rel='canonical']/@href")]
    times = [time_of(t) for t in tree.xpath(PUBLISHED)]
    media = [joined(url, m) for m in tree.xpath(MEDIA)]
    return Found(
        published_at=next((t for t in times if t), 0),
        media=tuple(m for m in media if m.startswith(("http://", "https://"))),
        canonical=normal_url(canonical[0]) if canonical and canonical[0].startswith(("http://", "https://")) else "",
    )


def time_of(text: str) -> int:
    """ms of an ISO 8601 time or date, UTC where it does not say; 0 for anything else."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        return 0
    return moment(int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000))


def moment(ms: int) -> int:
    """0 for a time that no item may have."""
    return ms if 0 < ms < LATEST_MS else 0


def language(text: str) -> str:
    """Its ISO 639-1 code; "" for a text that is too short to tell."""
    if sum(c.isalpha() for c in text[:1000]) < LEAST_LETTERS:
        return ""
    import py3langid

    return str(py3langid.classify(text[:5000])[0])


def words(tags: list[Any]) -> tuple[str, ...]:
    """Each once, as they can stand in an item."""
    found = (" ".join(str(t).split())[:200] for t in tags if t)
    return tuple(dict.fromkeys(t for t in found if t))[:MOST_TAGS]


def plain(html: str) -> str:
    """The text of a fragment of HTML, such as a feed has."""
    from lxml import etree
    from lxml import html as markup

    if "<" not in html:
        return " ".join(unescape(html).split())
    try:
        tree = markup.fromstring(f"<div>{html}</div>")
    except (etree.ParserError, ValueError):
        return ""
    for gone in tree.xpath("//script | //style"):
        gone.drop_tree()
    return " ".join(str(tree.text_content()).split())
