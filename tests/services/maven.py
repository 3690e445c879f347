"""Java programs that tests run against: fetched once by Maven into a cache, and shared by parallel runs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

POM = """<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>lemo</groupId><artifactId>{name}</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>{dependencies}</dependencies>
</project>
"""
DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


def cache() -> Path:
    """Where downloads stay between runs: LEMO_CACHE, or ~/.cache/lemo."""
    return Path(os.environ.get("LEMO_CACHE") or Path.home() / ".cache" / "lemo")


def classpath(name: str, coordinates: Sequence[str]) -> str:
    """The class path of these artifacts (group:artifact:version) and of all that they need at run time.

    Downloaded once into `<cache>/<name>`; others who ask at the same time wait. Raises RuntimeError when it cannot.
    """
    folder, wanted = cache() / name, "\n".join(coordinates)
    with alone(name):
        done = folder / "coordinates"  # written last: a download that broke off is begun anew
        if not done.is_file() or done.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            _download(folder, name, coordinates)
            done.write_text(wanted)
    return f"{folder / 'libs'}/*"


def compiled(name: str, main: str, source: str, path: str) -> str:
    """`source`, of the class `main`, compiled once against the class path `path`; returns `path` with it in front."""
    key = hashlib.sha256(f"{path}\n{source}".encode()).hexdigest()[:16]
    folder = cache() / name / f"classes-{key}"
    with alone(name):
        if not (folder / f"{main}.class").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{main}.java").write_text(source)
            _run([program("javac"), "-cp", path, "-d", str(folder), str(folder / f"{main}.java")], folder)
    return f"{folder}{os.pathsep}{path}"


def program(name: str) -> str:
    """The path of java, javac or mvn. Raises RuntimeError that says what to install."""
    found = shutil.which(name)
    if found is None:
        package = {"mvn": "maven", "java": "openjdk-17-jre-headless"}.get(name, "openjdk-17-jdk-headless")
        raise RuntimeError(
            f"{name} is not on the PATH, and the served stores of the tests need it: apt install {package}"
        )
    return found


def _download(folder: Path, name: str, coordinates: Sequence[str]) -> None:
    folder.mkdir(parents=True)
    dependencies = "".join(DEPENDENCY.format(*c.split(":")) for c in coordinates)
    (folder / "pom.xml").write_text(POM.format(name=name, dependencies=dependencies))
    goal = ["dependency:copy-dependencies", "-DoutputDirectory=libs", "-DincludeScope=runtime"]
    _run([program("mvn"), "-q", "-B", *goal], folder)


def _run(line: Sequence[str], folder: Path) -> None:
    done = subprocess.run(line, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{' '.join(line)} failed:\n{(done.stdout + done.stderr)[-2000:]}")


@contextmanager
def alone(name: str) -> Iterator[None]:
    """One process at a time per name."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{name}.lock").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        yield
