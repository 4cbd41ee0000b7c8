"""Cross entropy over the pixels that are still hard."""

from __future__ import annotations

import math
from collections.abc import Sequence

import paddle

from paddlefcn.losses.base import PerImage, pixel_cross_entropy, weighted_mean


class OHEM(PerImage):
    """Cross entropy of each image's hard pixels (online hard example mining, Shrivastava et al., CVPR 2016).

    Hard are those whose true class has a probability of at most `threshold`, and in any case the
    `min_share` of the image's scored pixels with the highest loss. The mean is over the hard pixels of an
    image, then over the images.

    Args:
        ignore_index: label that is not scored.
        threshold: above 0, below 1.
        min_share: above 0, up to 1; 1 keeps every pixel.
        class_weights: one factor a class, for the mean over the hard pixels.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        threshold: float = 0.7,
        min_share: float = 0.0625,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(ignore_index, class_weights=class_weights)
        if not 0 < threshold < 1:
            raise ValueError(f"threshold {threshold}: expected a probability above 0 and below 1")
        if not 0 < min_share <= 1:
            raise ValueError(f"min_share {min_share}: expected a share above 0, up to 1")
        self.threshold, self.min_share = threshold, min_share

    def image_loss(self, logits: paddle.Tensor, label: paddle.Tensor, scored: paddle.Tensor) -> paddle.Tensor:
        entropy = pixel_cross_entropy(logits[None, :, :, None], label[None, :, None], self.ignore_index)
        entropy = entropy.flatten()
        count = math.ceil(self.min_share * int(scored.astype("int64").sum().item()))
        hardest = paddle.topk(paddle.where(scored, entropy.detach(), -paddle.ones_like(entropy)), count)[0]
        least = paddle.clip(hardest[-1], max=-math.log(self.threshold))
        hard = (scored & (entropy.detach() >= least)).astype("float32")
        return weighted_mean(entropy, self.pixel_weights(label) * hard)
