"""`class_weights: {from: data, rule: …}` in a recipe: counted once on the training split, then numbers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paddlefcn.bars import Steps
from paddlefcn.data.workers import ordered_map
from paddlefcn.errors import DataError
from paddlefcn.files import write_json
from paddlefcn.losses.class_weights import ClassCounts, weights_by_rule

if TYPE_CHECKING:
    from paddlefcn.config import Config
    from paddlefcn.data.datasets import SegmentationDataset

FILE = "class_weights.json"


def wants_counts(config: Config) -> bool:
    """Whether a loss of the recipe, or of one of its stages, takes its class weights from data."""
    parts = config.stages or (config,)
    return any(isinstance(loss.args.get("class_weights"), Mapping) for part in parts for loss in part.loss)


def find_counts(config: Config, train_set: SegmentationDataset, run: Path | None) -> ClassCounts | None:
    """How often the classes occur, if a loss wants to know: as the `run` that goes on counted them, or now.

    Raises:
        DataError: a pair cannot be used, and the recipe does not say that such are left out.
    """
    if not wants_counts(config):
        return None
    kept = None if run is None else read_counts(run)
    skip = config.data.on_bad_image == "skip"
    return kept or count_classes(train_set, num_workers=config.data.num_workers, skip=skip)


def find_run_counts(config: Config, weights: Path) -> ClassCounts | None:
    """How often the classes occur, if a loss wants to know and the run that the weights are of counted it."""
    if not wants_counts(config):
        return None
    folders = weights.resolve().parents[1:3]  # RUN/best/, RUN/checkpoints/iter_N/
    return next(filter(None, map(read_counts, folders)), None)


def count_classes(dataset: SegmentationDataset, *, num_workers: int = 0, skip: bool = False) -> ClassCounts:
    """Reads every mask of a split.

    Raises:
        DataError: a pair cannot be used, and `skip` is not set.
    """
    classes = dataset.label_reader.num_classes
    pixels, together = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    steps = Steps("classes")
    stream = ordered_map(_Counter(dataset, skip), range(len(dataset)), num_workers)
    try:
        for done, counts in enumerate(stream, start=1):
            pixels += counts
            together += np.where(counts > 0, counts.sum(), 0)
            steps(done, len(dataset))
    finally:
        steps.close()
        stream.close()  # type: ignore[attr-defined]
    return ClassCounts(tuple(pixels.tolist()), tuple(together.tolist()))


@dataclasses.dataclass(frozen=True)
class _Counter:
    """Counts one mask; sent to every worker once."""

    dataset: SegmentationDataset
    skip: bool

    def __call__(self, index: int) -> np.ndarray:
        classes, void = self.dataset.label_reader.num_classes, self.dataset.label_reader.ignore_index
        try:
            label = self.dataset.read(index)[1]
        except DataError:
            if not self.skip:
                raise
            return np.zeros(classes, np.int64)
        return np.bincount(label[label != void].ravel(), minlength=classes)[:classes].astype(np.int64)


def write_counts(folder: Path, config: Config, counts: ClassCounts) -> list[str]:
    """Keeps the counts, and the weights that followed, beside a run; returns lines that tell the weights."""
    made, lines = {}, []
    names = config.data.classes
    for part in config.stages or (config,):
        for loss in part.loss:
            wanted = loss.args.get("class_weights")
            if not isinstance(wanted, Mapping):
                continue
            weights = weights_by_rule(wanted, counts, loss.where)
            made[f"{loss.where.rpartition(' ')[2]}.class_weights"] = weights
            told = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(names, weights))
            lines.append(f"{loss.type}: class weights by {wanted['rule']}: {told}")
    absent = [name for name, pixels in zip(names, counts.pixels) if not pixels]
    if absent:
        lines.append(f"weight 0 for what no training mask holds: {', '.join(absent)}")
    write_json(folder / FILE, {"counts": dataclasses.asdict(counts), "weights": made})
    return lines


def read_counts(folder: Path) -> ClassCounts | None:
    """What `write_counts` kept, or None where there is nothing that can be read."""
    try:
        kept = json.loads((folder / FILE).read_text(encoding="utf-8"))["counts"]
        return ClassCounts(tuple(kept["pixels"]), tuple(kept["together"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
