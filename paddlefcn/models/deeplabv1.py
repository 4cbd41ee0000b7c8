"""DeepLab with a large field of view: fc6 as a 3x3 convolution whose cells lie 12 apart.

Chen, Papandreou, Kokkinos, Murphy and Yuille, "Semantic Image Segmentation with Deep Convolutional Nets and
Fully Connected CRFs", ICLR 2015, section 3 and table 2 (DeepLab-LargeFOV), and the authors' prototxt. The CRF
stands apart: `predict --crf`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlefcn.backbones import Backbone
from paddlefcn.layers import ConvBNReLU, Resize, convolution
from paddlefcn.models.base import SegmentationModel, check_dropout, check_width


class DilatedScore(nn.Layer):
    """Scores that see far: a dilated 3x3 convolution, alone or as fc6 before fc7 and the score."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        rate: int,
        fc_channels: int | None,
        batch_norm: bool,
        dropout: float,
    ) -> None:
        """``rate``: its dilation. ``fc_channels``: of fc6 and fc7; None: the dilated convolution scores."""
        super().__init__()
        if rate < 1:
            raise ValueError(f"rate: got {rate}, expected a dilation of 1 or more, such as 12")
        if fc_channels is None:
            layers: list[nn.Layer] = []
            score = convolution(in_channels, num_classes, 3, padding=rate, dilation=rate)
        else:
            check_width("fc_channels", fc_channels, 1024)
            layers = [
                ConvBNReLU(in_channels, fc_channels, 3, dilation=rate, batch_norm=batch_norm),
                ConvBNReLU(fc_channels, fc_channels, 1, batch_norm=batch_norm),
            ]
            score = convolution(fc_channels, num_classes, 1)
        self.layers = nn.LayerList(layers)
        self.dropout = nn.Dropout(dropout)
        self.score = score

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        for layer in self.layers:
            x = self.dropout(layer(x))
        return self.score(x)


class DeepLabV1(SegmentationModel):
    """DeepLab-LargeFOV: pool5 averaged, one dilated branch, bilinear resizing.

    On a ResNet (`fc_channels: null`, `average_pool5: false`) it is the LargeFOV that DeepLab v2 compares its
    pyramid with (PAMI 2018, section 4).
    """

    default_backbone = "DeepLabVGG16"
    backbone_defaults: ClassVar[Mapping[str, Any]] = {"output_stride": 8}
    smallest: ClassVar[dict[str, Any]] = {"backbone": {"type": "DeepLabVGG16", "width": 2}, "fc_channels": 6}

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        rate: int = 12,
        fc_channels: int | None = 1024,
        average_pool5: bool = True,
        batch_norm: bool = True,
        dropout: float = 0.5,
        align_corners: bool = True,
    ) -> None:
        """Put the branch on the deepest map.

        rate: dilation of fc6. fc_channels: of fc6 and fc7; null: a single dilated convolution scores.
        average_pool5: means over 3x3 cells before fc6 (pool5a of the authors' network).
        batch_norm: of fc6 and fc7; the published ones have none (a config's backbone without it: no).
        dropout: behind fc6 and fc7. align_corners: of the resizing, as in the authors' layer.
        """
        super().__init__(backbone, num_classes)
        check_dropout(dropout)
        deep = backbone.last
        self.taps = (deep.name,)
        self.average_pool5 = average_pool5
        self.branch = DilatedScore(
            deep.channels,
            num_classes,
            rate=rate,
            fc_channels=fc_channels,
            batch_norm=batch_norm,
            dropout=dropout,
        )
        self.resize = Resize(align_corners=align_corners)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        (x,) = self.backbone(image, self.taps)
        # the zeros around the map count, as in Caffe
        x = F.avg_pool2d(x, 3, 1, padding=1, exclusive=False) if self.average_pool5 else x
        return [self.resize(self.branch(x), image)]
