"""Sources: where content comes from, as data of a tenant; what a client may write, and what is known of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ray_app.catalog.fields import parse_whole
from ray_app.clock import Clock
from ray_app.content.failed import FetchFailed
from ray_app.content.fetch import checked
from ray_app.errors import InvalidField, NotFound, Unavailable
from ray_app.events.schema import parse_id, refuse_unknown
from ray_app.stores.base import Document, Documents, Outcome

KIND, STATE = "sources", "source-states"
KINDS, TYPES = ("rss", "sitemap", "html", "json"), ("news", "vlog")
NEEDED: Mapping[str, str] = {"html": "links", "json": "url"}  # in `selectors`
SELECTORS: Mapping[str, tuple[str, ...]] = {
    "rss": (), "sitemap": (), "html": ("links",),
    "json": ("items", "url", "title", "text", "published_at", "author", "tags", "media"),
}  # fmt: skip
MOST = 10_000  # of a tenant
DAY_S = 86_400
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Source:
    """`kind` rss also reads Atom and RDF. `every`: seconds between two collections, 0: at every one. `selectors`: of
    html `links`, an XPath of the links; of json dotted paths: `items`, the list, and in each of it `url` and others.
    `pages`: whether the page of each entry is fetched; else what the list says is all."""

    id: str
    kind: str
    url: str
    type: str = "news"
    every: int = 0
    category: str = ""
    selectors: Mapping[str, str] = field(default_factory=dict)
    pages: bool = True
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class State:
    """What the last collections found: times in ms, 0 for never; `error` is that of the last one, "" when it went
    well; `etag` and `modified` only where everything of that answer was taken."""

    collected_at: int = 0
    failed_at: int = 0
    error: str = ""
    etag: str = ""
    modified: str = ""
    url: str = ""


FIELDS = tuple(f.name for f in fields(Source))


def parse(id: object, raw: Mapping[str, Any]) -> Source:
    """Raises InvalidField for the first field that is not allowed."""
    refuse_unknown(raw, FIELDS)
    kind = _one_of("kind", raw.get("kind"), KINDS)
    selectors = _selectors(kind, raw.get("selectors", {}))
    return Source(
        parse_source_id(id),
        kind,
        _url(raw.get("url")),
        _one_of("type", raw.get("type", "news"), TYPES),
        parse_whole("every", raw.get("every", 0), 0, 366 * DAY_S),
        parse_id("category", raw["category"]) if raw.get("category") else "",
        selectors,
        _flag("pages", raw.get("pages", "text" not in selectors)),
        _flag("enabled", raw.get("enabled", True)),
    )


def parse_source_id(value: object) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InvalidField("source", value, "[a-z0-9][a-z0-9_-]{0,62}")
    return value


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise InvalidField(name, value, ", ".join(allowed))
    return str(value)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidField(name, value, "true, false")
    return value


def _url(value: object) -> str:
    try:
        return checked(value) if isinstance(value, str) else checked("")
    except FetchFailed as e:
        raise InvalidField("url", value, e.message.partition("allowed: ")[2]) from None


def _selectors(kind: str, value: object) -> Mapping[str, str]:
    allowed = SELECTORS[kind]
    if not isinstance(value, Mapping) or not all(k in allowed and isinstance(v, str) for k, v in value.items()):
        raise InvalidField("selectors", value, f"an object of texts with {', '.join(allowed) or 'nothing'}")
    if NEEDED.get(kind) and not value.get(NEEDED[kind]):
        raise InvalidField("selectors", value, f"an object with {NEEDED[kind]} for kind {kind}")
    if "links" in value:
        _xpath(value["links"])
    return dict(value)


def _xpath(value: str) -> None:
    from lxml import etree

    try:
        etree.XPath(value)
    except (etree.XPathError, ValueError) as e:  # the latter for control characters
        raise InvalidField(
            "selectors.links", value, f"an XPath 1.0 of links, such as //article//a/@href ({e})"
        ) from None


class Sources:
    """One tenant's."""

    def __init__(self, documents: Documents, clock: Clock, tenant: str) -> None:
        self._documents, self._clock, self._tenant = documents, clock, tenant

    async def list(self) -> list[Source]:
        """By id."""
        return [_source(d.body) for d in await self._documents.find(self._tenant, KIND, limit=MOST)]

    async def get(self, id: str) -> Source:
        """Raises NotFound, naming the known ones."""
        found = await self._documents.get(self._tenant, KIND, id)
        if found is None:
            known = ", ".join(s.id for s in await self.list()) or "none"
            raise NotFound(
                f"source {id!r} is unknown to tenant {self._tenant!r}. Known: {known[:500]}. "
                f"Make it: PUT /api/v1/sources/{id}",
                field="source", value=id,
            )  # fmt: skip
        return _source(found.body)

    async def put(self, source: Source) -> None:
        """In the place of one with the same id. Raises Unavailable."""
        await self._write(KIND, Document(source.id, self._clock.now(), asdict(source)))

    async def delete(self, id: str) -> None:
        """Its documents and items stay. Raises NotFound."""
        await self.get(id)
        await self._write(KIND, Document(id, self._clock.now(), {}, deleted=True))
        await self._write(STATE, Document(id, self._clock.now(), {}, deleted=True))

    async def state(self, id: str) -> State:
        found = await self._documents.get(self._tenant, STATE, id)
        return State(**found.body) if found else State()

    async def tell(self, id: str, state: State) -> None:
        await self._write(STATE, Document(id, self._clock.now(), asdict(state)))

    async def _write(self, kind: str, document: Document) -> None:
        (outcome,) = await self._documents.upsert(self._tenant, kind, [document])
        if outcome is Outcome.STALE:
            raise Unavailable(f"source {document.id!r} was not written: the clock is behind the last write's")


def _source(body: Mapping[str, Any]) -> Source:
    return Source(**body)
