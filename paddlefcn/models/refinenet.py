"""RefineNet: from the deepest map up, each finer one is refined and fused with what came before.

Lin, Milan, Shen and Reid, "RefineNet: Multi-Path Refinement Networks for High-Resolution Semantic
Segmentation", CVPR 2017, section 3, figures 2 and 3; the light one: Nekrasov, Shen and Reid, "Light-Weight
RefineNet for Real-Time Semantic Segmentation", BMVC 2018, section 3. Order and number of layers as in
Nekrasov's code of both.
"""

from __future__ import annotations

from typing import Any, ClassVar

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlefcn.backbones import Backbone, FeatureMap
from paddlefcn.layers import Resize, add_resized, convolution
from paddlefcn.models.base import SegmentationModel, check_dropout, check_strides, check_width

STRIDES = (32, 16, 8, 4)


class ResidualUnit(nn.Layer):
    """ReLU and 3x3 convolution twice, added to the input (figure 3b); no BatchNorm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels, channels, 3, padding=1)
        self.conv2 = convolution(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class ChainedPooling(nn.Layer):
    """5x5 max pooling of stride 1 and a convolution, one behind the other, all added up (figure 3d)."""

    def __init__(self, channels: int, count: int, kernel: int) -> None:
        super().__init__()
        self.convs = nn.LayerList([_plain(channels, channels, kernel) for _ in range(count)])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        total, x = x, x
        for conv in self.convs:
            x = conv(F.max_pool2d(x, 5, 1, padding=2))
            total = total + x
        return total


class RefineBlock(nn.Layer):
    """One map, and the coarser blocks' result, to the next finer map's channels (figure 3a)."""

    def __init__(
        self,
        found: FeatureMap,
        channels: int,
        next_channels: int | None,
        *,
        deepest: bool,
        pools: int,
        kernel: int,
        units: tuple[int, int],
    ) -> None:
        """``next_channels``: what the next finer block works with, None for the last.

        ``kernel``: of every convolution but the units'. ``units``: residual units before the fusion and
        behind the pooling.
        """
        super().__init__()
        self.reduce = _plain(found.channels, channels, kernel)
        self.adapt_units = nn.LayerList([ResidualUnit(channels) for _ in range(units[0])])
        self.adapt = None if deepest else _plain(channels, channels, kernel)
        self.pooling = ChainedPooling(channels, pools, kernel)
        self.units = nn.LayerList([ResidualUnit(channels) for _ in range(units[1])])
        self.out = None if next_channels is None else _plain(channels, next_channels, kernel)

    def forward(self, x: paddle.Tensor, coarser: paddle.Tensor | None) -> paddle.Tensor:
        """``coarser``: of this map's size and channels already."""
        x = self.reduce(x)
        for unit in self.adapt_units:
            x = unit(x)
        x = x if self.adapt is None or coarser is None else add_resized(self.adapt(x), coarser)
        x = self.pooling(F.relu(x))
        for unit in self.units:
            x = unit(x)
        return x if self.out is None else self.out(x)


class RefineNet(SegmentationModel):
    """Four blocks on maps of strides 32, 16, 8 and 4, a 3x3 score, bilinear resizing."""

    default_backbone = "ResNet101"
    kernel: ClassVar[int] = 3
    units: ClassVar[tuple[int, int]] = (2, 3)
    final_dropout: ClassVar[bool] = True
    smallest: ClassVar[dict[str, Any]] = {
        "backbone": {"type": "ResNet18", "width": 2},
        "channels": 3,
        "deep_channels": 4,
        "pools": 2,
    }

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        channels: int = 256,
        deep_channels: int = 512,
        pools: int = 4,
        dropout: float = 0.5,
        align_corners: bool = True,
    ) -> None:
        """Put the blocks on the backbone.

        channels, deep_channels: of the blocks; of the one on the deepest map. pools: of each chain; the paper
            draws 2, the authors' published weights have 4.
        dropout: on the two deepest maps, and before the score. align_corners: of every resizing.
        """
        super().__init__(backbone, num_classes)
        check_width("channels", channels, 256)
        check_width("deep_channels", deep_channels, 512)
        check_dropout(dropout)
        if not 1 <= pools <= 16:
            raise ValueError(f"pools: got {pools}, expected 1 to 16 (published: 4)")
        mend = "set output_stride: 32 if it has one, or take another model"
        check_strides(backbone, STRIDES, type(self).__name__, mend)
        maps = [backbone.deepest(stride) for stride in STRIDES]
        self.taps = tuple(found.name for found in maps)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.LayerList(
            [
                RefineBlock(
                    found,
                    deep_channels if number == 0 else channels,
                    channels if number < len(maps) - 1 else None,
                    deepest=number == 0,
                    pools=pools,
                    kernel=self.kernel,
                    units=self.units,
                )
                for number, found in enumerate(maps)
            ]
        )
        self.score = convolution(channels, num_classes, 3, padding=1)
        self.resize = Resize(align_corners=align_corners)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        deepest, deep, middle, fine = self.backbone(image, self.taps)
        deep = self.dropout(deep)
        x = self.blocks[0](self.dropout(deepest), None)
        x = self.blocks[1](deep, self.resize(x, deep))
        x = self.blocks[2](middle, self.resize(x, middle))
        x = self.blocks[3](fine, self.resize(x, fine))
        x = self.dropout(x) if self.final_dropout else x
        return [self.resize(self.score(x), image)]


class LightRefineNet(RefineNet):
    """RefineNet-LW: no residual units, 1x1 convolutions for 3x3 ones (BMVC 2018, section 3)."""

    kernel = 1
    units = (0, 0)
    final_dropout = False


def _plain(in_channels: int, out_channels: int, kernel: int) -> nn.Conv2D:
    return convolution(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
