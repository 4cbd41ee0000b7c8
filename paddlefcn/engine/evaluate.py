"""Scores a network on a split: each image at its own size, against the label at its own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddlefcn.data.loader import read_ahead
from paddlefcn.engine.ranks import ALONE, Ranks
from paddlefcn.inference import Inference, WholeImage, eval_mode
from paddlefcn.label_maps import label_map
from paddlefcn.metrics import ConfusionMatrix, Scores, scored_pixels

if TYPE_CHECKING:
    from paddlefcn.data.datasets import Sample, SegmentationDataset
    from paddlefcn.preprocess import Preprocess


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found; `loss` is the mean over images, None if no loss was asked for.

    `matrix` is what the scores were read from: matrices of parts of a split can be added.
    """

    scores: Scores
    loss: float | None
    matrix: ConfusionMatrix


@dataclass(frozen=True)
class ImageResult:
    """One scored image: `pred` and `label` are [H, W] class ids at the label's own size."""

    index: int
    sample: Sample
    pred: np.ndarray
    label: np.ndarray


def evaluate(
    model: nn.Layer,
    dataset: SegmentationDataset,
    *,
    preprocess: Preprocess,
    inference: Inference | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    num_workers: int = 0,
    class_names: Sequence[str] = (),
    convention: str = "paper",
    progress: Callable[[int, int], None] | None = None,
    on_image: Callable[[ImageResult], None] | None = None,
    bad: dict[str, str] | None = None,
    decide: Callable[[int, np.ndarray], np.ndarray] | None = None,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Runs the network in eval mode over every image and scores it; modes are put back afterwards.

    Args:
        model: returns a list, the main logits [N, num_classes, H, W] first.
        dataset: its label reader knows num_classes and ignore_index.
        preprocess: what makes the network's input of an image; scores of a resized image are brought
            back to the label's size by bilinear resizing and decided there.
        inference: how the network is run; the whole image at once if not given.
        loss: (logits [1, C, H, W], label [1, H, W] int64) -> scalar.
        num_workers: processes that read ahead; 0 reads in this one.
        class_names: for the scores per class.
        convention: how the scores count absent classes, see paddlefcn.metrics.
        progress: called with (images done, images in all) after each image.
        on_image: called with each image's result, in the order of the data set.
        bad: if given, pairs that cannot be used are noted here (name -> message) and left out.
        decide: (index of the image, scores [C, h, w]) -> class ids [H, W] at the label's size; the highest
            score if not given. Pixels of ignore_index in it are not scored.
        ranks: the processes that share the images out among them; each returns the scores of all, and sees
            its own alone in `on_image` and `progress`.

    Raises:
        DataError: an image or a mask cannot be used, and `bad` is not given.
    """
    reader = dataset.label_reader
    matrix = ConfusionMatrix(reader.num_classes, reader.ignore_index)
    run = inference or WholeImage()
    losses: dict[int, float] = {}
    own = range(ranks.rank, len(dataset), ranks.size)  # no image twice, as samplers do that fill up
    pairs = read_ahead(dataset, preprocess, num_workers, indices=own, bad=bad)
    with eval_mode(model):
        for done, (index, image, label, sample) in enumerate(pairs, start=1):
            tensor = paddle.to_tensor(image[None])
            pred, value = _predicted(
                model, tensor, label, run, loss, partial(decide, index) if decide else None
            )
            matrix.update(*scored_pixels(pred, label, reader.ignore_index))
            if value is not None:
                losses[index] = value
            if on_image is not None:
                on_image(ImageResult(index, sample, pred, label))
            if progress is not None:
                progress(done, len(own))
    matrix, losses = _joined(matrix, losses, ranks)
    # added up in the order of the images, whoever scored them: the same sum to the last bit
    mean_loss = sum(losses[index] for index in sorted(losses)) / len(losses) if losses else None
    return Evaluation(matrix.scores(list(class_names) or None, convention), mean_loss, matrix)


def _joined(
    matrix: ConfusionMatrix, losses: dict[int, float], ranks: Ranks
) -> tuple[ConfusionMatrix, dict[int, float]]:
    """What all ranks scored, together."""
    all_losses: dict[int, float] = {}
    total = ConfusionMatrix(matrix.num_classes, matrix.ignore_index)
    for part, part_losses in ranks.gather((matrix, losses)):
        total, all_losses = total + part, {**all_losses, **part_losses}
    return total, all_losses


def predict_label_map(
    model: nn.Layer, image: Tensor, inference: Inference, size: tuple[int, int]
) -> np.ndarray:
    """The class ids [H, W] at `size` of one prepared image [1, C, h, w].

    At the image's own size the scores are held a band at a time, so that an image of any size can
    be predicted with SlidingWindow.
    """
    if tuple(image.shape[2:]) == tuple(size):
        return inference.label_map(model, image)[0]
    return label_map(inference(model, image).numpy()[0], size)


def _predicted(
    model: nn.Layer,
    image: Tensor,
    label: np.ndarray,
    inference: Inference,
    loss: Callable[[Tensor, Tensor], Tensor] | None,
    decide: Callable[[np.ndarray], np.ndarray] | None,
) -> tuple[np.ndarray, float | None]:
    """The label map at the label's size, and the loss there if one is asked for."""
    size = (label.shape[0], label.shape[1])
    if loss is None and decide is None:
        return predict_label_map(model, image, inference, size), None
    scores = inference(model, image)
    pred = label_map(scores.numpy()[0], size) if decide is None else decide(scores.numpy()[0])
    if loss is None:
        return pred, None
    logits = paddle.log(scores.clip(min=1e-12)) if inference.probabilities else scores
    if tuple(logits.shape[2:]) != size:
        logits = F.interpolate(logits, size=list(size), mode="bilinear", align_corners=False)
    with paddle.no_grad():
        value = loss(logits, paddle.to_tensor(label[None].astype(np.int64)))
    return pred, float(value.item())
