"""The FCN of torchvision and mmsegmentation: a head on a dilated backbone, no sums of finer maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import paddle

from paddlefcn.backbones import Backbone
from paddlefcn.layers import Resize
from paddlefcn.models.base import SegmentationModel, check_dropout
from paddlefcn.models.heads import AUXILIARY_WEIGHT, ScoreHead


class FCNHead(SegmentationModel):
    """A 3x3 convolution to a quarter of the channels, then the score (torchvision's ``fcn_resnet50``).

    After Long, Shelhamer and Darrell, CVPR 2015, on a backbone of output stride 8. In training mode the
    outputs are [main, auxiliary], the auxiliary one from an earlier map (PSPNet, section 4).
    """

    default_backbone = "ResNet50"
    backbone_defaults: ClassVar[Mapping[str, Any]] = {"output_stride": 8}
    smallest: ClassVar[dict[str, Any]] = {"backbone": {"type": "ResNet18", "width": 2}}

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        auxiliary: bool = True,
        dropout: float = 0.1,
        align_corners: bool = False,
    ) -> None:
        """Put the head on the deepest map.

        auxiliary: whether there is a second head. dropout: before each score. align_corners: of the resizing.
        """
        super().__init__(backbone, num_classes)
        check_dropout(dropout)
        side, deep = backbone.auxiliary, backbone.last
        self.taps = (side.name, deep.name)
        self.head = ScoreHead(deep.channels, num_classes, dropout=dropout)
        self.auxiliary = ScoreHead(side.channels, num_classes, dropout=dropout) if auxiliary else None
        self.resize = Resize(align_corners=align_corners)
        if auxiliary:
            self.output_weights = (1.0, AUXILIARY_WEIGHT)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        side, deep = self.backbone(image, self.taps)
        outputs = [self.resize(self.head(deep), image)]
        if self.training and self.auxiliary is not None:
            outputs.append(self.resize(self.auxiliary(side), image))
        return outputs
