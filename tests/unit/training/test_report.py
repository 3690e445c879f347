"""The line that ends a job: what became of it, and the first figures."""

from __future__ import annotations

from ray_app.training.report import MOST_SHOWN, Report

MANY = {f"figure_{k}{end}": k / 10 for k in range(MOST_SHOWN + 1) for end in ("", "_low", "_high")}


def test_a_line_has_the_first_figures_without_bounds_and_says_where_all_are() -> None:
    line = str(Report("ranker", "7", MANY))
    assert line.startswith("ranker: version 7 is live. figure_0 0.0000, figure_1 0.1000, ")
    assert line.endswith(f"figure_{MOST_SHOWN - 1} 0.7000, all {len(MANY)} with their bounds: lemo job history")
    assert "_low" not in line


def test_a_line_of_few_figures_has_them_all_also_where_it_was_refused() -> None:
    line = str(Report("ranker", None, {"auc": 0.5, "auc_low": 0.4}, "it is worse"))
    assert line == "ranker: refused, it is worse. What was live stays. auc 0.5000"
