"""The learning rates that a recipe plans, before anything is trained, and whether they suit its loss."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paddlefcn import build
from paddlefcn.data.transforms import Compose
from paddlefcn.errors import DataError
from paddlefcn.losses import LOSSES
from paddlefcn.optim import LOSS_SCALED, ReduceOnPlateau, rate_warning

if TYPE_CHECKING:
    from paddlefcn.config import Component, Config
    from paddlefcn.data.datasets import SegmentationDataset


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


def check_rate(
    config: Config, rate: float, dataset: SegmentationDataset, *, trained: bool = False
) -> str | None:
    """A warning if the learning rate is wrong by orders of magnitude for the loss's reduction.

    Args:
        rate: the schedule's.
        dataset: the training split, whose first images tell how many pixels a batch has.
        trained: whether the network starts from one that was trained for the same task.
    """
    if config.optimizer.type not in LOSS_SCALED:
        return None
    pixels = _pixels_per_batch(config, dataset)
    if not pixels:
        return None
    # one sum outweighs every mean beside it, and is over all batches of a step
    summed = any(_reduction(loss) == "sum" for loss in config.loss)
    warning = rate_warning(
        rate,
        reduction="sum" if summed else "mean",
        pixels=pixels * (config.train.accumulate if summed else 1),
        trained=trained or bool(config.model.args.get("pretrained")),
    )
    return warning and f"{config.schedule.where}: {warning}"


def _reduction(loss: Component) -> Any:
    parameter = inspect.signature(LOSSES[loss.type]).parameters.get("reduction")
    return loss.args.get("reduction", parameter.default if parameter else "mean")


def _pixels_per_batch(config: Config, dataset: SegmentationDataset) -> int:
    """From the first four images, augmented as in training; 0 if none of them can be read."""
    augment, areas = Compose(build.build_train_transforms(config)), []
    for index in range(min(4, len(dataset))):
        try:
            image, label = dataset.read(index)
        except DataError:
            continue  # the loader says so, when it comes to it
        areas.append(augment(image, label, np.random.default_rng(index))[1].size)
    return config.train.batch_size * sum(areas) // max(1, len(areas))
