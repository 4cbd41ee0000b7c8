"""MobileNetV2 (Sandler and others, CVPR 2018) and MobileNetV3 (Howard and others, ICCV 2019).

Layers have torchvision's names. Every block's output is a map: ``features0`` (stride 2) and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import paddle
from paddle import nn

from paddlefcn.backbones.base import Backbone, FeatureMap
from paddlefcn.backbones.dilation import Strides
from paddlefcn.layers import convolution

# channels are rounded to multiples of it, as the authors' code does
DIVISOR = 8


def rounded(channels: float) -> int:
    """The nearest multiple of 8, not more than a tenth below."""
    nearest = max(DIVISOR, int(channels + DIVISOR / 2) // DIVISOR * DIVISOR)
    return nearest + DIVISOR if nearest < 0.9 * channels else nearest


def _conv_norm(
    in_channels: int,
    out_channels: int,
    kernel: int,
    activation: type[nn.Layer] | None,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    epsilon: float = 1e-5,
) -> nn.Sequential:
    layers: list[nn.Layer] = [
        convolution(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2D(out_channels, epsilon=epsilon),
    ]
    return nn.Sequential(*layers, *([] if activation is None else [activation()]))


class SqueezeExcitation(nn.Layer):
    """Channels weighed by what the whole map holds (MobileNetV3, section 5.3): a gate of 0 to 1 each."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = convolution(channels, squeezed, 1)
        self.fc2 = convolution(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()
        self.relu = nn.ReLU()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        mean = x.mean([2, 3], keepdim=True)
        return x * self.gate(self.fc2(self.relu(self.fc1(mean))))


class InvertedResidual(nn.Layer):
    """Wide inside, narrow outside: 1x1 to ``hidden`` channels, depthwise, (gate,) 1x1 without activation."""

    name: ClassVar[str] = "block"

    def __init__(
        self,
        channels: tuple[int, int, int],
        kernel: int,
        activation: type[nn.Layer],
        *,
        stride: int,
        dilation: int,
        residual: bool,
        squeeze: bool = False,
        epsilon: float = 1e-5,
        nested: str = "block",
    ) -> None:
        """``channels``: in, inside, out. ``residual``: whether the input is added."""
        super().__init__()
        before, hidden, after = channels
        layers: list[nn.Layer] = []
        if hidden != before:
            layers.append(_conv_norm(before, hidden, 1, activation, epsilon=epsilon))
        layers.append(
            _conv_norm(
                hidden,
                hidden,
                kernel,
                activation,
                stride=stride,
                dilation=dilation,
                groups=hidden,
                epsilon=epsilon,
            )
        )
        if squeeze:
            layers.append(SqueezeExcitation(hidden, rounded(hidden // 4)))
        project = _conv_norm(hidden, after, 1, None, epsilon=epsilon)
        # torchvision's names: V2's projection stands in the row, V3's is a part of its own
        layers.extend(project if nested == "conv" else [project])
        self.nested, self.residual = nested, residual
        setattr(self, nested, nn.Sequential(*layers))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = getattr(self, self.nested)(x)
        return x + y if self.residual else y


class _MobileNet(Backbone):
    """A row of blocks, each handed out as a map."""

    def _set_row(self, blocks: list[nn.Layer], maps: list[FeatureMap]) -> None:
        self.features = nn.Sequential(*blocks)
        self.maps = tuple(maps)
        self.row = [str(number) for number in range(len(blocks))]

    def forward(self, image: paddle.Tensor, names: Sequence[str] | None = None) -> list[paddle.Tensor]:
        wanted, found, x = self.wanted(names), {}, image
        for number in self.row:
            x = self.features[number](x)
            if "features" + number in wanted:
                found["features" + number] = x
        return [found[name] for name in wanted]


def _check_factor(width_factor: float) -> None:
    if not 0 < width_factor <= 16:
        raise ValueError(f"width_factor: got {width_factor}, expected above 0 to 16")


class MobileNetV2(_MobileNet):
    """Table 2: maps ``features0`` (stride 2) to ``features17`` (32; 320 channels), ``features18`` (1280)."""

    smallest: ClassVar[dict[str, Any]] = {"width_factor": 0.1}
    auxiliary_map = "features13"
    # expansion, channels, blocks, stride of the first
    table: ClassVar[tuple[tuple[int, int, int, int], ...]] = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(
        self,
        *,
        width_factor: float = 1.0,
        output_stride: int = 32,
        dilate_first: bool = False,
        in_channels: int = 3,
    ) -> None:
        """Build it.

        width_factor: of every layer's channels, which are then rounded to multiples of 8.
        output_stride: 8, 16 or 32; strides beyond it become dilation.
        dilate_first: also dilate the convolution that lost its stride.
        """
        super().__init__()
        _check_factor(width_factor)
        strides = Strides(output_stride, stride=2)
        before = rounded(32 * width_factor)
        blocks: list[nn.Layer] = [_conv_norm(in_channels, before, 3, nn.ReLU6, stride=2)]
        maps = [FeatureMap("features0", before, 2)]
        for expansion, channels, count, first_stride in self.table:
            after = rounded(channels * width_factor)
            for number in range(count):
                stride, dilation = strides.take(first_stride if number == 0 else 1)
                blocks.append(
                    InvertedResidual(
                        (before, before * expansion, after),
                        3,
                        nn.ReLU6,
                        stride=stride,
                        dilation=strides.dilation if dilate_first else dilation,
                        residual=(number > 0 or first_stride == 1) and before == after,
                        nested="conv",
                    )
                )
                before = after
                maps.append(FeatureMap(f"features{len(maps)}", before, strides.stride))
        last = rounded(1280 * max(1.0, width_factor))
        blocks.append(_conv_norm(before, last, 1, nn.ReLU6))
        maps.append(FeatureMap(f"features{len(maps)}", last, strides.stride))
        self._set_row(blocks, maps)


class _MobileNetV3(_MobileNet):
    """Kernel, channels inside, channels out, gate, hard swish, stride of every block."""

    table: ClassVar[tuple[tuple[int, int, int, bool, bool, int], ...]]
    smallest: ClassVar[dict[str, Any]] = {"width_factor": 0.1}

    def __init__(
        self,
        *,
        width_factor: float = 1.0,
        output_stride: int = 32,
        dilate_first: bool = False,
        reduced_tail: bool = False,
        norm_epsilon: float = 0.001,
        in_channels: int = 3,
    ) -> None:
        """Build it; other arguments as in `MobileNetV2`.

        reduced_tail: half the channels in the last stage (section 6.4, segmentation).
        norm_epsilon: of every BatchNorm, above 0; timm's networks have 1e-5.
        """
        super().__init__()
        _check_factor(width_factor)
        if not 0 < norm_epsilon < 1:
            raise ValueError(f"norm_epsilon: got {norm_epsilon}, expected 0.001 or so, above 0 and below 1")
        strides, epsilon = Strides(output_stride, stride=2), norm_epsilon
        before = rounded(16 * width_factor)
        blocks: list[nn.Layer] = [_conv_norm(in_channels, before, 3, nn.Hardswish, stride=2, epsilon=epsilon)]
        maps = [FeatureMap("features0", before, 2)]
        tail = len(self.table) - 3  # its last stage: three blocks, the first of which reduces
        for number, (kernel, inside, out, squeeze, swish, stride) in enumerate(self.table):
            # the first block of the tail still has the stage before it inside
            half_inside, half_out = (reduced_tail and number > tail), (reduced_tail and number >= tail)
            hidden = rounded((inside // 2 if half_inside else inside) * width_factor)
            after = rounded((out // 2 if half_out else out) * width_factor)
            built, dilation = strides.take(stride)
            blocks.append(
                InvertedResidual(
                    (before, hidden, after),
                    kernel,
                    nn.Hardswish if swish else nn.ReLU,
                    stride=built,
                    dilation=strides.dilation if dilate_first else dilation,
                    residual=stride == 1 and before == after,
                    squeeze=squeeze,
                    epsilon=epsilon,
                )
            )
            before = after
            maps.append(FeatureMap(f"features{len(maps)}", before, strides.stride))
        blocks.append(_conv_norm(before, 6 * before, 1, nn.Hardswish, epsilon=epsilon))
        maps.append(FeatureMap(f"features{len(maps)}", 6 * before, strides.stride))
        self._set_row(blocks, maps)


class MobileNetV3Large(_MobileNetV3):
    """Table 1: maps ``features0`` (stride 2) to ``features15`` (32) and ``features16`` (960 channels)."""

    auxiliary_map = "features4"
    table = (
        (3, 16, 16, False, False, 1),
        (3, 64, 24, False, False, 2),
        (3, 72, 24, False, False, 1),
        (5, 72, 40, True, False, 2),
        (5, 120, 40, True, False, 1),
        (5, 120, 40, True, False, 1),
        (3, 240, 80, False, True, 2),
        (3, 200, 80, False, True, 1),
        (3, 184, 80, False, True, 1),
        (3, 184, 80, False, True, 1),
        (3, 480, 112, True, True, 1),
        (3, 672, 112, True, True, 1),
        (5, 672, 160, True, True, 2),
        (5, 960, 160, True, True, 1),
        (5, 960, 160, True, True, 1),
    )


class MobileNetV3Small(_MobileNetV3):
    """Table 2: maps ``features0`` (stride 2) to ``features11`` (32) and ``features12`` (576 channels)."""

    auxiliary_map = "features4"
    table = (
        (3, 16, 16, True, False, 2),
        (3, 72, 24, False, False, 2),
        (3, 88, 24, False, False, 1),
        (5, 96, 40, True, True, 2),
        (5, 240, 40, True, True, 1),
        (5, 240, 40, True, True, 1),
        (5, 120, 48, True, True, 1),
        (5, 144, 48, True, True, 1),
        (5, 288, 96, True, True, 2),
        (5, 576, 96, True, True, 1),
        (5, 576, 96, True, True, 1),
    )
