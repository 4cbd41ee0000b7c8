"""Focal loss for any number of classes."""

from __future__ import annotations

from collections.abc import Sequence

import paddle

from paddlefcn.losses.base import Loss, in_float32, pixel_cross_entropy, weighted_mean


class Focal(Loss):
    """(1 - p) ** gamma times the cross entropy, p the true class's probability (Lin et al., ICCV 2017).

    Easy pixels count little; with `gamma` 0 it is the cross entropy. The paper's alpha is `class_weights`.

    Args:
        ignore_index: label that is not scored.
        gamma: 0 or more; the paper's best is 2.
        class_weights: one factor a class; the mean divides by the sum of the factors of the scored
            pixels.
    """

    def __init__(
        self, ignore_index: int = 255, gamma: float = 2.0, class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__(ignore_index, class_weights)
        if gamma < 0:
            raise ValueError(f"gamma {gamma}: expected 0 or more")
        self.gamma = gamma

    def forward(self, logits: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        entropy = pixel_cross_entropy(in_float32(logits), label, self.ignore_index)
        # below the clip the power's slope is infinite for gamma < 1, and times 0 no number
        missed = paddle.clip(-paddle.expm1(-entropy), min=1e-6)
        return weighted_mean(missed**self.gamma * entropy, self.pixel_weights(label))
