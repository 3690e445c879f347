"""What a job tells: lines while it runs, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Tell = Callable[[str], None]
MOST_SHOWN = 8  # figures in the line that ends a job


@dataclass(frozen=True, slots=True)
class Report:
    """`version` is now what `status` says, live unless said; None means that the result was refused and what was live
    stays, for the reason `why`."""

    name: str
    version: str | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    status: str = "live"

    def __str__(self) -> str:
        figures = self._figures()
        if self.version is None:
            return f"{self.name}: refused, {self.why}. What was live stays. {figures}".rstrip()
        return f"{self.name}: version {self.version} is {self.status}. {self.why or figures}".rstrip()

    def _figures(self) -> str:
        """The first ones without their bounds: all of them stand with the version and in the history."""
        shown = [f"{k} {v:.4f}" for k, v in self.metrics.items() if not k.endswith(("_low", "_high"))]
        more = [f"all {len(self.metrics)} with their bounds: lemo job history"] if len(shown) > MOST_SHOWN else []
        return ", ".join(shown[:MOST_SHOWN] + more)


class Refused(Exception):
    """The result may not go live; says why, with the figures."""

    def __init__(self, why: str, metrics: dict[str, float] | None = None) -> None:
        super().__init__(why)
        self.metrics = metrics or {}
