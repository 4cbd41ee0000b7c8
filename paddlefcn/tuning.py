"""Settings of refinement found on a split: the temperature, and those of the CRF.

Half of the images are for the search, every other one; the rest tell what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle

from paddlefcn import build
from paddlefcn.errors import DataError, UserError
from paddlefcn.inference import WholeImage
from paddlefcn.label_maps import resized_scores
from paddlefcn.metrics import ConfusionMatrix
from paddlefcn.refine.crf import DenseCRF
from paddlefcn.refine.refinement import softened
from paddlefcn.refine.settings import CrfSettings
from paddlefcn.scoring.calibration import Reliability, ReliabilityCounter, fit_temperature
from paddlefcn.trained import load_trained

if TYPE_CHECKING:
    from paddlefcn.config import Config
    from paddlefcn.inference import Inference

Progress = Callable[[int, int], None]

# what is tried for each setting, one after the other, around the best so far
GRID: Mapping[str, Sequence[float]] = {
    "bilateral_weight": (2, 4, 7, 10, 15),
    "color_sigma": (3, 5, 8, 13, 20),
    "bilateral_sigma": (20, 40, 80, 120),
    "smooth_weight": (0, 1, 3, 6),
    "smooth_sigma": (1, 3, 5),
}


@dataclass(frozen=True)
class ScoredImage:
    """An image of a split with its label and its logits at the label's size [C, H, W].

    The logits are logarithms of probabilities where the network was run at several scales.
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    logits: np.ndarray


@dataclass(frozen=True)
class Calibration:
    """A temperature and what it changes on images that it was not fitted on."""

    temperature: float
    before: Reliability
    after: Reliability
    fitted_on: int
    measured_on: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        plain = {"before": self.before.to_dict(), "after": self.after.to_dict()}
        return {**asdict(self), **plain}


