"""PSPNet (Zhao, Shi, Qi, Wang and Jia, "Pyramid Scene Parsing Network", CVPR 2017, figure 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import paddle
from paddle import nn

from paddlefcn.backbones import Backbone
from paddlefcn.layers import ConvBNReLU, Resize, convolution
from paddlefcn.models.base import SegmentationModel, check_dropout, check_width
from paddlefcn.models.heads import AUXILIARY_WEIGHT, PyramidPooling, ScoreHead


class PSPNet(SegmentationModel):
    """Means over parts of the map in four sizes, beside the map; [main, auxiliary] in training mode."""

    default_backbone = "ResNet50"
    backbone_defaults: ClassVar[Mapping[str, Any]] = {"output_stride": 8}
    smallest: ClassVar[dict[str, Any]] = {"backbone": {"type": "ResNet18", "width": 2}, "channels": 4}

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        channels: int = 512,
        bins: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.1,
        auxiliary: bool = True,
        deepest: str | None = None,
        block_kernel: int = 3,
        score_kernel: int = 1,
        mean_norm: bool = True,
        align_corners: bool = False,
    ) -> None:
        """Put the pyramid on the deepest map.

        channels: of the convolution behind the pyramid. bins: parts a side (section 3.2).
        dropout: before the score. auxiliary: a second head on an earlier map, weight 0.4 (section 4).
        deepest: the map under the pyramid by name; None: the backbone's last.
        block_kernel, score_kernel: of the two convolutions behind the pyramid, 1 or 3 each.
        mean_norm: whether the bin of 1 has BatchNorm (segmentation_models.pytorch's has none).
        align_corners: of every resizing.
        """
        super().__init__(backbone, num_classes)
        check_width("channels", channels, 512)
        check_dropout(dropout)
        if not bins or min(bins) < 1:
            raise ValueError(f"bins: got {list(bins)}, expected parts a side, such as [1, 2, 3, 6]")
        for key, kernel in (("block_kernel", block_kernel), ("score_kernel", score_kernel)):
            if kernel not in (1, 3):
                raise ValueError(f"{key}: got {kernel}, expected 1 or 3")
        deep = backbone.last if deepest is None else backbone.map(deepest)
        side = backbone.auxiliary if auxiliary else deep
        self.taps = (side.name, deep.name)
        self.pyramid = PyramidPooling(deep.channels, bins, mean_norm=mean_norm, align_corners=align_corners)
        self.block = ConvBNReLU(self.pyramid.out_channels, channels, block_kernel)
        self.dropout = nn.Dropout(dropout)
        self.score = convolution(channels, num_classes, score_kernel, padding=score_kernel // 2)
        self.auxiliary = ScoreHead(side.channels, num_classes, dropout=dropout) if auxiliary else None
        self.resize = Resize(align_corners=align_corners)
        if auxiliary:
            self.output_weights = (1.0, AUXILIARY_WEIGHT)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        side, deep = self.backbone(image, self.taps)
        x = self.dropout(self.block(self.pyramid(deep)))
        outputs = [self.resize(self.score(x), image)]
        if self.training and self.auxiliary is not None:
            outputs.append(self.resize(self.auxiliary(side), image))
        return outputs
