"""Parts that stand on a backbone's maps: score head, atrous pyramid, pyramid of averages."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import nn

from paddlefcn.errors import UserError
from paddlefcn.layers import AdaptiveMean, ConvBNReLU, Resize, SeparableConvBNReLU, convolution

# an auxiliary output counts 0.4: PSPNet (section 5.2, table 2) found it best, others took it over
AUXILIARY_WEIGHT = 0.4


class ScoreHead(nn.Layer):
    """A 3x3 convolution to a quarter of the channels, dropout, scores: ``[N,C,h,w] -> [N,classes,h,w]``."""

    def __init__(self, in_channels: int, num_classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        inner = max(1, in_channels // 4)
        self.block = ConvBNReLU(in_channels, inner, 3)
        self.dropout = nn.Dropout(dropout)
        self.score = convolution(inner, num_classes, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.score(self.dropout(self.block(x)))


class ASPP(nn.Layer):
    """Atrous spatial pyramid pooling: ``[N,in,h,w] -> [N,channels,h,w]``.

    A 1x1 convolution, 3x3 ones dilated by each rate, the mean of the image; together through a 1x1
    (Chen and others, "Rethinking Atrous Convolution", 2017, section 3.3, figure 5).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        rates: Sequence[int],
        *,
        separable: bool = False,
        inner_relu: bool = True,
        inner_norm: bool = True,
        image_pooling: bool = True,
        dropout: float = 0.1,
    ) -> None:
        """``separable``: dilated convolutions in two steps; with BatchNorm, and ReLU, between them or not."""
        super().__init__()
        blocks: list[nn.Layer] = [ConvBNReLU(in_channels, channels, 1)]
        for rate in rates:
            if separable:
                block = SeparableConvBNReLU(
                    in_channels, channels, dilation=rate, inner_relu=inner_relu, inner_norm=inner_norm
                )
                blocks.append(block)
            else:
                blocks.append(ConvBNReLU(in_channels, channels, 3, dilation=rate))
        self.blocks = nn.LayerList(blocks)
        self.image_pool = ImagePooling(in_channels, channels) if image_pooling else None
        self.project = ConvBNReLU((len(blocks) + image_pooling) * channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        branches = [block(x) for block in self.blocks]
        if self.image_pool is not None:
            # one value a channel for every cell; the zeros give it the map's size
            branches.append(self.image_pool(x) + paddle.zeros_like(branches[0]))
        return self.dropout(self.project(paddle.concat(branches, axis=1)))


class ImagePooling(nn.Layer):
    """The mean of the whole map, 1x1 convolution, BatchNorm, ReLU: ``[N,in,h,w] -> [N,out,1,1]``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block = ConvBNReLU(in_channels, out_channels, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_batch(self, x, "image pooling")
        return self.block(x.mean([2, 3], keepdim=True))


class PyramidPooling(nn.Layer):
    """Means over 1, 2x2, 3x3 and 6x6 parts beside the map itself: ``[N,C,h,w] -> [N,2C,h,w]``.

    Each is reduced to ``1 / len(bins)`` of the channels and resized (Zhao and others, "Pyramid Scene Parsing
    Network", CVPR 2017, section 3.2, figure 3).
    """

    def __init__(
        self,
        in_channels: int,
        bins: Sequence[int],
        *,
        mean_norm: bool = True,
        align_corners: bool = False,
    ) -> None:
        """``mean_norm``: whether BatchNorm follows the bin of 1 too, which sees one value of each image."""
        super().__init__()
        inner = max(1, in_channels // len(bins))
        self.means = nn.LayerList([AdaptiveMean(count) for count in bins])
        self.blocks = nn.LayerList(
            [ConvBNReLU(in_channels, inner, 1, batch_norm=mean_norm or count > 1) for count in bins]
        )
        self.resize = Resize(align_corners=align_corners)
        self.out_channels = in_channels + inner * len(bins)
        self.normed_mean = mean_norm and 1 in bins

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.normed_mean:
            check_batch(self, x, "the pyramid's bin of 1")
        levels = [x]
        for mean, block in zip(self.means, self.blocks):
            levels.append(self.resize(block(mean(x)), x))
        return paddle.concat(levels, axis=1)


def check_batch(layer: nn.Layer, x: paddle.Tensor, what: str) -> None:
    """UserError in training where BatchNorm behind a mean over the image would see one value."""
    synchronised = any(isinstance(part, nn.SyncBatchNorm) for part in layer.sublayers())
    if layer.training and paddle.in_dynamic_mode() and x.shape[0] == 1 and not synchronised:
        raise UserError(
            f"{what}: at batch size 1 its BatchNorm sees a single value a channel in training, and "
            "would learn from noise; set train.batch_size to 2 or more"
        )
