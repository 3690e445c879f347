"""Whether what a configuration names can be imported: modules of a Serve file, and the packages that URLs ask for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from ray_app.operations.check import Finding

NAMING = ("import_path", "policy_function", "request_router_class", "grpc_servicer_functions")  # keys of a Serve file
PACKAGES = {
    "stores.mongodb_url": "pymongo",
    "stores.milvus_url": "pymilvus",
    "stores.clickhouse_url": "clickhouse_connect",
    "events.kafka_url": "aiokafka",
}
SERVED = "pip install 'lemo[served]'"


def serve_modules(config: Any) -> list[Finding]:
    """One finding for each module or attribute that a Serve file names."""
    return [_imported(name) for name in dict.fromkeys(_named(config))]


def packages(urls: Mapping[str, str | None]) -> list[Finding]:
    """`urls` by setting. A finding for each package that a URL asks for."""
    wanted = {package: setting for setting, package in PACKAGES.items() if urls.get(setting)}
    found = [_package(package, setting) for package, setting in wanted.items()]
    blobs = urls.get("stores.blobs_url")
    return [*found, *([_filesystem(blobs.partition("://")[0])] if blobs and "://" in blobs else [])]


def _named(tree: Any) -> Iterator[str]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if key in NAMING:
                yield from [value] if isinstance(value, str) else value or ()
            else:
                yield from _named(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _named(value)


def _imported(name: str) -> Finding:
    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    try:
        getattr(importlib.import_module(module), attribute)
    except Exception as e:  # a module may fail by anything while it is imported
        do = "Install the package, or put its folder on PYTHONPATH; a generated one: python proto/build.py"
        return Finding("fail", name, f"cannot be imported: {type(e).__name__}: {e}", do)
    return Finding("ok", name, "is there")


def _package(package: str, setting: str) -> Finding:
    try:
        importlib.import_module(package)
    except Exception as e:  # a package may fail by anything while it is imported
        return Finding("fail", package, f"{setting} needs it, and it cannot be imported: {e}", SERVED)
    return Finding("ok", package, "is there")


def _filesystem(protocol: str) -> Finding:
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as e:
        return Finding("fail", protocol, f"stores.blobs_url needs it: {e}", SERVED)
    return Finding("ok", protocol, "is there")
