"""CaffeNet, the AlexNet of Caffe, as FCN-AlexNet uses it (Krizhevsky and others, NIPS 2012)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlefcn.backbones.base import Backbone, FeatureMap
from paddlefcn.layers import CeilMaxPool, ConvBNReLU

WIDTHS = (96, 256, 384, 384, 256)


class AlexNet(Backbone):
    """The five convolutions of CaffeNet: pooling before normalisation, two groups as published.

    Maps: ``norm1`` (stride 8), ``norm2`` (16) and ``pool5`` (32). conv1 pads 100, as in FCN-AlexNet, so any
    size from one pixel on works.
    """

    smallest: ClassVar[dict[str, Any]] = {"widths": [4, 4, 6, 6, 4]}

    def __init__(self, *, widths: Sequence[int] = WIDTHS, in_channels: int = 3) -> None:
        """``widths``: channels of the five convolutions; all even, for the two groups."""
        super().__init__()
        whole = all(isinstance(value, int) and value > 0 and value % 2 == 0 for value in widths)
        if len(widths) != len(WIDTHS) or not whole:
            raise ValueError(
                f"widths: got {list(widths)}, expected five positive even numbers, one a "
                f"convolution (CaffeNet: {list(WIDTHS)})"
            )
        one, two, three, four, five = widths
        margin = 100 - 11 // 2  # beyond what would keep the grid
        self.maps = (
            FeatureMap("norm1", one, 8, margin),
            FeatureMap("norm2", two, 16, margin),
            FeatureMap("pool5", five, 32, margin),
        )
        self.conv1 = ConvBNReLU(in_channels, one, 11, stride=4, padding=100, batch_norm=False)
        self.conv2 = ConvBNReLU(one, two, 5, groups=2, batch_norm=False)
        self.conv3 = ConvBNReLU(two, three, 3, batch_norm=False)
        self.conv4 = ConvBNReLU(three, four, 3, groups=2, batch_norm=False)
        self.conv5 = ConvBNReLU(four, five, 3, groups=2, batch_norm=False)
        self.pool = CeilMaxPool(3, 2)
        self.norm1 = _ChannelNorm(one)
        self.norm2 = _ChannelNorm(two)

    def forward(self, image: paddle.Tensor, names: Sequence[str] | None = None) -> list[paddle.Tensor]:
        norm1 = self.norm1(self.pool(self.conv1(image)))
        norm2 = self.norm2(self.pool(self.conv2(norm1)))
        conv4 = self.conv4(self.conv3(norm2))
        pool5 = self.pool(self.conv5(conv4))
        found = {"norm1": norm1, "norm2": norm2, "pool5": pool5}
        return [found[name] for name in self.wanted(names)]


class _ChannelNorm(nn.Layer):
    """Caffe's LRN: x / (1 + 1e-4 * mean of the squares of five neighbouring channels) ** 0.75.

    The mean is a convolution with a constant band matrix: ``F.local_response_norm`` cannot be
    exported for images of any size.
    """

    def __init__(self, channels: int, *, size: int = 5, alpha: float = 1e-4) -> None:
        super().__init__()
        distance = np.abs(np.arange(channels)[:, None] - np.arange(channels)[None, :])
        band = (distance <= size // 2).astype("float32") * (alpha / size)
        weight = paddle.to_tensor(band[:, :, None, None])
        # not persistable: it is a constant, and no checkpoint may come to depend on it
        self.register_buffer("band", weight, persistable=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x * (1 + F.conv2d(x * x, self.band)) ** -0.75
