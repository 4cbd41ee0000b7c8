"""U-Net (Ronneberger, Fischer and Brox, "U-Net", MICCAI 2015, figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import paddle
from paddle import nn

from paddlefcn.backbones import Backbone, FeatureMap
from paddlefcn.layers import ConvBNReLU, Join, Resize, Upsample, convolution, crop_like
from paddlefcn.models.base import SegmentationModel, check_dropout, check_strides

STRIDES = (1, 2, 4, 8, 16)
UPSAMPLING = ("transposed", "bilinear", "resize")


def stage_maps(model: str, backbone: Backbone, upsample: str, count: int = 5) -> list[FeatureMap]:
    """The deepest maps of strides 1, 2, 4, …; ValueError naming the fix where there are none."""
    if upsample not in UPSAMPLING:
        raise ValueError(f"upsample: got {upsample!r}, expected {', '.join(UPSAMPLING)}")
    strides = STRIDES[:count]
    check_strides(backbone, strides, model, "take UNetEncoder or a VGG, or another model")
    maps = [backbone.deepest(stride) for stride in strides]
    if upsample != "resize" and not all(found.rounds_up for found in maps):
        raise ValueError("pooling: floor drops a row of odd sizes; set upsample: resize, or pooling: ceil")
    return maps


class UpBlock(nn.Layer):
    """A deeper map enlarged to a finer one, both through two 3x3 convolutions.

    ``transposed``: a 2x2 transposed convolution that halves the channels (the paper's up-convolution);
    ``bilinear``: by 2, cropped at the top left; ``resize``: to the finer map's size, as PaddleSeg does.
    """

    def __init__(
        self, deep: int, skip: int, channels: int, *, upsample: str, align_corners: bool, batch_norm: bool
    ) -> None:
        """``deep``, ``skip``, ``channels``: of the deeper map, of the finer one, of the result."""
        super().__init__()
        enlarged = deep
        if upsample == "transposed":
            enlarged = max(1, deep // 2)
            self.up: nn.Layer = nn.Conv2DTranspose(deep, enlarged, 2, stride=2)
        elif upsample == "bilinear":
            self.up = Upsample(deep, 2, align_corners=align_corners)
        else:
            self.up = Resize(align_corners=align_corners)
        self.to_skip = upsample == "resize"
        self.join = Join()
        self.conv1 = ConvBNReLU(skip + enlarged, channels, batch_norm=batch_norm)
        self.conv2 = ConvBNReLU(channels, channels, batch_norm=batch_norm)

    def forward(self, deep: paddle.Tensor, skip: paddle.Tensor) -> paddle.Tensor:
        enlarged = self.up(deep, skip) if self.to_skip else crop_like(self.up(deep), skip)
        return self.conv2(self.conv1(self.join(skip, enlarged)))


class UNet(SegmentationModel):
    """The expanding path on its own encoder, or on any backbone with a map of stride 1.

    Two departures from the paper: convolutions are padded, and BatchNorm follows them.
    """

    default_backbone = "UNetEncoder"
    smallest: ClassVar[dict[str, Any]] = {"backbone": {"type": "UNetEncoder", "widths": [2, 2, 3, 3, 4]}}

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        channels: Sequence[int] | None = None,
        upsample: str = "transposed",
        dropout: float = 0.5,
        score_kernel: int = 1,
        batch_norm: bool = True,
        align_corners: bool = False,
    ) -> None:
        """Put the expanding path on maps of strides 1, 2, 4, 8 and 16.

        channels: of its four steps, deepest first; None: of the maps they return to.
        upsample: ``transposed``, ``bilinear`` or ``resize`` (see `UpBlock`).
        dropout: at the end of the contracting path (section 3.1).
        score_kernel: of the score, 1 (paper) or 3 (PaddleSeg).
        """
        super().__init__(backbone, num_classes)
        check_dropout(dropout)
        maps = stage_maps("UNet", backbone, upsample)
        if score_kernel not in (1, 3):
            raise ValueError(f"score_kernel: got {score_kernel}, expected 1 or 3")
        self.taps = tuple(found.name for found in maps)
        skips, deep = maps[-2::-1], maps[-1].channels
        channels = [found.channels for found in skips] if channels is None else list(channels)
        if len(channels) != len(skips) or min(channels) < 1:
            raise ValueError(f"channels: got {channels}, expected four numbers, deepest first")
        self.dropout = nn.Dropout(dropout)
        self.steps = nn.LayerList()
        for skip, width in zip(skips, channels):
            step = UpBlock(
                deep,
                skip.channels,
                width,
                upsample=upsample,
                align_corners=align_corners,
                batch_norm=batch_norm,
            )
            self.steps.append(step)
            deep = width
        self.score = convolution(deep, num_classes, score_kernel, padding=score_kernel // 2)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        one, two, three, four, five = self.backbone(image, self.taps)
        x = self.steps[0](self.dropout(five), four)
        x = self.steps[1](x, three)
        x = self.steps[2](x, two)
        x = self.steps[3](x, one)
        return [self.score(x)]
