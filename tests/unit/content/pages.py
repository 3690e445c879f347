"""Pages, feeds and sitemaps as they are found: real prose among menus, teasers and footers."""

from __future__ import annotations

TEA = [
    "The city council voted on Tuesday to reopen the old tea warehouse on Harbour Street as a public market, eleven "
    "years after the last crates were carried out of its doors. Traders will be able to rent stalls by the day, and "
    "the upper floor is to become a small museum of the trade that made the quarter rich.",
    "Councillor Amina Okafor, who proposed the plan, told reporters that the building had been standing empty for far "
    "too long. \"Every week somebody asks me what will become of it,\" she said. \"Now I have an answer that I like.\"",
    "The works will cost four million pounds and are expected to take eighteen months. Half of the money comes from a "
    "national fund for harbour towns; the rest will be borrowed. A group of neighbours has asked for the loading "
    "cranes to be kept, and the architects have promised to do so.",
    "Not everybody is content. The owner of the covered market in Mill Lane fears that two halls are one too many for "
    "a town of this size, and has asked for a study of the number of visitors before a single wall is painted.",
]  # fmt: skip
GARDEN = [
    "Gardeners in the valley are planting earlier than ever before. A survey of four hundred allotments shows that "
    "beans go into the ground twelve days sooner than they did in the nineties, and that late frosts have become rare.",
    "The survey was made by the botanical society, whose members have written down the same dates every year since "
    "1961. Its secretary, Tomasz Nowak, warns that an early start is no promise of a good harvest: insects that "
    "pollinate the flowers do not always wake up in time.",
    "Seed merchants have noticed as well. Demand for tomatoes that can stand a cool night has fallen by a third, while "
    "melons, once a curiosity north of the river, are now among the twenty seeds that are sold most.",
]
GERMAN = [
    "Der Stadtrat hat am Dienstag beschlossen, die alte Mühle am Fluss wieder zu öffnen. Künftig sollen dort "
    "Handwerker ihre Werkstätten haben, und im Erdgeschoss entsteht ein Café mit Blick über das Wehr.",
    "Für die Arbeiten sind zwei Jahre vorgesehen. Die Kosten trägt zur Hälfte das Land, den Rest übernimmt die "
    "Gemeinde. Die Anwohner wünschen sich vor allem, dass die Straße während der Bauzeit nicht gesperrt wird.",
]


def article(
    title: str, paragraphs: list[str], head: str = "", published: str = "2026-03-14T09:30:00+00:00", lang: str = "en"
) -> str:
    body = "\n".join(f"<p>{p}</p>" for p in paragraphs)
    return f"""<!DOCTYPE html>
<html lang="{lang}"><head><meta charset="utf-8"><title>{title} | The Harbour Gazette</title>
<meta property="og:title" content="{title}"><meta name="author" content="Ruth Adeyemi">
<meta property="article:published_time" content="{published}">
<meta property="og:image" content="/pictures/front.jpg"><meta name="keywords" content="harbour, markets">
{head}</head><body>
<header><nav><ul><li><a href="/">Home</a></li><li><a href="/sport">Sport</a></li><li><a href="/weather">Weather</a></li>
</ul></nav></header>
<main><article><h1>{title}</h1>
{body}
</article></main>
<aside><h2>Most read</h2><ul><li><a href="/x">Ten ways to keep your boots dry</a></li></ul></aside>
<footer><p>Copyright The Harbour Gazette. All rights reserved. Subscribe to our newsletter.</p></footer>
<script>var tracking = "do not read this";</script></body></html>"""


def rss(entries: list[tuple[str, str, str]]) -> bytes:
    """(title, url, description)."""
    items = "".join(
        f"<item><title>{t}</title><link>{u}</link><description><![CDATA[{d}]]></description>"
        f"<pubDate>Sat, 14 Mar 2026 0{k % 10}:30:00 GMT</pubDate><category>harbour</category><guid>{u}</guid></item>"
        for k, (t, u, d) in enumerate(entries)
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0"><channel><title>The Harbour Gazette</title><link>http://news.test/</link>{items}</channel></rss>
""".encode()


def sitemap(urls: list[tuple[str, str]], index: bool = False) -> bytes:
    """(url, lastmod)."""
    outer, inner = ("sitemapindex", "sitemap") if index else ("urlset", "url")
    lines = "".join(f"<{inner}><loc>{u}</loc><lastmod>{m}</lastmod></{inner}>" for u, m in urls)
    return (
        f'<?xml version="1.0"?><{outer} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{lines}</{outer}>'.encode()
    )
