"""DeepLab v2: atrous spatial pyramid pooling, the sum of four dilated branches' scores.

Chen, Papandreou, Kokkinos, Murphy and Yuille, "DeepLab: Semantic Image Segmentation with Deep Convolutional
Nets, Atrous Convolution, and Fully Connected CRFs", PAMI 2018 (arXiv 1606.00915), section 3, figure 7. The
fusion over three image sizes and the CRF stand apart: `val --multi-scale`, `predict --crf`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import paddle
from paddle import nn

from paddlefcn.backbones import Backbone
from paddlefcn.layers import Resize
from paddlefcn.models.base import SegmentationModel, check_dropout
from paddlefcn.models.deeplabv1 import DilatedScore


class DeepLabV2(SegmentationModel):
    """ASPP-L by sum on a map of stride 8, bilinear resizing."""

    default_backbone = "ResNet101"
    backbone_defaults: ClassVar[Mapping[str, Any]] = {"output_stride": 8, "dilate_first": True}
    smallest: ClassVar[dict[str, Any]] = {"backbone": {"type": "ResNet18", "width": 2}}

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        rates: Sequence[int] = (6, 12, 18, 24),
        fc_channels: int | None = None,
        batch_norm: bool = True,
        dropout: float = 0.5,
        align_corners: bool = True,
    ) -> None:
        """Put the pyramid on the deepest map.

        rates: a branch each; ASPP-S has 2, 4, 8, 12 (section 4).
        fc_channels: of each branch's own fc6 and fc7, 1024 on VGG; null: the dilated convolutions score.
        batch_norm: of fc6 and fc7; the published ones have none (a config's backbone without it: no).
        dropout: behind fc6 and fc7. align_corners: of the resizing, as in the authors' layer.
        """
        super().__init__(backbone, num_classes)
        check_dropout(dropout)
        if not rates:
            raise ValueError("rates: got [], expected dilations such as [6, 12, 18, 24]")
        deep = backbone.last
        self.taps = (deep.name,)
        self.branches = nn.LayerList(
            [
                DilatedScore(
                    deep.channels,
                    num_classes,
                    rate=rate,
                    fc_channels=fc_channels,
                    batch_norm=batch_norm,
                    dropout=dropout,
                )
                for rate in rates
            ]
        )
        self.resize = Resize(align_corners=align_corners)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        (x,) = self.backbone(image, self.taps)
        score = self.branches[0](x)
        for branch in self.branches[1:]:
            score = score + branch(x)
        return [self.resize(score, image)]
