"""DDRNet: a deep aggregation pyramid on the coarse branch, added to the fine one and scored there.

Pan, Hong, Sun and Jia, "Deep Dual-Resolution Networks for Real-Time and Accurate Semantic Segmentation of
Traffic Scenes", IEEE T-ITS 2022 (arXiv 2101.06085), section III, and the authors' code.

The light network of this library. Without ImageNet weights, on Cityscapes' validation images of 1024x2048
(the table of gyyang23/RDRNet): BiSeNetV2 73.6 mean IoU for 98.4 GMACs, DDRNet-23-slim 76.3 for 36.3. Its
convolutions are plain ones, which processors run near their peak, where BiSeNetV2's are depthwise; STDC and
PP-LiteSeg are published from ImageNet weights alone. The authors' own figures, from ImageNet weights:
Cityscapes 77.8 (validation) and 77.4 (test), CamVid 74.7 (test).
"""

from __future__ import annotations

from typing import Any, ClassVar

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlefcn.backbones import Backbone
from paddlefcn.layers import AdaptiveMean, ConvBNReLU, Resize, add_resized, convolution
from paddlefcn.models.base import SegmentationModel, check_width
from paddlefcn.models.heads import AUXILIARY_WEIGHT, check_batch

# windows and steps of the pyramid's means
WINDOWS = ((5, 2), (9, 4), (17, 8))


class DDRNet(SegmentationModel):
    """The deepest map through the pyramid, resized to stride 8; [main, auxiliary] in training mode.

    On its own backbone the published network; on any other the fine map is the deepest of stride 8.
    """

    default_backbone = "DDRNet23Slim"
    smallest: ClassVar[dict[str, Any]] = {
        "backbone": {"type": "DDRNet23Slim", "width": 2},
        "pyramid_channels": 2,
        "channels": 4,
    }

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        pyramid_channels: int = 128,
        channels: int = 64,
        auxiliary: bool = True,
        align_corners: bool = False,
    ) -> None:
        """Put pyramid and head on a backbone.

        pyramid_channels: of each of the pyramid's branches. channels: inside the heads (DDRNet-23: 128).
        auxiliary: a second head on the fine branch behind the first exchange, weight 0.4.
        align_corners: of the resizing here; that inside the backbone keeps borders in place.
        """
        super().__init__(backbone, num_classes)
        check_width("pyramid_channels", pyramid_channels, 128)
        check_width("channels", channels, 64)
        side, detail, deep = backbone.auxiliary, backbone.deepest(8), backbone.last
        self.taps = (side.name, detail.name, deep.name)
        self.pyramid = AggregationPyramid(
            deep.channels, pyramid_channels, detail.channels, align_corners=align_corners
        )
        self.head = PreActivatedHead(detail.channels, channels, num_classes)
        self.auxiliary = PreActivatedHead(side.channels, channels, num_classes) if auxiliary else None
        self.resize = Resize(align_corners=align_corners)
        if auxiliary:
            self.output_weights = (1.0, AUXILIARY_WEIGHT)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        side, detail, deep = self.backbone(image, self.taps)
        x = add_resized(detail, self.resize(self.pyramid(deep), detail))
        outputs = [self.resize(self.head(x), image)]
        if self.training and self.auxiliary is not None:
            outputs.append(self.resize(self.auxiliary(side), image))
        return outputs


class AggregationPyramid(nn.Layer):
    """DAPPM: means over ever larger windows, each added to the one before: ``[N,in,h,w] -> [N,out,h,w]``.

    The deep aggregation pyramid pooling module of section III. The zeros around the map count in the means,
    as in the authors' code.
    """

    def __init__(self, in_channels: int, channels: int, out_channels: int, *, align_corners: bool) -> None:
        """``channels``: of every branch."""
        super().__init__()
        self.mean = AdaptiveMean(1)
        self.reduce = nn.LayerList([_activated(in_channels, channels, 1) for _ in range(len(WINDOWS) + 2)])
        self.process = nn.LayerList([_activated(channels, channels, 3) for _ in range(len(WINDOWS) + 1)])
        self.project = _activated(channels * (len(WINDOWS) + 2), out_channels, 1)
        self.shortcut = _activated(in_channels, out_channels, 1)
        self.resize = Resize(align_corners=align_corners)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_batch(self, x, "the pyramid's mean of the image")
        means = [F.avg_pool2d(x, size, step, padding=size // 2, exclusive=False) for size, step in WINDOWS]
        branches = [self.reduce[0](x)]
        for number, mean in enumerate([*means, self.mean(x)]):
            finer = self.resize(self.reduce[number + 1](mean), x)
            branches.append(self.process[number](add_resized(branches[-1], finer)))
        return self.project(paddle.concat(branches, axis=1)) + self.shortcut(x)


class PreActivatedHead(nn.Layer):
    """BatchNorm and ReLU before the 3x3 convolution too, for maps that are bare sums; then the score."""

    def __init__(self, in_channels: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2D(in_channels)
        self.block = ConvBNReLU(in_channels, channels, 3)
        self.score = convolution(channels, num_classes, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.score(self.block(F.relu(self.bn(x))))


def _activated(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """BatchNorm, ReLU, convolution."""
    conv = convolution(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2D(in_channels), nn.ReLU(), conv)
