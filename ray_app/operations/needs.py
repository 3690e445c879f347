"""What each role cannot do without a store: the words of `lemo check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

LATER = "it waits; nothing is lost within the log's retention"

GATEWAY = {
    "documents": "no replica starts, and requests are refused (503): keys, scenarios and items lie there",
    "state": "profiles are empty, hot lists and the catalogue stand still, and a write with `wait` is not confirmed",
    "event log": "writes are refused (503), and answers are not kept for learning",
    "vectors": "a replica that starts finds no similar items",
    "blobs": "a replica that starts loads no model: hot and new items fill its answers",
    "analytics": "recommending goes on; /ready names it as away",
}
FLOW = {
    "event log": "it reads nothing",
    "state": LATER,
}
SINKS = {
    "items": {
        "documents": LATER,
        "vectors": LATER,
        "blobs": "new items get no vectors where the embedder was not loaded before",
    },
    "behaviors": {"analytics": LATER},
    "slates": {"analytics": LATER},
    "neural": {"documents": LATER},
    "tasks": {"analytics": LATER},
}
JOBS = {
    "documents": "every job: tenants, items and versions lie there",
    "analytics": "every job but embed: it has the history; with --dataset similarity, recall, train and evaluate go on",
    "vectors": "every job but dataset and profiles: text vectors are written and read there",
    "blobs": "every job: trained versions lie there",
    "state": "every job but dataset: the catalogue's changes lie there",
}
SCHEDULER = {"state": "no schedule fires; what was due is caught up by its rule when it is back"}


def needs(flows: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    """By role, the gateway first: what will not work without a store."""
    streams = {f"streams {flow}": {**FLOW, **SINKS.get(flow, {})} for flow in flows}
    return {"gateway": GATEWAY, **streams, "jobs": JOBS, "scheduler": SCHEDULER}
