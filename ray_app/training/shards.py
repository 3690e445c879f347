"""Work in parts that survive a kill: each finished part is a checked file, and the next run makes only what is missing.

A run is a folder of blobs that is named by the content of its input, so that other input is another run. A part counts
as finished when its note is there, which is written last, and its files have the checksums that the note names.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ray_app.models.base import Arrays
from ray_app.registry import artifact
from ray_app.stores.blobs import Blobs

Make = Callable[[Arrays, int, int], Arrays]  # (input, first row, last row + 1) -> what was made of these rows
Spread = Callable[["Call", Sequence["Part"]], Iterable["Part"]]
Call = Callable[["Part"], "Part"]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows first .. last - 1 of a run, wherever it is made: `place` and `copies` are those of Blobs."""

    place: str | Path
    copies: Path | None
    folder: str
    make: Make
    first: int
    last: int

    @property
    def name(self) -> str:
        return f"{self.folder}/{self.first:010d}-{self.last:010d}"


class Run:
    """`folder` has the input below `input/`, and finished parts."""

    def __init__(self, blobs: Blobs, folder: str) -> None:
        self._blobs, self.folder = blobs, folder

    @classmethod
    def begin(cls, blobs: Blobs, above: str, given: Arrays) -> Run:
        """The run of this input, new or as far as it came."""
        sums = {f"{name}.npy": sha256(artifact.npy(array)).hexdigest() for name, array in given.items()}
        run = cls(blobs, f"{above}/{sha256(orjson.dumps(sorted(sums.items()))).hexdigest()[:16]}")
        if blobs.get(f"{run.folder}/input.json") is None:
            for name, array in given.items():  # one at a time: the input is large
                blobs.put(f"{run.folder}/input/{name}.npy", artifact.npy(array))
            blobs.put(f"{run.folder}/input.json", orjson.dumps(sums))
        return run

    def input(self) -> Arrays:
        """Mapped from the node's disk. Raises BrokenArtifact for input that is not whole."""
        return _input(self._blobs, self.folder)

    def parts(self, spans: Sequence[tuple[int, int]], make: Make) -> list[Part]:
        return [Part(self._blobs.place, self._blobs.copies, self.folder, make, a, b) for a, b in spans]

    def missing(self, parts: Sequence[Part]) -> list[Part]:
        """Those without a note, or with files that are not what their note says."""
        notes = {n for n in self._blobs.names(self.folder) if n.endswith(".json")}
        return [p for p in parts if f"{p.name}.json".removeprefix(f"{self.folder}/") not in notes or self._broken(p)]

    def _broken(self, part: Part) -> bool:
        return any(body is None for body in self._bodies(part).values())

    def _bodies(self, part: Part) -> dict[str, bytes | None]:
        """By name each file of the part that is whole, else None."""
        note = self._blobs.get(f"{part.name}.json")
        if note is None:
            return {"": None}
        bodies = {name: (self._blobs.get(f"{part.name}.{name}.npy"), sum) for name, sum in orjson.loads(note).items()}
        return {n: b if b is not None and sha256(b).hexdigest() == s else None for n, (b, s) in bodies.items()}

    def collect(self, parts: Sequence[Part]) -> dict[str, NDArray[Any]]:
        """The parts one below the other. Raises ValueError, naming a part that is missing or broken."""
        found: dict[str, list[NDArray[Any]]] = {}
        for part in parts:
            for name, body in self._bodies(part).items():
                if body is None:
                    raise ValueError(f"part {part.name} is not whole. Start the job again: it makes what is missing")
                found.setdefault(name, []).append(np.load(io.BytesIO(body), allow_pickle=False))
        return {name: np.concatenate(arrays) for name, arrays in found.items()}

    def remove(self) -> None:
        self._blobs.remove(self.folder)


def work(part: Part) -> Part:
    """Make one part, in this process or on another node."""
    blobs = Blobs(part.place, part.copies)
    made = part.make(_input(blobs, part.folder), part.first, part.last)
    bodies = {name: artifact.npy(array) for name, array in made.items()}
    for name, body in bodies.items():
        blobs.put(f"{part.name}.{name}.npy", body)
    blobs.put(f"{part.name}.json", orjson.dumps({n: sha256(b).hexdigest() for n, b in bodies.items()}))
    return part


def here(call: Call, parts: Sequence[Part]) -> Iterator[Part]:
    """One after another in this process; training/distributed.py spreads them over a cluster."""
    yield from map(call, parts)


def _input(blobs: Blobs, folder: str) -> Arrays:
    wanted = orjson.loads(blobs.get(f"{folder}/input.json") or b"{}")
    return artifact.read(blobs.local_folder(f"{folder}/input"), wanted, f"the input of {folder}")
