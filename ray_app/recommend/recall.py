"""Recall: every channel of the scenario, and one merged list of candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ray_app.catalog.scenario import Channel, Scenario
from ray_app.features.view import Moment
from ray_app.models.base import Recaller
from ray_app.recommend.budget import Budget
from ray_app.recommend.channels import local
from ray_app.types import Degraded, Mask, Rows, Scored, Scores, Visitor

SOFTEN = 60.0  # of the place in reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009)


@dataclass(frozen=True, slots=True)
class Candidates:
    """rows int32 [m], best first, with the merged score float32 [m] and what each channel found."""

    rows: Rows
    scores: Scores
    found: Mapping[str, Scored]


def recall(
    visitor: Visitor, scenario: Scenario, trained: Mapping[str, Recaller], allowed: Mask, moment: Moment, budget: Budget
) -> Candidates:
    """Channels that are in this process, one after another. A channel that is neither built in nor trained yet is
    left out silently: it is the state of a new shop, not a failure; a channel that fails is named in `degraded`."""
    found, built_in = {}, local(scenario)
    for name, channel in scenario.channels.items():
        if not budget.left(name):
            break
        try:
            if name in built_in:
                found[name] = built_in[name](visitor, channel.quota, allowed, moment)
            elif name in trained:
                found[name] = trained[name].recommend(visitor, channel.quota, allowed, moment.pinned)
        except (ValueError, IndexError, FloatingPointError) as e:
            budget.degraded.append(Degraded("recall", f"{type(e).__name__}: {e}", name))
    return merge(found, scenario.channels, scenario.candidates, moment.pinned.n)


def merge(found: Mapping[str, Scored], channels: Mapping[str, Channel], most: int, n: int) -> Candidates:
    """Weighted reciprocal rank over n rows; equal scores: the smaller row first."""
    total = np.zeros(n, np.float32)
    for name, scored in found.items():
        places = np.arange(len(scored.rows), dtype=np.float32)
        total[scored.rows] += np.float32(channels[name].weight) / (np.float32(SOFTEN) + places)
    some = np.flatnonzero(total)
    rows: Rows = some[np.lexsort((some, -total[some]))][:most].astype(np.int32)
    return Candidates(rows, total[rows], found)
