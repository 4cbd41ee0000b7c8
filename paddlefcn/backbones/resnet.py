"""ResNet (He, Zhang, Ren and Sun, CVPR 2016), and ResNet-D, which Paddle calls ResNet_vd.

ResNet-D: a stem of three 3x3 convolutions, strides in the 3x3 convolution, shortcuts that average before
they reduce (He, Zhang, Zhang and others, "Bag of Tricks", CVPR 2019, figure 2). Layers have torchvision's
names, ResNet-D's timm's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlefcn.backbones.base import Backbone, FeatureMap
from paddlefcn.backbones.dilation import Strides
from paddlefcn.layers import convolution

STRIDE_AT = ("1x1", "3x3")


class BasicBlock(nn.Layer):
    """Figure 5, left: two 3x3 convolutions; the first reduces."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        dilations: tuple[int, int],
        shortcut: nn.Layer | None,
    ) -> None:
        """``dilations``: of the convolution that reduces, and of what follows it."""
        super().__init__()
        first, then = dilations
        self.conv1 = _conv3x3(in_channels, channels, stride, first)
        self.bn1 = nn.BatchNorm2D(channels)
        self.conv2 = _conv3x3(channels, channels, 1, then)
        self.bn2 = nn.BatchNorm2D(channels)
        self.downsample = shortcut

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Layer):
    """Figure 5, right: 1x1, 3x3, 1x1 to four times the channels."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        dilation: int,
        shortcut: nn.Layer | None,
        *,
        stride_at: str,
    ) -> None:
        super().__init__()
        wide = channels * self.expansion
        at_first = stride_at == "1x1"
        self.conv1 = convolution(in_channels, channels, 1, stride=stride if at_first else 1, bias=False)
        self.bn1 = nn.BatchNorm2D(channels)
        self.conv2 = _conv3x3(channels, channels, 1 if at_first else stride, dilation)
        self.bn2 = nn.BatchNorm2D(channels)
        self.conv3 = convolution(channels, wide, 1, bias=False)
        self.bn3 = nn.BatchNorm2D(wide)
        self.downsample = shortcut

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(Backbone):
    """Maps ``stem`` (stride 2, before the pooling), ``layer1`` (4) to ``layer4`` (32 or output stride)."""

    depths: ClassVar[tuple[int, int, int, int]]
    bottleneck: ClassVar[bool] = True
    vd: ClassVar[bool] = False
    smallest: ClassVar[dict[str, Any]] = {"width": 2}
    auxiliary_map = "layer3"

    def __init__(
        self,
        *,
        width: int,
        output_stride: int,
        multi_grid: Sequence[int],
        dilate_first: bool,
        stride_at: str,
        in_channels: int,
    ) -> None:
        """See the subclasses."""
        super().__init__()
        if not 1 <= width <= 1024:
            raise ValueError(f"width: got {width}, expected 1 to 1024 (published: 64)")
        if stride_at not in STRIDE_AT:
            raise ValueError(f"stride_at: got {stride_at!r}, expected 1x1 or 3x3")
        self.stride_at, self.dilate_first = stride_at, dilate_first
        self.conv1 = self._stem(in_channels, width)
        self.bn1 = nn.BatchNorm2D(width)
        maps, channels = [FeatureMap("stem", width, 2)], width
        strides = Strides(output_stride, stride=4)
        expansion = Bottleneck.expansion if self.bottleneck else BasicBlock.expansion
        for stage, depth in enumerate(self.depths, start=1):
            grid = _grid(multi_grid, depth) if stage == 4 else [1] * depth
            wide = width * 2 ** (stage - 1)
            built = strides.take(1 if stage == 1 else 2)
            blocks = []
            for number in range(depth):
                stride, before = built if number == 0 else (1, strides.dilation)
                blocks.append(self._block(channels, wide, stride, before, strides.dilation, grid[number]))
                channels = wide * expansion
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            maps.append(FeatureMap(f"layer{stage}", channels, strides.stride))
        self.maps = tuple(maps)

    def _stem(self, in_channels: int, width: int) -> nn.Layer:
        if not self.vd:
            return convolution(in_channels, width, 7, stride=2, padding=3, bias=False)
        half = max(1, width // 2)
        return nn.Sequential(
            _conv3x3(in_channels, half, 2, 1),
            nn.BatchNorm2D(half),
            nn.ReLU(),
            _conv3x3(half, half, 1, 1),
            nn.BatchNorm2D(half),
            nn.ReLU(),
            _conv3x3(half, width, 1, 1),
        )

    def _block(
        self, in_channels: int, channels: int, stride: int, before: int, dilation: int, grid: int
    ) -> nn.Layer:
        """``before``: the dilation of the grid that comes in; ``dilation``: of the one that goes out."""
        # a 3x3 convolution whose stride became dilation still sees the grid before it
        first = dilation if self.dilate_first else before
        if not self.bottleneck:
            shortcut = self._shortcut(in_channels, channels, stride)
            return BasicBlock(in_channels, channels, stride, (first * grid, dilation * grid), shortcut)
        shortcut = self._shortcut(in_channels, channels * Bottleneck.expansion, stride)
        seen = dilation if self.stride_at == "1x1" else first
        return Bottleneck(in_channels, channels, stride, seen * grid, shortcut, stride_at=self.stride_at)

    def _shortcut(self, in_channels: int, out_channels: int, stride: int) -> nn.Layer | None:
        if stride == 1 and in_channels == out_channels:
            return None
        norm = nn.BatchNorm2D(out_channels)
        if not self.vd:
            return nn.Sequential(convolution(in_channels, out_channels, 1, stride=stride, bias=False), norm)
        pool = nn.AvgPool2D(2, 2, ceil_mode=True) if stride > 1 else nn.Identity()
        return nn.Sequential(pool, convolution(in_channels, out_channels, 1, bias=False), norm)

    def forward(self, image: paddle.Tensor, names: Sequence[str] | None = None) -> list[paddle.Tensor]:
        wanted, found = self.wanted(names), {}
        asked = len(set(wanted))
        x = F.relu(self.bn1(self.conv1(image)))
        if "stem" in wanted:
            found["stem"] = x
        x = F.max_pool2d(x, 3, 2, padding=1)
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            if len(found) == asked:
                break  # what is deeper than anything asked for is not computed
            x = getattr(self, stage)(x)
            if stage in wanted:
                found[stage] = x
        return [found[name] for name in wanted]


def _conv3x3(in_channels: int, out_channels: int, stride: int, dilation: int) -> nn.Conv2D:
    return convolution(
        in_channels, out_channels, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
    )


def _grid(multi_grid: Sequence[int], depth: int) -> list[int]:
    """One factor a block of the last stage; one for all may be given as [1]."""
    grid = list(multi_grid) * depth if len(multi_grid) == 1 else list(multi_grid)
    if len(grid) != depth or min(grid) < 1:
        raise ValueError(f"multi_grid: got {list(multi_grid)}, expected {depth} factors of 1 or more")
    return grid


class _Basic(ResNet):
    bottleneck = False

    def __init__(
        self,
        *,
        width: int = 64,
        output_stride: int = 32,
        multi_grid: Sequence[int] = (1,),
        dilate_first: bool = False,
        in_channels: int = 3,
    ) -> None:
        """Build it.

        width: channels of the stem; the stages have 1, 2, 4, 8 times as many (bottlenecks: four times that).
        output_stride: 8, 16 or 32; strides beyond it become dilation.
        multi_grid: factors of the last stage's dilations, one a block (DeepLabV3, section 3.2.1).
        dilate_first: also dilate the 3x3 convolution that lost its stride, as PaddleSeg does.
        """
        super().__init__(
            width=width,
            output_stride=output_stride,
            multi_grid=multi_grid,
            dilate_first=dilate_first,
            stride_at="3x3",
            in_channels=in_channels,
        )


class _Deep(ResNet):
    def __init__(
        self,
        *,
        width: int = 64,
        output_stride: int = 32,
        multi_grid: Sequence[int] = (1,),
        dilate_first: bool = False,
        stride_at: str = "1x1",
        in_channels: int = 3,
    ) -> None:
        """Build it; other arguments as in `ResNet18`.

        stride_at: the convolution of a bottleneck that reduces: ``1x1`` (the paper) or ``3x3`` (torchvision).
        """
        super().__init__(
            width=width,
            output_stride=output_stride,
            multi_grid=multi_grid,
            dilate_first=dilate_first,
            stride_at=stride_at,
            in_channels=in_channels,
        )


class ResNet18(_Basic):
    """ResNet with 18 layers (table 1)."""

    depths = (2, 2, 2, 2)


class ResNet34(_Basic):
    """ResNet with 34 layers (table 1)."""

    depths = (3, 4, 6, 3)


class ResNet50(_Deep):
    """ResNet with 50 layers (table 1)."""

    depths = (3, 4, 6, 3)


class ResNet101(_Deep):
    """ResNet with 101 layers (table 1)."""

    depths = (3, 4, 23, 3)


class ResNet18_vd(_Basic):  # noqa: N801  Paddle users know it by this name
    """ResNet-D with 18 layers."""

    depths = (2, 2, 2, 2)
    vd = True


class ResNet34_vd(_Basic):  # noqa: N801
    """ResNet-D with 34 layers."""

    depths = (3, 4, 6, 3)
    vd = True


class ResNet50_vd(_Basic):  # noqa: N801
    """ResNet-D with 50 layers; strides stand in the 3x3 convolutions."""

    depths = (3, 4, 6, 3)
    bottleneck = True
    vd = True


class ResNet101_vd(_Basic):  # noqa: N801
    """ResNet-D with 101 layers; strides stand in the 3x3 convolutions."""

    depths = (3, 4, 23, 3)
    bottleneck = True
    vd = True
