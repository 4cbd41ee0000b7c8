"""Pixel-wise softmax cross entropy."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F

from paddlefcn.losses.base import Loss, in_float32, pixel_cross_entropy, weighted_mean


class CrossEntropy(Loss):
    """Softmax cross entropy over the pixels that are not void (Long et al., CVPR 2015, section 4).

    Args:
        ignore_index: label that is not scored (the data section's, unless given).
        class_weights: one factor a class. The mean divides by the sum of the factors of the scored
            pixels, so that they shift attention between classes and leave the loss's scale alone.
        reduction: "mean" over the scored pixels of the step, or "sum", the unnormalised loss of the
            FCN paper. With SGD and Momentum the sum over n pixels at rate r takes the steps of the
            mean at rate r * n: the published 1e-10 (batch 1, momentum 0.99) is 2.5e-5 for the mean
            over a 500x500 image, and 1e-2 for a mean is 4e-8 for that sum. Weight decay does not go
            along: the same value weighs n times as much beside a mean. Training warns of a rate that
            is wrong by orders of magnitude for its reduction.
        label_smoothing: e, 0 or more and below 1. The target is 1 - e for the true class plus e / C for
            each of the C classes (Szegedy et al., CVPR 2016, section 7); a pixel counts with the factor
            of its true class.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        class_weights: Sequence[float] | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(ignore_index, class_weights)
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction {reduction!r}: expected 'mean' or 'sum'")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing {label_smoothing}: expected 0 or more and less than 1")
        self.reduction, self.label_smoothing = reduction, label_smoothing

    def forward(self, logits: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        """Logits [N, C, H, W] and label [N, H, W] (int64) to a scalar; 0 where every pixel is void."""
        logits = in_float32(logits)
        if self.label_smoothing:
            return self._smoothed(logits, label)
        return F.cross_entropy(
            logits,
            label,
            weight=None if self.class_weights is None else self.class_weights.astype(logits.dtype),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            axis=1,
        )

    def _smoothed(self, logits: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        """Of the true class, and of the mean over all classes, mixed."""
        even = -F.log_softmax(logits, axis=1).mean(axis=1)
        true = pixel_cross_entropy(logits, label, self.ignore_index)
        weights = self.pixel_weights(label)
        mixed = (1 - self.label_smoothing) * true + self.label_smoothing * even
        if self.reduction == "sum":
            return (mixed * weights.astype(mixed.dtype)).sum()
        return weighted_mean(mixed, weights)
