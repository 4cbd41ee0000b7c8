"""U-Net++ (Zhou and others, "UNet++: A Nested U-Net Architecture", DLMIA 2018, figure 1)."""

from __future__ import annotations

from typing import Any, ClassVar

import paddle
from paddle import nn

from paddlefcn.backbones import Backbone
from paddlefcn.layers import ConvBNReLU, Join, Resize, Upsample, convolution, crop_like
from paddlefcn.models.base import SegmentationModel
from paddlefcn.models.unet import stage_maps


class NestedBlock(nn.Layer):
    """X(i,j): all maps before it in its row, and the deeper one enlarged, through two 3x3 convolutions."""

    def __init__(self, deep: int, channels: int, before: int, *, upsample: str, align_corners: bool) -> None:
        """``before``: how many maps of ``channels`` stand before it in its row."""
        super().__init__()
        self.to_skip = upsample == "resize"
        if upsample == "transposed":
            self.up: nn.Layer = nn.Conv2DTranspose(deep, channels, 2, stride=2)
            self.reduce: nn.Layer = nn.Identity()
        else:
            self.up = (
                Resize(align_corners=align_corners)
                if self.to_skip
                else Upsample(deep, 2, align_corners=align_corners)
            )
            self.reduce = convolution(deep, channels, 1)
        self.join = Join()
        self.conv1 = ConvBNReLU((before + 1) * channels, channels)
        self.conv2 = ConvBNReLU(channels, channels)

    def forward(self, deep: paddle.Tensor, row: list[paddle.Tensor]) -> paddle.Tensor:
        enlarged = self.up(deep, row[0]) if self.to_skip else crop_like(self.up(deep), row[0])
        return self.conv2(self.conv1(self.join(*row, self.reduce(enlarged))))


class UNetPlusPlus(SegmentationModel):
    """Nested skips between encoder and decoder, on strides 1 to 16 of any backbone that has them.

    With ``deep_supervision`` (section 3.2) every X(0,j) is scored; training outputs are [level 4, 3, 2, 1],
    or fewer of a smaller ``level``, each with weight 1.
    """

    default_backbone = "UNetEncoder"
    backbone_defaults: ClassVar[dict[str, Any]] = {"widths": [32, 64, 128, 256, 512]}
    smallest: ClassVar[dict[str, Any]] = {"backbone": {"type": "UNetEncoder", "widths": [2, 2, 3, 3, 4]}}

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        deep_supervision: bool = True,
        level: int = 4,
        average: bool = False,
        upsample: str = "transposed",
        align_corners: bool = False,
    ) -> None:
        """Put the nested decoder on maps of strides 1, 2, 4, 8 and 16.

        deep_supervision: score every level in training, not the deepest alone.
        level: of the prediction, 1 to 4: a smaller one leaves deeper layers out (figure 1c); weights of a
            larger network load into it with the rest left over.
        average: predict with the mean of all levels ("accurate mode") instead of ``level`` alone.
        upsample: ``transposed``, or ``bilinear`` / ``resize`` with a 1x1 convolution behind.
        """
        super().__init__(backbone, num_classes)
        if not 1 <= level <= 4:
            raise ValueError(f"level: got {level}, expected 1 to 4")
        if average and not deep_supervision:
            raise ValueError("average: true needs the scores of every level; set deep_supervision: true")
        maps = stage_maps("UNetPlusPlus", backbone, upsample, level + 1)
        self.taps = tuple(found.name for found in maps)
        self.level, self.average = level, average
        widths = [found.channels for found in maps]
        for column in range(1, level + 1):
            for row in range(level + 1 - column):
                block = NestedBlock(
                    widths[row + 1], widths[row], column, upsample=upsample, align_corners=align_corners
                )
                setattr(self, f"x{row}_{column}", block)
        self.scored = list(range(level, 0, -1)) if deep_supervision else [level]
        for column in self.scored:
            setattr(self, f"score{column}", convolution(widths[0], num_classes, 1))
        self.output_weights = (1.0,) * len(self.scored)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        rows = [[x] for x in self.backbone(image, self.taps)]
        for column in range(1, self.level + 1):
            for row in range(self.level + 1 - column):
                block = getattr(self, f"x{row}_{column}")
                rows[row].append(block(rows[row + 1][column - 1], rows[row]))
        if self.training:
            return [getattr(self, f"score{column}")(rows[0][column]) for column in self.scored]
        if self.average:
            scores = [getattr(self, f"score{column}")(rows[0][column]) for column in self.scored]
            return [sum(scores[1:], scores[0]) / len(scores)]
        return [getattr(self, f"score{self.level}")(rows[0][self.level])]
