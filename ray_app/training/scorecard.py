"""The figures of an evaluation as lines to read: a table of all visitors, one a segment, and what has to be known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ray_app.registry.version import Version
from ray_app.training.judge import LISTS, SHOWN, K, Slice
from ray_app.training.weeks import day

FOUND = "found"  # share of what was wanted that is among the candidates
VARIED = (f"coverage@{K}", "diversity", "novelty")
SEEN = " (seen)"


@dataclass(frozen=True)
class Score:
    """`figures` as judge gives them; none where it could not be judged, for the reason `why`. `seen`: it may have
    learned from the slice."""

    name: str
    figures: Mapping[str, float] = field(default_factory=dict)
    version: Version | None = None
    seen: bool = False
    why: str = ""

    @property
    def title(self) -> str:
        return self.name + SEEN * self.seen


def said(score: Score) -> str:
    """In one line."""
    return f"{score.title}: {_named(score.figures, SHOWN)}"


def tables(found: Sequence[Score], on: Slice) -> Iterator[str]:
    """Figures with the bounds of 95% over visitors, "-" for what is not known of it."""
    judged = [s for s in found if not s.why]
    sizes = {name: len(places) for name, places in on.segments.items()}
    yield from _table("all visitors", judged, "", (*SHOWN, FOUND), len(on.examples))
    yield from _table("all visitors", judged, "", VARIED, len(on.examples))
    for name, count in sizes.items():
        yield from _table(f"{name} visitors", judged, f"{name}_", (*LISTS, *VARIED), count)
    yield from _table("new items", judged, "new_items_", LISTS, len(on.of_new_items[1]))


def footnotes(found: Sequence[Score], on: Slice) -> Iterator[str]:
    yield ""
    yield f"{FOUND}: share of what was wanted that is among all candidates. Channels were fitted on what came before"
    for score in found:
        if score.why:
            yield f"{score.name} is left out: {score.why}"
        elif score.seen and score.version is not None:
            yield _warned(score.name, score.version, on)


def _warned(name: str, version: Version, on: Slice) -> str:
    about = version.about
    when = day(int(about["until"])) if "until" in about else "an unknown day"
    line = f"{name}{SEEN}: it learned until {when}, and the slice begins {day(on.cut)}; it may reach less than this"
    own = _named(version.metrics, LISTS)
    if own and "evaluated_from" in about:
        line += f". A fit of its kind without what came from {day(int(about['evaluated_from']))} on reached {own} there"
    return line


def _table(title: str, found: Sequence[Score], prefix: str, names: Sequence[str], visitors: int) -> Iterator[str]:
    """Nothing without visitors."""
    cells = [[f"{title} ({visitors:,})", *names]]
    cells += [[s.title, *(_cell(s.figures, prefix + n) for n in names)] for s in found]
    wide = [max(len(row[k]) for row in cells) for k in range(len(names) + 1)]
    for row in ([], *cells) if visitors else ():
        yield "  ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=False)).rstrip()


def _cell(figures: Mapping[str, float], name: str) -> str:
    if name not in figures:
        return "-"
    low, high = (figures.get(f"{name}_{end}", float("nan")) for end in ("low", "high"))
    return f"{figures[name]:.4f} ({low:.3f} to {high:.3f})"


def _named(figures: Mapping[str, float], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {figures[name]:.4f}" for name in names if name in figures)
