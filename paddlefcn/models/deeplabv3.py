"""DeepLabV3: atrous spatial pyramid pooling on a dilated backbone.

Chen, Papandreou, Schroff and Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017,
figure 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import paddle
from paddle import nn

from paddlefcn.backbones import Backbone, FeatureMap
from paddlefcn.layers import ConvBNReLU, Resize, convolution
from paddlefcn.models.base import SegmentationModel, check_dropout, check_width
from paddlefcn.models.heads import ASPP, AUXILIARY_WEIGHT, ScoreHead


class DeepLabV3(SegmentationModel):
    """ASPP with image pooling, a score, bilinear resizing; on request [main, auxiliary] in training mode."""

    default_backbone = "ResNet50"
    backbone_defaults: ClassVar[Mapping[str, Any]] = {"output_stride": 16}
    smallest: ClassVar[dict[str, Any]] = {"backbone": {"type": "ResNet18", "width": 2}, "channels": 4}

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        channels: int = 256,
        rates: Sequence[int] | None = None,
        dropout: float = 0.1,
        head_convolution: bool = False,
        auxiliary: bool = False,
        align_corners: bool = False,
    ) -> None:
        """Put the pyramid on the deepest map.

        channels: of every branch.
        rates: dilations of the 3x3 branches; None: 6, 12, 18 at stride 16, twice that at 8, half at 32.
        dropout: behind the pyramid. head_convolution: one more 3x3 before the score (torchvision).
        auxiliary: a second head on an earlier map, trained with weight 0.4 (torchvision).
        align_corners: of the resizing to the image.
        """
        super().__init__(backbone, num_classes)
        check_width("channels", channels, 256)
        check_dropout(dropout)
        side, deep = backbone.auxiliary, backbone.last
        self.taps = (side.name, deep.name)
        self.aspp = ASPP(deep.channels, channels, atrous_rates(rates, deep), dropout=dropout)
        self.block = ConvBNReLU(channels, channels, 3) if head_convolution else nn.Identity()
        self.score = convolution(channels, num_classes, 1)
        self.auxiliary = ScoreHead(side.channels, num_classes) if auxiliary else None
        self.resize = Resize(align_corners=align_corners)
        if auxiliary:
            self.output_weights = (1.0, AUXILIARY_WEIGHT)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        side, deep = self.backbone(image, self.taps)
        outputs = [self.resize(self.score(self.block(self.aspp(deep))), image)]
        if self.training and self.auxiliary is not None:
            outputs.append(self.resize(self.auxiliary(side), image))
        return outputs


def atrous_rates(rates: Sequence[int] | None, deep: FeatureMap) -> list[int]:
    """The rates given, else the paper's for the map's stride; ValueError for rates below 1."""
    if rates is None:
        return [max(1, rate * 16 // deep.stride) for rate in (6, 12, 18)]
    if not rates or min(rates) < 1:
        raise ValueError(f"rates: got {list(rates)}, expected dilations of 1 or more, such as [6, 12, 18]")
    return list(rates)
