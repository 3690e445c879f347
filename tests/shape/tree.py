"""The tree as the shape tests see it: files that are, or would be, committed."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def files() -> tuple[Path, ...]:
    """Tracked files and new ones that git does not ignore."""
    line = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return tuple(p for n in sorted(set(names)) if (p := ROOT / n).is_file())


def sources(*folders: str) -> list[Path]:
    """Python files below these folders of the root."""
    return [f for f in files() if f.suffix == ".py" and f.relative_to(ROOT).parts[0] in folders]


def texts() -> list[Path]:
    """Everything that people read."""
    return [f for f in files() if f.suffix not in (".gz", ".png", ".svg")]
