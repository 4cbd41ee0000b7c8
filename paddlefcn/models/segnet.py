"""SegNet (Badrinarayanan, Kendall and Cipolla, "SegNet", PAMI 2017, figures 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import paddle
from paddle import nn

from paddlefcn.backbones import Backbone
from paddlefcn.backbones.vgg import VGG
from paddlefcn.layers import ConvBNReLU, Unpool, convolution
from paddlefcn.models.base import SegmentationModel


class SegNet(SegmentationModel):
    """VGG mirrored: each unpooling puts values back where the pooling found them."""

    smallest: ClassVar[dict[str, Any]] = {"backbone": {"type": "VGG11", "width": 2}}

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        decoder: Sequence[int] | None = None,
        batch_norm: bool = True,
    ) -> None:
        """Mirror a VGG.

        decoder: convolutions of each stage, deepest first, the score among the last; None: as many as the
            encoder's stage has. batch_norm: whether they have BatchNorm.
        """
        super().__init__(backbone, num_classes)
        if not isinstance(backbone, VGG):
            raise ValueError(
                f"backbone {type(backbone).__name__}: SegNet puts values back where VGG's pools found them;"
                " take VGG16, or another model such as UNet or DeepLabV3Plus"
            )
        counts = (
            [len(names) for _, names, _ in reversed(backbone.stages)] if decoder is None else list(decoder)
        )
        if len(counts) != 5 or min(counts) < 1:
            raise ValueError(f"decoder: got {counts}, expected five numbers of 1 or more, deepest first")
        widths = [backbone.map(f"stage{stage}").channels for stage in range(5, 0, -1)]
        self.unpool = Unpool()
        self.stages = nn.LayerList()
        for width, after, count in zip(widths, [*widths[1:], 0], counts):
            blocks = [ConvBNReLU(width, width, batch_norm=batch_norm) for _ in range(count - 1)]
            last = ConvBNReLU(width, after, batch_norm=batch_norm) if after else None
            self.stages.append(nn.Sequential(*blocks, *([] if last is None else [last])))
        self.score = convolution(widths[-1], num_classes, 3, padding=1)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        x, before, indices = self.backbone.pooled_with_indices(image)
        x = self.stages[0](self.unpool(x, indices[4], before[4]))
        x = self.stages[1](self.unpool(x, indices[3], before[3]))
        x = self.stages[2](self.unpool(x, indices[2], before[2]))
        x = self.stages[3](self.unpool(x, indices[1], before[1]))
        x = self.stages[4](self.unpool(x, indices[0], before[0]))
        return [self.score(x)]
