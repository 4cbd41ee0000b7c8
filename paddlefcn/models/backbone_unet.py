"""U-Net and U-Net++ on classification backbones, whose finest map has stride 2.

Ronneberger, Fischer and Brox, "U-Net", MICCAI 2015, figure 1, and Zhou and others, "UNet++", DLMIA 2018,
figure 1; on such backbones as segmentation_models.pytorch builds them: a step for each map, and one more to
the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlefcn.backbones import Backbone, FeatureMap
from paddlefcn.layers import ConvBNReLU, Upsample, convolution, crop_like, spatial_size
from paddlefcn.layers.unpooling import twice
from paddlefcn.models.base import SegmentationModel, check_dropout, check_strides

STRIDES = (2, 4, 8, 16, 32)
ENLARGING = ("nearest", "bilinear")


class Nearest(nn.Layer):
    """Every cell as 2x2 cells: ``[N,C,H,W] -> [N,C,2H,2W]``."""

    def __init__(self) -> None:
        super().__init__()
        self.export_form = False

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.export_form:
            return twice(x)
        height, width = spatial_size(x)
        return F.interpolate(x, size=[2 * height, 2 * width], mode="nearest")

    def set_export_form(self, form: str | None) -> None:
        """Whether it runs without interpolation."""
        self.export_form = form is not None


class Step(nn.Layer):
    """A deeper map enlarged by 2, beside finer ones if there are any, through two 3x3 convolutions."""

    def __init__(self, deep: int, beside: int, channels: int, upsample: str) -> None:
        """``deep``, ``beside``: channels of the deeper map and of all the finer ones together."""
        super().__init__()
        self.up = Nearest() if upsample == "nearest" else Upsample(deep, 2)
        self.conv1 = ConvBNReLU(deep + beside, channels)
        self.conv2 = ConvBNReLU(channels, channels)

    def forward(
        self, deep: paddle.Tensor, row: Sequence[paddle.Tensor], like: paddle.Tensor
    ) -> paddle.Tensor:
        """``row``: the finer maps beside; ``like``: what has their size."""
        x = crop_like(self.up(deep), like)
        return self.conv2(self.conv1(paddle.concat([x, *row], axis=1) if row else x))


class _OnBackbone(SegmentationModel):
    """What both have: five maps, five widths, a score on the image's own grid."""

    default_backbone = "ResNet18"
    smallest: ClassVar[dict[str, Any]] = {
        "backbone": {"type": "ResNet18", "width": 2},
        "channels": [6, 5, 4, 3, 2],
    }

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        channels: Sequence[int] = (256, 128, 64, 32, 16),
        upsample: str = "nearest",
        dropout: float = 0.0,
        score_kernel: int = 3,
    ) -> None:
        """Put the expanding path on the deepest maps of strides 2, 4, 8, 16 and 32.

        channels: of its five steps, deepest first; the last has no map beside it.
        upsample: ``nearest`` or ``bilinear``, by 2 and cropped at the top left.
        dropout: before the score. score_kernel: of the score, 1 or 3.
        """
        super().__init__(backbone, num_classes)
        check_dropout(dropout)
        if upsample not in ENLARGING:
            raise ValueError(f"upsample: got {upsample!r}, expected nearest or bilinear")
        if score_kernel not in (1, 3):
            raise ValueError(f"score_kernel: got {score_kernel}, expected 1 or 3")
        if len(channels) != len(STRIDES) or min(channels) < 1:
            raise ValueError(f"channels: got {list(channels)}, expected five numbers, deepest first")
        mend = "set output_stride: 32 if it has one, or take UNet for a backbone with stride 1"
        check_strides(backbone, STRIDES, type(self).__name__, mend)
        maps = [backbone.deepest(stride) for stride in STRIDES]
        self.taps = tuple(found.name for found in maps)
        self._build(maps, list(channels), upsample)
        self.dropout = nn.Dropout(dropout)
        self.score = convolution(channels[-1], num_classes, score_kernel, padding=score_kernel // 2)

    def _build(self, maps: list[FeatureMap], channels: list[int], upsample: str) -> None:
        raise TypeError(f"{type(self).__name__}: build BackboneUNet or BackboneUNetPlusPlus")


class BackboneUNet(_OnBackbone):
    """U-Net's expanding path on ResNet, MobileNet and the like. Logits have the image's own grid."""

    def _build(self, maps: list[FeatureMap], channels: list[int], upsample: str) -> None:
        deep, steps = maps[-1].channels, []
        for beside, width in zip([found.channels for found in maps[-2::-1]] + [0], channels):
            steps.append(Step(deep, beside, width, upsample))
            deep = width
        self.steps = nn.LayerList(steps)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        two, four, eight, sixteen, x = self.backbone(image, self.taps)
        x = self.steps[0](x, [sixteen], sixteen)
        x = self.steps[1](x, [eight], eight)
        x = self.steps[2](x, [four], four)
        x = self.steps[3](x, [two], two)
        x = self.steps[4](x, [], image)
        return [self.score(self.dropout(x))]


class BackboneUNetPlusPlus(_OnBackbone):
    """U-Net++'s nested skips on ResNet, MobileNet and the like: X(i,j) is `xI_J`, row 0 of stride 2."""

    def _build(self, maps: list[FeatureMap], channels: list[int], upsample: str) -> None:
        widths = [found.channels for found in maps]
        rows = len(maps) - 1
        for column in range(1, rows + 1):
            for row in range(rows + 1 - column):
                # the end of each row has the decoder's width, the rest that of its row's map
                last = column == rows - row
                below = channels[rows - row - 2] if last and column > 1 else widths[row + 1]
                own = channels[rows - row - 1] if last else widths[row]
                setattr(self, f"x{row}_{column}", Step(below, column * widths[row], own, upsample))
        self.last = Step(channels[-2], 0, channels[-1], upsample)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        grid = [[x] for x in self.backbone(image, self.taps)]
        rows = len(grid) - 1
        for column in range(1, rows + 1):
            for row in range(rows + 1 - column):
                beside = list(reversed(grid[row]))
                grid[row].append(
                    getattr(self, f"x{row}_{column}")(grid[row + 1][column - 1], beside, beside[-1])
                )
        return [self.score(self.dropout(self.last(grid[0][rows], [], image)))]
