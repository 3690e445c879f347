"""Tasks of the content pipeline; their old names were atlas.scheduler.celery_tasks.*."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ray_app.catalog.tenant import SYSTEM
from ray_app.content.collect import Collector
from ray_app.content.document import Document
from ray_app.content.failed import FetchFailed
from ray_app.content.fetch import Fetcher
from ray_app.content.process import Processor
from ray_app.content.source import DAY_S, Source, Sources
from ray_app.content.stores import Stores
from ray_app.content.sync import PARTS, deduplicate, indexed, process_many, tenants, waiting, waiting_part
from ray_app.errors import InvalidField, NotFound
from ray_app.events.schema import parse_time
from ray_app.registry.watch import EMBEDDER
from ray_app.stores.base import Where
from ray_app.tasks.task import State, Submission, Task
from ray_app.tasks.work import Fail, Handler, Limits, RetryAsked, Run

OLD = "atlas.scheduler.celery_tasks."
WHOLE = Limits(3540, 3600)  # where every document of a tenant may be looked at
NEARLY = 0.9  # of a source's `every`: neither a schedule's times are exact nor the time that a collection takes
MOST_SUBMITTED = 5000  # in one call; the next collection goes on
SKEW_MS = 1000  # between the clocks of the machines that submit, fetch and process


class Ask(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Ask):
    pass


class UrlAsk(Ask):
    """`source_id`: the source that the page counts for, with its type and category; none: news."""

    url: str
    source_id: str = ""


class DocumentAsk(Ask):
    document_id: str


class SourceAsk(Ask):
    """`process`: whether what was fetched is processed as well. `due`: only where the source's `every` has passed.
    `once`: a source that is away is told in the result, and not tried again."""

    source_id: str
    process: bool = True
    due: bool = False
    once: bool = False


class BatchAsk(Ask):
    """Documents, or all that wait of one of four parts."""

    document_ids: list[str] = []
    part: int | None = Field(None, ge=0, lt=PARTS)


class SinceAsk(Ask):
    """ms or ISO 8601; none: all."""

    since: int | str | None = None


class SyncAsk(Ask):
    """None of `source_ids`: all that are enabled. `rebuild`: also the index, from nothing."""

    source_ids: list[str] | None = None
    rebuild: bool = False


async def fetch_url(ask: UrlAsk, run: Run) -> dict[str, Any]:
    """{url, status_code, content_length, success}; where it did not come also `reason`. A page becomes a document,
    which is processed."""
    stores: Stores = run.stores
    source = await _sources(run).get(ask.source_id) if ask.source_id else None
    try:
        async with _fetcher(stores) as fetcher:
            page, kept = await Collector(stores, _tenant(run), fetcher).page(ask.url, source)
    except FetchFailed as e:
        if e.again and run.attempt <= stores.settings.tasks.retries:
            raise RetryAsked(e.message, e.after_s) from e
        told = {"url": ask.url, "status_code": e.status_code, "content_length": 0, "success": False}
        return {**told, "reason": e.message}
    await run.submit(Submission("process_document", {"document_id": kept.id}))
    return {"url": ask.url, "status_code": page.status, "content_length": len(page.body), "success": True}


async def process_document(ask: DocumentAsk, run: Run) -> dict[str, Any]:
    """{document_id, item_id, status}; no item: null."""
    done = await Processor(run.stores, _tenant(run)).process(ask.document_id)
    return {"document_id": done.id, "item_id": done.item_id or None, "status": done.status.value}


async def batch_process(ask: BatchAsk, run: Run) -> dict[str, Any]:
    """{processed, failed: [document_id]}. For what of a list there was no time another batch comes; what is left of a
    part waits for the next one."""
    ids = ask.document_ids if ask.part is None else await waiting_part(run.stores, _tenant(run), ask.part)
    done, failed, rest = await process_many(run.stores, _tenant(run), ids)
    if rest and ask.part is None:
        (more,) = await run.gather(Submission("batch_process", {"document_ids": rest}, id=f"{run.id}.rest"))
        told: dict[str, Any] = more.result if more.state is State.SUCCESS else {"processed": 0, "failed": rest}
        done, failed = done + told["processed"], failed + told["failed"]
    return {"processed": done, "failed": failed}


async def collect_from_source(ask: SourceAsk, run: Run) -> dict[str, Any]:
    """{source_id, fetched, new, failed}, and `reason` where `once` and the source is away."""
    stores: Stores = run.stores
    source = await _sources(run).get(ask.source_id)
    told = {"source_id": source.id, "fetched": 0, "new": 0, "failed": 0}
    if ask.due and not await _is_due(run, source):
        return told
    try:
        async with _fetcher(stores) as fetcher:
            done = await Collector(stores, _tenant(run), fetcher).collect(source, run.progress)
    except FetchFailed as e:
        if ask.once:
            return {**told, "failed": 1, "reason": e.message}
        raise (RetryAsked(e.message, e.after_s) if e.again else Fail(e.message)) from e
    if ask.process:
        left = await waiting(stores, run.tenant, Where("source_id", "eq", source.id))  # also of a run that was killed
        asked = [_processing(run, d) for d in left[:MOST_SUBMITTED]]
        await run.submit(*asked)
    return {"source_id": source.id, "fetched": done.fetched, "new": done.new, "failed": done.failed}


def _processing(run: Run, d: Document) -> Submission:
    """One task a day of a fetched page, however many collections find it waiting: its queue may be behind, and what was
    tried in vain is tried again."""
    stores: Stores = run.stores
    told = f"{run.tenant}/{d.id}/{d.raw}/{d.updated_at}/{stores.clock.now() // (DAY_S * 1000)}"
    return Submission(
        "process_document", {"document_id": d.id}, id=f"document-{sha256(told.encode()).hexdigest()[:32]}"
    )


async def collect_all_sources(ask: Nothing, run: Run) -> dict[str, Any]:
    """{sources: [what collect_from_source says of each]}; one that failed has {source_id, reason}."""
    if run.tenant == SYSTEM:
        return {"sources": [one for t in await _each_tenant(run, "collect_all_sources", {}) for one in t["sources"]]}
    return {"sources": await _collected(run, None, {"due": True, "once": True})}


async def deduplicate_documents(ask: SinceAsk, run: Run) -> dict[str, Any]:
    """{exact, near}: how many of the documents are copies."""
    if run.tenant == SYSTEM:
        return _sum(await _each_tenant(run, "deduplicate_documents", ask.model_dump()))
    since = 0 if ask.since is None else parse_time("since", ask.since)
    return {**await deduplicate(run.stores, run.tenant, since)}


async def rebuild_index(ask: Nothing, run: Run) -> dict[str, Any]:
    """{documents, index}: how many the new index has, and its name: a space of text vectors, fitted anew, which takes
    the place of the old one at once when it is whole. The Ray Job `embed` makes it."""
    if run.tenant == SYSTEM:
        found = await _each_tenant(run, "rebuild_index", {})
        return {"documents": sum(t["documents"] for t in found), "index": [t["index"] for t in found]}
    stores: Stores = run.stores
    log = await run.job("embed", ["--tenant", run.tenant])
    live = await stores.registry.live(run.tenant, EMBEDDER)
    if live is None or f"{EMBEDDER}: refused" in log:
        raise Fail(f"no index was made, and the one before stays: {log[-500:]}")
    return {"documents": await indexed(stores, run.tenant), "index": str(live.about.get("space", live.id))}


async def sync_pipeline(ask: SyncAsk, run: Run) -> dict[str, Any]:
    """Counts of each step: {collect: {sources, fetched, new, failed}, process: {processed, failed}, deduplicate:
    {exact, near}, index: {documents}}; with `rebuild` the index is also named."""
    if run.tenant == SYSTEM:
        found = await _each_tenant(run, "sync_pipeline", ask.model_dump())
        return {step: _sum([t[step] for t in found]) for step in ("collect", "process", "deduplicate", "index")}
    sources = await _collected(run, ask.source_ids, {"process": False, "once": True})
    parts = await run.gather(*(Submission("batch_process", {"part": k}, id=f"{run.id}.part.{k}") for k in range(PARTS)))
    since = min(t.submitted_at for t in parts) - SKEW_MS
    copies = await deduplicate(run.stores, run.tenant, since)
    index: dict[str, Any] = {"documents": await indexed(run.stores, run.tenant, since)}
    if ask.rebuild:
        (made,) = await run.gather(Submission("rebuild_index", {}, id=f"{run.id}.index"))
        index = made.result if made.state is State.SUCCESS else {**index, "reason": made.error}
    done = [t.result for t in parts if t.state is State.SUCCESS]
    counted = {"processed": sum(d["processed"] for d in done), "failed": sum(len(d["failed"]) for d in done)}
    return {
        "collect": {"sources": len(sources), **_sum(sources)},
        "process": counted,
        "deduplicate": copies,
        "index": index,
    }


async def _collected(run: Run, ids: Sequence[str] | None, how: dict[str, Any]) -> list[dict[str, Any]]:
    """What collect_from_source says of each source, in their order; no slot is held meanwhile. The children's ids are
    made of the sources', so that a second run finds those of the first, whatever sources came between."""
    known = {s.id: s for s in await _sources(run).list()}
    wanted = [s.id for s in known.values() if s.enabled] if ids is None else list(dict.fromkeys(ids))
    if missing := [i for i in wanted if i not in known]:
        raise Fail(f"sources {', '.join(missing)[:500]} are unknown to tenant {run.tenant!r}")
    asked = [Submission("collect_from_source", {"source_id": i, **how}, id=f"{run.id}.source.{i}") for i in wanted]
    done = await run.gather(*asked) if asked else []
    return [_of_source(i, t) for i, t in zip(wanted, done, strict=True)]


