"""Which code made a version: the release, and a checksum of the sources that a model depends on."""

from __future__ import annotations

import importlib.metadata
from functools import cache
from hashlib import sha256
from pathlib import Path

PACKAGES = ("features", "models", "training")


@cache
def code_version() -> str:
    """`<release>+<8 hex digits>`; equal where the sources are, with or without a repository around them."""
    root, digest = Path(__file__).parents[1], sha256()
    for file in sorted(f for p in PACKAGES for f in (root / p).rglob("*") if f.suffix in (".py", ".sql", ".lua")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return f"{importlib.metadata.version('lemo')}+{digest.hexdigest()[:8]}"
