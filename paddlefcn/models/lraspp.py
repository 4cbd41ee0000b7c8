"""LR-ASPP: the light head of MobileNetV3 (Howard and others, ICCV 2019, section 6.4, figure 10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import paddle

from paddlefcn.backbones import Backbone
from paddlefcn.layers import AdaptiveMean, ConvBNReLU, Resize, WindowMean, convolution
from paddlefcn.layers.older_format import sigmoid
from paddlefcn.models.base import SegmentationModel, check_width

# the paper's average pooling before the gate, for maps of stride 16 of images of 1024x2048
GATE_STRIDES = (16, 20)


class LRASPP(SegmentationModel):
    """The deepest map, weighed by a gate that sees far, resized to stride 8 and added to that map's score."""

    default_backbone = "MobileNetV3Large"
    backbone_defaults: ClassVar[Mapping[str, Any]] = {"output_stride": 16}
    smallest: ClassVar[dict[str, Any]] = {
        "backbone": {"type": "MobileNetV3Small", "width_factor": 0.1},
        "channels": 4,
    }

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        channels: int = 128,
        gate_window: int | None = 49,
        align_corners: bool = False,
    ) -> None:
        """Put the head on the deepest map and the first of stride 8.

        channels: of the deep branch.
        gate_window: side of the windows whose means go into the gate, every 16 by 20 cells (figure 10); None:
            one mean of the whole map (torchvision). A window larger than the map is the map.
        align_corners: of every resizing.
        """
        super().__init__(backbone, num_classes)
        check_width("channels", channels, 128)
        if gate_window is not None and gate_window < 1:
            raise ValueError(f"gate_window: got {gate_window}, expected 1 or more (published: 49)")
        low, deep = backbone.first(8), backbone.last
        self.taps = (low.name, deep.name)
        self.block = ConvBNReLU(deep.channels, channels, 1)
        self.mean = AdaptiveMean(1) if gate_window is None else WindowMean(gate_window, GATE_STRIDES)
        self.gate = convolution(deep.channels, channels, 1, bias=False)
        self.score_low = convolution(low.channels, num_classes, 1)
        self.score_deep = convolution(channels, num_classes, 1)
        self.resize = Resize(align_corners=align_corners)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        low, deep = self.backbone(image, self.taps)
        x = self.block(deep)
        x = x * self.resize(sigmoid(self.gate(self.mean(deep))), x)
        score = self.score_low(low) + self.score_deep(self.resize(x, low))
        return [self.resize(score, image)]
