"""The evaluation that a training repeats: the validation split, its losses and its previews."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from paddlefcn.bars import Steps
from paddlefcn.engine.batch_norm import take_statistics_of_first
from paddlefcn.engine.evaluate import Evaluation, ImageResult, evaluate
from paddlefcn.engine.ranks import ALONE, Ranks
from paddlefcn.visualize import preview

if TYPE_CHECKING:
    from paddle import nn

    from paddlefcn.classes import Classes
    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.inference import Inference
    from paddlefcn.losses import WeightedLosses
    from paddlefcn.preprocess import Preprocess


class Validation:
    """Scores a network on the validation split, and keeps a few predictions to look at.

    Args:
        dataset: the validation split.
        preprocess: what makes the network's input of an image.
        classes: what they are called and drawn in.
        losses: of the training; the main output alone is there in eval mode.
        inference: how the network is run; the whole image at once if not given.
        previews: how many images are drawn, spread evenly over the split.
        num_workers: processes that read ahead; 0 reads in this one.
        skips_bad: leave out pairs that cannot be used, instead of raising their DataError.

    Attributes:
        bad: name -> message of the pairs that were left out.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        preprocess: Preprocess,
        classes: Classes,
        losses: WeightedLosses,
        *,
        inference: Inference | None = None,
        previews: int = 0,
        num_workers: int = 0,
        skips_bad: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        self.dataset, self.preprocess, self.classes, self.losses = dataset, preprocess, classes, losses
        self.inference, self.ranks = inference, ranks
        self.num_workers, self.skips_bad = num_workers, skips_bad
        self.bad: dict[str, str] = {}
        count = min(previews, len(dataset))
        self._previewed = [round(i * (len(dataset) - 1) / max(1, count - 1)) for i in range(count)]
        self._predictions: dict[int, np.ndarray] = {}

    def __call__(self, model: nn.Layer, check: Callable[[], None]) -> Evaluation:
        """Every image of the split; `check` is called after each and may raise to stop."""
        take_statistics_of_first(model, self.ranks)
        steps = Steps("eval")
        self._predictions.clear()

        def look(done: int, total: int) -> None:
            steps(done, total)
            if self.ranks.size == 1:  # several cannot give up at different images: they end it first
                check()

        try:
            result = evaluate(
                model,
                self.dataset,
                preprocess=self.preprocess,
                inference=self.inference,
                loss=lambda logits, label: self.losses([logits], label),
                num_workers=self.num_workers,
                class_names=self.classes.names,
                progress=look,
                on_image=self._keep,
                bad=self.bad if self.skips_bad else None,
                ranks=self.ranks,
            )
        finally:
            steps.close()
        for bad, predictions in self.ranks.gather((self.bad, self._predictions)):
            self.bad.update(bad)
            self._predictions.update(predictions)
        return result

    def _keep(self, result: ImageResult) -> None:
        if result.index in self._previewed:
            self._predictions[result.index] = result.pred

    def pictures(self) -> list[np.ndarray]:
        """Image, truth and prediction side by side [H, W, 3] uint8, of the last evaluation."""
        pictures = []
        for index, pred in sorted(self._predictions.items()):
            image, label = self.dataset.read(index)
            pictures.append(preview(image, label, pred, self.classes))
        return pictures
