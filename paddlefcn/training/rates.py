"""The learning rates that a recipe plans, before anything is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from paddlefcn import build
from paddlefcn.optim import ReduceOnPlateau

if TYPE_CHECKING:
    from paddlefcn.config import Config


@dataclasses.dataclass(frozen=True)
class PlannedRates:
    """The rate of each iteration of a stage, and what is to be known about it."""

    name: str
    rates: Sequence[float]
    notes: Sequence[str]

    def summary(self) -> str:
        """The iterations and the rates that frame them."""
        first, highest, last = self.rates[0], max(self.rates), self.rates[-1]
        return f"{len(self.rates)} iterations, first {first:.3g}, highest {highest:.3g}, last {last:.3g}"


def planned_rates(config: Config) -> list[PlannedRates]:
    """One entry a stage; a recipe without stages is one. Reads the data set only to count its epochs."""
    planned = []
    for part in config.stages or (config,):
        total = part.train.iters or _iterations(part)
        schedule = build.build_schedule(part, total=total)
        longer = schedule.longer_than_the_run()
        notes = [f"the schedule is longer than the run: {longer}"] if longer else []
        if isinstance(schedule, ReduceOnPlateau):
            notes.append("ReduceOnPlateau follows the scores; drawn as if every evaluation were better")
        kind = f"{part.model.type}, {part.schedule.type}"
        planned.append(PlannedRates(kind, [schedule(i) for i in range(1, total + 1)], notes))
    return planned


def _iterations(config: Config) -> int:
    loader = build.build_loader(config, build.build_dataset(config, "train"))
    return (config.train.epochs or 1) * max(1, loader.batches_per_epoch // config.train.accumulate)
