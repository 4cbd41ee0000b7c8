"""The evaluation that a training repeats: the validation split, its losses and its previews."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from paddlefcn.engine.evaluate import Evaluation, ImageResult, evaluate
from paddlefcn.engine.progress import Steps
from paddlefcn.visualize import preview

if TYPE_CHECKING:
    from paddle import nn

    from paddlefcn.config import DataConfig
    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.data.images import Resize
    from paddlefcn.losses import WeightedLosses


class Validation:
    """Scores a network on the validation split, and keeps a few predictions to look at.

    Args:
        dataset: the validation split.
        data: classes, palette, normalisation, workers, and what happens to bad images.
        resize: the steps of `val_transforms`.
        losses: of the training; the main output alone is there in eval mode.
        previews: how many images are drawn, spread evenly over the split.

    Attributes:
        bad: name -> message of the pairs that were left out (`on_bad_image: skip`).
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        data: DataConfig,
        resize: tuple[Resize, ...],
        losses: WeightedLosses,
        previews: int,
    ) -> None:
        self.dataset, self.data, self.resize, self.losses = dataset, data, resize, losses
        self.bad: dict[str, str] = {}
        count = min(previews, len(dataset))
        self._previewed = [round(i * (len(dataset) - 1) / max(1, count - 1)) for i in range(count)]
        self._predictions: dict[int, np.ndarray] = {}

    def __call__(self, model: nn.Layer, check: Callable[[], None]) -> Evaluation:
        """Every image of the split; `check` is called after each and may raise to stop."""
        steps = Steps("eval")
        self._predictions.clear()

        def look(done: int, total: int) -> None:
            steps(done, total)
            check()

        try:
            return evaluate(
                model,
                self.dataset,
                normalize=self.data.normalize,
                resize=self.resize,
                loss=lambda logits, label: self.losses([logits], label),
                num_workers=self.data.num_workers,
                class_names=self.data.classes,
                progress=look,
                on_image=self._keep,
                bad=self.bad if self.data.on_bad_image == "skip" else None,
            )
        finally:
            steps.close()

    def _keep(self, result: ImageResult) -> None:
        if result.index in self._previewed:
            self._predictions[result.index] = result.pred

    def pictures(self) -> list[np.ndarray]:
        """Image, truth and prediction side by side [H, W, 3] uint8, of the last evaluation."""
        pictures = []
        for index, pred in sorted(self._predictions.items()):
            image, label = self.dataset.read(index)
            pictures.append(preview(image, label, pred, self.data.palette, self.data.ignore_index))
        return pictures
