"""What follows from the scores recorded so far, so that a resumed run decides as it would have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paddlefcn.optim.schedules import Score


def is_evaluation(record: Mapping[str, Any]) -> bool:
    """Whether a line of metrics.jsonl is an evaluation's."""
    return "mean_iou" in record


def scores_of(evaluations: Iterable[Mapping[str, Any]], name: str, start: int) -> list[Score]:
    """(iteration in the stage that began after `start`, the score `name`) of the stage's evaluations."""
    return [(line["iter"] - start, line[name]) for line in evaluations if line["iter"] > start]


def ends_early(scores: Sequence[Score], patience: int | None) -> bool:
    """Whether the last `patience` scores are all no better than one before them; never with None."""
    if patience is None or len(scores) <= patience:
        return False
    values = [-math.inf if score is None else score for _, score in scores]
    return max(values[-patience:]) <= max(values[:-patience])
