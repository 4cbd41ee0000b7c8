"""CaffeNet, the AlexNet of Caffe, as FCN-AlexNet uses it (Krizhevsky and others, NIPS 2012)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlefcn.layers import CeilMaxPool, ConvBNReLU

WIDTHS = (96, 256, 384, 384, 256)


class AlexNet(nn.Layer):
    """The five convolutions of CaffeNet: pooling before normalisation, two groups as published.

    ``forward([N,in_channels,H,W])`` gives the three pooled maps. conv1 pads 100, as in
    FCN-AlexNet, so any size from one pixel on works.
    """

    fc6_kernel = 6  # the cells (rows and columns) that the classifier's first layer looks at
    strides = (8, 16, 32)
    batch_norm = False
    padding = "reference"

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
        self.channels = (one, two, five)
        self.conv1 = ConvBNReLU(in_channels, one, 11, stride=4, padding=100, batch_norm=False)
        self.conv2 = ConvBNReLU(one, two, 5, groups=2, batch_norm=False)
        self.conv3 = ConvBNReLU(two, three, 3, batch_norm=False)
        self.conv4 = ConvBNReLU(three, four, 3, groups=2, batch_norm=False)
        self.conv5 = ConvBNReLU(four, five, 3, groups=2, batch_norm=False)
        self.pool = CeilMaxPool(3, 2)
        self.norm1 = _ChannelNorm(one)
        self.norm2 = _ChannelNorm(two)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        norm1 = self.norm1(self.pool(self.conv1(image)))
        norm2 = self.norm2(self.pool(self.conv2(norm1)))
        conv4 = self.conv4(self.conv3(norm2))
        pool5 = self.pool(self.conv5(conv4))
        return [norm1, norm2, pool5]

    def output_sizes(self, size: int) -> list[int]:
        """Heights (or widths) of the three maps for an image of height (or width) ``size``."""
        pool1 = self.pool.output_size(self.conv1.output_size(size))
        pool2 = self.pool.output_size(self.conv2.output_size(pool1))
        conv4 = self.conv4.output_size(self.conv3.output_size(pool2))
        return [pool1, pool2, self.pool.output_size(self.conv5.output_size(conv4))]


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