def _of_source(id: str, task: Task) -> dict[str, Any]:
    if task.state is State.SUCCESS:
        return dict(task.result)
    return {"source_id": id, "fetched": 0, "new": 0, "failed": 1, "reason": task.error or task.state.value}


async def _each_tenant(run: Run, name: str, argument: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the house's own task: the same of every tenant that has sources, as children."""
    stores: Stores = run.stores
    having = [t for t in await tenants(stores) if await Sources(stores.documents, stores.clock, t).list()]
    asked = [Submission(name, argument, tenant=t, id=f"{run.id}.tenant.{t}") for t in having]
    done = await run.gather(*asked) if asked else []
    return [t.result for t in done if t.state is State.SUCCESS]


def _sum(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Numbers of the same name added up."""
    total: dict[str, Any] = {}
    for one in found:
        for name, n in one.items():
            if isinstance(n, int):
                total[name] = total.get(name, 0) + n
    return total


async def _is_due(run: Run, source: Source) -> bool:
    stores: Stores = run.stores
    state = await _sources(run).state(source.id)
    passed_ms = stores.clock.now() - max(state.collected_at, state.failed_at)
    return passed_ms >= NEARLY * source.every * 1000


def _fetcher(stores: Stores) -> Fetcher:
    return Fetcher(stores.settings.content, stores.redis, stores.settings.stores.redis_prefix)


def _sources(run: Run) -> Sources:
    stores: Stores = run.stores
    return Sources(stores.documents, stores.clock, _tenant(run))


def _tenant(run: Run) -> str:
    if run.tenant == SYSTEM:
        raise Fail("content belongs to a tenant: submit the task with the key of one")
    return run.tenant


def _handler(
    call: Any, asks: type[Ask], queue: str = "default", *positional: str, limits: Limits | None = None
) -> Handler:
    return Handler(
        call, asks, queue=queue, aliases=(OLD + call.__name__,), positional=positional, limits=limits,
        verdicts={NotFound: "fail", InvalidField: "fail"},
    )  # fmt: skip


HANDLERS: tuple[Handler, ...] = (
    _handler(fetch_url, UrlAsk, "default", "url"),
    _handler(process_document, DocumentAsk, "processing", "document_id"),
    _handler(collect_from_source, SourceAsk, "default", "source_id"),
    _handler(collect_all_sources, Nothing),
    _handler(batch_process, BatchAsk, "bulk", "document_ids"),
    _handler(deduplicate_documents, SinceAsk, "default", "since", limits=WHOLE),
    _handler(rebuild_index, Nothing),
    _handler(sync_pipeline, SyncAsk, "default", "source_ids", limits=WHOLE),
)
