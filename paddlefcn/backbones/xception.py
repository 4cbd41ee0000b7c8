"""Aligned Xception, as DeepLabV3+ modified it (Chen and others, ECCV 2018, figure 4).

Every pooling is a depthwise separable convolution with a stride, and BatchNorm follows each depthwise one.
Layers have timm's names.
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

EPSILON = 0.001  # BatchNorm's, the authors'


class _ConvNorm(nn.Layer):
    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = convolution(
            in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False
        )
        self.bn = nn.BatchNorm2D(out_channels, epsilon=EPSILON)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.bn(self.conv(x))


class _Separable(nn.Layer):
    """3x3 depthwise, 1x1; BatchNorm behind both, and ReLU if ``activate``."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, dilation: int, activate: bool
    ) -> None:
        super().__init__()
        self.conv_dw = convolution(
            in_channels,
            in_channels,
            3,
            stride=stride,
            padding=dilation,
            dilation=dilation,
            groups=in_channels,
            bias=False,
        )
        self.bn_dw = nn.BatchNorm2D(in_channels, epsilon=EPSILON)
        self.conv_pw = convolution(in_channels, out_channels, 1, bias=False)
        self.bn_pw = nn.BatchNorm2D(out_channels, epsilon=EPSILON)
        self.activate = activate

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.bn_dw(self.conv_dw(x))
        x = F.relu(x) if self.activate else x
        x = self.bn_pw(self.conv_pw(x))
        return F.relu(x) if self.activate else x


class XceptionBlock(nn.Layer):
    """Three separable convolutions, the last of which reduces, and a shortcut around them."""

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        *,
        stride: int,
        dilation: int,
        reduces: bool = False,
        exit_block: bool = False,
    ) -> None:
        """``reduces``: whether the published block has a stride; ``exit_block``: the last, no shortcut."""
        super().__init__()
        one, two, three = channels
        self.exit_block = exit_block
        if not exit_block and (in_channels != three or reduces):
            self.shortcut: nn.Layer | None = _ConvNorm(in_channels, three, 1, stride)
        else:
            self.shortcut = None
        self.stack = nn.LayerDict(
            {
                "conv1": _Separable(in_channels, one, 1, dilation, exit_block),
                "conv2": _Separable(one, two, 1, dilation, exit_block),
                "conv3": _Separable(two, three, stride, dilation, exit_block),
            }
        )

    def forward(self, x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """The block's output, and its map before the stride."""
        if self.exit_block:
            before = self.stack["conv2"](self.stack["conv1"](x))
            return self.stack["conv3"](before), before
        y = self.stack["conv1"](F.relu(x))
        before = self.stack["conv2"](F.relu(y))
        y = self.stack["conv3"](F.relu(before))
        return y + (x if self.shortcut is None else self.shortcut(x)), before


class Xception65(Backbone):
    """Maps ``stem`` (stride 2), ``blocks0``, ``blocks1_conv2`` (4), ``blocks1`` (8), ``middle``, ``exit``.

    ``blocks1_conv2`` is the map before the second block's stride, which DeepLabV3+ takes as its low-level
    features (the authors' code); ``middle`` is the end of the middle flow (stride 16), ``exit`` that of the
    exit flow (32), or the output stride.
    """

    smallest: ClassVar[dict[str, Any]] = {"width_factor": 0.02, "middle_blocks": 1}
    auxiliary_map = "middle"

    def __init__(
        self,
        *,
        output_stride: int = 32,
        width_factor: float = 1.0,
        middle_blocks: int = 16,
        in_channels: int = 3,
    ) -> None:
        """Build it.

        output_stride: 8, 16 or 32; strides beyond it become dilation.
        width_factor: of every layer's channels. middle_blocks: of the middle flow (8: Xception-41).
        """
        super().__init__()
        if not 0 < width_factor <= 16:
            raise ValueError(f"width_factor: got {width_factor}, expected above 0 to 16")
        if not 1 <= middle_blocks <= 256:
            raise ValueError(f"middle_blocks: got {middle_blocks}, expected 1 to 256 (published: 16)")

        def scaled(*channels: int) -> list[int]:
            return [max(2, round(value * width_factor)) for value in channels]

        first, before = scaled(32, 64)
        self.stem = nn.Sequential(_ConvNorm(in_channels, first, 3, 2), _ConvNorm(first, before, 3))
        maps = {"stem": FeatureMap("stem", before, 2)}
        strides, blocks = Strides(output_stride, stride=2), []
        plan = [(scaled(128) * 3, 2), (scaled(256) * 3, 2), (scaled(728) * 3, 2)]
        plan += [(scaled(728) * 3, 1)] * middle_blocks
        plan += [(scaled(728, 1024, 1024), 2), (scaled(1536, 1536, 2048), 1)]
        self.taps = {1: "blocks1", 2 + middle_blocks: "middle", 4 + middle_blocks: "exit"}
        for number, (channels, stride) in enumerate(plan):
            incoming = strides.stride
            built, dilation = strides.take(stride)
            last = number == len(plan) - 1
            block = XceptionBlock(
                before, channels, stride=built, dilation=dilation, reduces=stride > 1, exit_block=last
            )
            blocks.append(block)
            if number == 1:
                maps["blocks1_conv2"] = FeatureMap("blocks1_conv2", channels[1], incoming)
            before = channels[-1]
            if number == 0:
                maps["blocks0"] = FeatureMap("blocks0", before, strides.stride)
            elif number in self.taps:
                maps[self.taps[number]] = FeatureMap(self.taps[number], before, strides.stride)
        self.blocks = nn.LayerList(blocks)
        self.maps = tuple(maps.values())

    def forward(self, image: paddle.Tensor, names: Sequence[str] | None = None) -> list[paddle.Tensor]:
        wanted, found = self.wanted(names), {}
        x = F.relu(self.stem[1](F.relu(self.stem[0](image))))
        if "stem" in wanted:
            found["stem"] = x
        x, _ = self.blocks[0](x)
        if "blocks0" in wanted:
            found["blocks0"] = x
        for number in range(1, len(self.blocks)):
            x, before = self.blocks[number](x)
            if number == 1 and "blocks1_conv2" in wanted:
                found["blocks1_conv2"] = before
            if number in self.taps and self.taps[number] in wanted:
                found[self.taps[number]] = x
        return [found[name] for name in wanted]