@dataclass(frozen=True)
class CrfSearch:
    """The settings found, every one tried with its mean IoU, and the scores on the other images."""

    settings: CrfSettings
    trials: tuple[tuple[CrfSettings, float], ...]
    without: float
    default: float
    tuned: float
    searched_on: int
    measured_on: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def calibrate(
    config: Config,
    weights: str | Path,
    *,
    split: str = "val",
    inference: Inference | None = None,
    pixels: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Calibration:
    """Fits a temperature on every other image of a split and measures it on the rest.

    Args:
        config: a recipe; its own `refine.temperature` counts as 1 here.
        weights: a weight file, a checkpoint folder, or a run's folder.
        split: "train", "val" or "test".
        inference: how the network is run.
        pixels: drawn of each image for the fit; all pixels of the other images are measured.
        seed: of the draw.
        progress: called with (images done, images in all).

    Raises:
        UserError: less than two images, or data or weights that cannot be used.
    """
    rng = np.random.default_rng(seed)
    drawn: list[tuple[np.ndarray, np.ndarray]] = []
    before, after = ReliabilityCounter(), ReliabilityCounter()
    temperature, measured = 0.0, 0
    images = scored_images(config, weights, split, inference, order=_halves, progress=progress)
    for done, (size, scored) in enumerate(images):
        known = scored.label != config.data.ignore_index
        logits, labels = scored.logits[:, known].T, scored.label[known].astype(np.int64)
        if done < (size + 1) // 2:
            chosen = rng.permutation(len(labels))[:pixels]
            drawn.append((logits[chosen], labels[chosen]))
            continue
        if not measured:
            temperature = _fitted(drawn, split)
        measured += 1
        for counter, divisor in ((before, 1.0), (after, temperature)):
            counter.add(softened(logits.T, divisor, gives="logits").T, labels)
    if not measured:
        raise UserError(f"split {split!r}: one image; two are needed, one to fit on and one to measure on")
    return Calibration(temperature, before.result(), after.result(), len(drawn), measured)


def tune_crf(
    config: Config,
    weights: str | Path,
    *,
    split: str = "val",
    inference: Inference | None = None,
    images: int = 40,
    progress: Progress | None = None,
    on_trial: Callable[[CrfSettings, float], None] | None = None,
) -> CrfSearch:
    """Searches settings of the CRF for the highest mean IoU, one setting at a time, twice round.

    Args:
        config: a recipe; the search begins at its `refine.crf`, at its `refine.temperature`.
        weights: a weight file, a checkpoint folder, or a run's folder.
        split: "train", "val" or "test".
        inference: how the network is run.
        images: how many are used, evenly from the split, half of them for the search. Memory holds their
            scores.
        progress: called with (images read, images in all).
        on_trial: called with each settings tried and their mean IoU.

    Raises:
        UserError: less than two images, or data or weights that cannot be used.
    """
    drawn = scored_images(config, weights, split, inference, order=_evenly(images), progress=progress)
    found = [scored for _, scored in drawn]
    ours, others = found[::2], found[1::2]
    if not others:
        raise UserError(f"split {split!r}: one image; two are needed, one to search on and one to measure on")
    tried: dict[CrfSettings, float] = {}

    def score(settings: CrfSettings) -> float:
        if settings not in tried:
            tried[settings] = _mean_iou(config, ours, settings)
            if on_trial is not None:
                on_trial(settings, tried[settings])
        return tried[settings]

    best = config.refine.crf
    score(best)
    for _ in range(2):
        start = best
        for key, values in GRID.items():
            best = max([best, *(_with(best, key, value) for value in values)], key=score)
        if best == start:
            break
    return CrfSearch(
        best,
        tuple(tried.items()),
        _mean_iou(config, others, None),
        _mean_iou(config, others, config.refine.crf),
        _mean_iou(config, others, best),
        len(ours),
        len(others),
    )


def scored_images(
    config: Config,
    weights: str | Path,
    split: str,
    inference: Inference | None = None,
    *,
    order: Callable[[int], Sequence[int]] = range,
    progress: Progress | None = None,
) -> Iterator[tuple[int, ScoredImage]]:
    """How many images there will be, and each with what the network makes of it, one at a time.

    `order` makes the indices that are wanted of the number of images in the split.
    """
    dataset = build.build_dataset(config, split)
    run = inference or WholeImage()
    trained = load_trained(config, weights)
    indices = order(len(dataset))
    for done, index in enumerate(indices, 1):
        image, label = dataset.read(index)
        scores = run(trained.model, paddle.to_tensor(trained.preprocess(image)[None])).numpy()[0]
        if run.probabilities:
            scores = np.log(np.maximum(scores, 1e-12))
        logits = resized_scores(scores, (label.shape[0], label.shape[1])).astype(np.float32)
        yield len(indices), ScoredImage(dataset.samples[index].name, image, label, logits)
        if progress is not None:
            progress(done, len(indices))


def _halves(count: int) -> list[int]:
    """Every other image, then the rest."""
    return [*range(0, count, 2), *range(1, count, 2)]


def _evenly(at_most: int) -> Callable[[int], list[int]]:
    def order(count: int) -> list[int]:
        return np.linspace(0, count - 1, min(at_most, count)).round().astype(int).tolist()

    return order


def _fitted(drawn: Sequence[tuple[np.ndarray, np.ndarray]], split: str) -> float:
    logits, labels = (np.concatenate(parts) for parts in zip(*drawn))
    if not len(labels):
        raise DataError(f"split {split!r}: the images to fit on hold no labelled pixel")
    return fit_temperature(logits, labels)


def _with(settings: CrfSettings, key: str, value: float) -> CrfSettings:
    return CrfSettings(**{**settings.to_dict(), key: float(value)})


def _mean_iou(config: Config, images: Sequence[ScoredImage], settings: CrfSettings | None) -> float:
    """Of the label maps after a CRF, or without one; 0 where nothing is labelled."""
    matrix = ConfusionMatrix(config.data.num_classes, config.data.ignore_index)
    normalize = config.data.normalize
    for scored in images:
        chances = softened(scored.logits, config.refine.temperature, gives="logits")
        if settings is not None:
            dtype = scored.image.dtype
            white = 255.0 if dtype == np.uint8 else normalize.white
            chances = DenseCRF(settings, white)(scored.image, chances)
        matrix.update(chances.argmax(axis=0), scored.label)
    return matrix.scores().mean_iou or 0.0
