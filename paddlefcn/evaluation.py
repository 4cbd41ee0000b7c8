"""Scoring trained weights on a split, as the `val` command and notebooks do it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle

import paddlefcn
from paddlefcn import build, runtime
from paddlefcn.bars import Steps
from paddlefcn.class_weights import find_run_counts
from paddlefcn.deploy.fast_path import fast_network
from paddlefcn.engine.evaluate import ImageResult
from paddlefcn.engine.evaluate import evaluate as run_evaluation
from paddlefcn.files import checksum
from paddlefcn.inference import WholeImage
from paddlefcn.refine.refinement import Refinement
from paddlefcn.refine.settings import RefineOptions
from paddlefcn.scoring.report import Report, Scorer
from paddlefcn.trained import load_trained
from paddlefcn.weights import resolve_weights

if TYPE_CHECKING:
    from paddlefcn.config import Config
    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.inference import Inference


@dataclasses.dataclass(frozen=True)
class Scored:
    """The scores of weights on a split.

    Attributes:
        report: every score, per class and per image, with its interval.
        loss: the mean over images.
        seconds: how long it took.
        dataset: the split.
        bad: name -> message of the pairs that were left out (`data.on_bad_image: skip`).
        about: what was scored with what: weights and their checksum, recipe, inference, versions.
    """

    report: Report
    loss: float | None
    seconds: float
    dataset: SegmentationDataset
    bad: Mapping[str, str]
    about: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """What `val --json` holds."""
        return {**self.report.to_dict(), **self.record()}

    def record(self) -> dict[str, Any]:
        """`to_dict` without the scores: the loss, what was left out, and what was scored with what."""
        return {"val_loss": self.loss, "bad": dict(self.bad), **self.about}


def evaluate(
    config: Config,
    weights: str | Path,
    *,
    split: str = "val",
    inference: Inference | None = None,
    convention: str = "paper",
    device: str | None = None,
) -> dict[str, Any]:
    """Scores weights on a split of the recipe's data.

    Args:
        config: a recipe, of `load_config`.
        weights: a weight file, a checkpoint folder, or a run's folder.
        split: "train", "val" or "test".
        inference: how the network is run; the whole image at once if not given.
        convention: how absent classes count in the means, see paddlefcn.metrics.
        device: "cpu", "gpu" or "gpu:N"; a GPU if there is one when not given.

    Returns:
        What `val --json` holds: scores from 0 to 1, None where nothing was scored.

    Raises:
        UserError: a recipe, data or weights that cannot be used.
    """
    runtime.select_device(device)
    build.validate(config)
    scorer = Scorer(config.data.classes, config.data.ignore_index, convention=convention)
    return score(config, weights, scorer, split=split, inference=inference).to_dict()


def score(
    config: Config,
    weights: str | Path,
    scorer: Scorer,
    *,
    split: str = "val",
    inference: Inference | None = None,
    on_image: Callable[[ImageResult], None] = lambda result: None,
    refine: RefineOptions | None = None,
) -> Scored:
    """`evaluate` with a scorer of one's own, a look at each image's result, and what `refine` asks for.

    Raises:
        UserError: data or weights that cannot be used.
    """
    run = inference or WholeImage()
    dataset = build.build_dataset(config, split)
    trained = load_trained(config, weights)
    losses = build.build_losses(config, trained.model, find_run_counts(config, resolve_weights(weights)))
    bad: dict[str, str] = {}
    white = trained.preprocess.normalize.white
    refinement = Refinement(config.refine, refine or RefineOptions(), config.data.ignore_index, white)
    gives = "probabilities" if run.probabilities else "logits"

    def decide(index: int, scores: np.ndarray) -> np.ndarray:
        return refinement(dataset.read(index)[0], scores, gives=gives).labels

    def look(result: ImageResult) -> None:
        scorer.add(result.sample.name, result.pred, result.label)
        on_image(result)

    began = time.perf_counter()
    found = run_evaluation(
        fast_network(trained.model, trained.preprocess.normalize, len(dataset)),
        dataset,
        preprocess=trained.preprocess,
        inference=run,
        loss=lambda logits, label: losses([logits], label),
        num_workers=config.data.num_workers,
        progress=Steps(split),
        on_image=look,
        bad=bad if config.data.on_bad_image == "skip" else None,
        decide=decide if refinement.options.active else None,
    )
    seconds = time.perf_counter() - began
    about = {"split": split, **_scored_with(config, weights, run), "refinement": refinement.to_dict()}
    return Scored(scorer.report(), found.loss, seconds, dataset, bad, about)


def _scored_with(config: Config, weights: str | Path, inference: Inference) -> dict[str, Any]:
    """The part of the JSON that makes it a record."""
    file = resolve_weights(weights).resolve()
    return {
        "weights": {"file": str(file), "sha256": checksum(file)},
        "recipe": {"file": config.file, "tree": config.tree},
        "inference": inference.to_dict(),
        "versions": {
            "paddlefcn": paddlefcn.__version__,
            "paddle": paddle.__version__,
            "numpy": np.__version__,
        },
    }
