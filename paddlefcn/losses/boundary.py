"""Cross entropy that counts more where classes meet."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F

from paddlefcn.losses.base import Loss, in_float32, pixel_cross_entropy, weighted_mean


class BoundaryCrossEntropy(Loss):
    """Cross entropy in which pixels near a border between two classes count `factor` times.

    The idea of U-Net's weight map (Ronneberger et al., MICCAI 2015, equation 2), with a band in the place
    of its Gaussian of the distance. A border with void is none.

    Args:
        ignore_index: label that is not scored.
        factor: above 0.
        width: a pixel counts as near if one of another class is at most this many pixels away, across,
            up or diagonally; 1 or more.
        class_weights: one factor a class, on top. The mean divides by the sum of all factors.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        factor: float = 5.0,
        width: int = 2,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(ignore_index, class_weights)
        if factor <= 0:
            raise ValueError(f"factor {factor}: expected a number above 0")
        if width < 1:
            raise ValueError(f"width {width}: expected 1 pixel or more")
        self.factor, self.width = factor, width

    def forward(self, logits: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        entropy = pixel_cross_entropy(in_float32(logits), label, self.ignore_index)
        return weighted_mean(entropy, self.pixel_weights(label))

    def divisor(self, label: paddle.Tensor) -> float:
        """The weights of the scored pixels, those near a border with theirs."""
        return float(self.pixel_weights(label).astype("float64").sum().item())

    def pixel_weights(self, label: paddle.Tensor) -> paddle.Tensor:
        """Class weight times `factor` near a border [N, H, W]; 0 where void."""
        near = self._near_border(label).astype("float32")
        return super().pixel_weights(label) * (1 + (self.factor - 1) * near)

    def _near_border(self, label: paddle.Tensor) -> paddle.Tensor:
        """Whether the window around each pixel of [N, H, W] holds two classes, void not counted."""
        scored = (label != self.ignore_index).unsqueeze(1)
        values = label.unsqueeze(1).astype("float32")
        # void is below every class for the greatest, and above every class for the least
        greatest = self._window_max(paddle.where(scored, values, paddle.full_like(values, -1.0)))
        least = -self._window_max(paddle.where(scored, -values, paddle.full_like(values, -1e6)))
        return (greatest > least).squeeze(1)

    def _window_max(self, values: paddle.Tensor) -> paddle.Tensor:
        # max pooling pads with minus infinity, so that the image's edge is no border
        return F.max_pool2d(values, 2 * self.width + 1, stride=1, padding=self.width)
