"""Pixel-wise softmax cross entropy."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import nn


class CrossEntropy(nn.Layer):
    """Softmax cross entropy over the pixels that are not void (Long et al., CVPR 2015, section 4).

    Args:
        ignore_index: label that is not scored (the data section's, unless given).
        class_weights: one factor a class. The mean divides by the sum of the factors of the scored
            pixels, so that they shift attention between classes and leave the loss's scale alone.
        reduction: "mean" over the scored pixels of the batch, or "sum", the unnormalised loss of the
            FCN paper. With SGD and Momentum the sum over n pixels at rate r takes the steps of the
            mean at rate r * n: the published 1e-10 (batch 1, momentum 0.99) is 2.5e-5 for the mean
            over a 500x500 image, and 1e-2 for a mean is 4e-8 for that sum. Weight decay does not go
            along: the same value weighs n times as much beside a mean. Training warns of a rate that
            is wrong by orders of magnitude for its reduction.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        class_weights: Sequence[float] | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction {reduction!r}: expected 'mean' or 'sum'")
        if class_weights is not None and (not class_weights or min(class_weights) < 0):
            raise ValueError(f"class_weights {class_weights}: expected one factor of 0 or more a class")
        self.ignore_index, self.reduction = ignore_index, reduction
        self.num_weights = len(class_weights) if class_weights is not None else None
        # plain attribute, no buffer: a loss has no state that belongs in a checkpoint
        self.class_weights = class_weights and paddle.to_tensor(list(class_weights), "float32")

    def forward(self, logits: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        """Logits [N, C, H, W] and label [N, H, W] (int64) to a scalar; 0 where every pixel is void."""
        return F.cross_entropy(
            logits,
            label,
            weight=self.class_weights,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            axis=1,
        )
