"""The deep dual-resolution network: one branch stays at stride 8, one goes on to stride 64, and they talk.

Pan, Hong, Sun and Jia, "Deep Dual-Resolution Networks for Real-Time and Accurate Semantic Segmentation of
Traffic Scenes", IEEE T-ITS 2022 (arXiv 2101.06085), section III, and the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlefcn.backbones.base import Backbone, FeatureMap
from paddlefcn.backbones.resnet import BasicBlock
from paddlefcn.layers import Resize, add_resized, convolution


class Residual(nn.Layer):
    """A body and a shortcut around it, added without the ReLU: the other branch is added first."""

    def __init__(self, body: nn.Layer, shortcut: nn.Layer | None) -> None:
        super().__init__()
        self.body = body
        self.downsample = shortcut

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.body(x) + (x if self.downsample is None else self.downsample(x))


class DDRNet23(Backbone):
    """Both branches' maps; those of the shared stem and of the context branch are rectified.

    ``stage1`` (stride 4), ``stage2`` (8), ``detail3`` and ``detail4`` (8: the fine branch behind each
    exchange), ``detail`` (8, its end), ``stage3`` (16) and ``stage4`` (32: the coarse branch behind each
    exchange), ``context`` (64, its end). ``detail*`` and ``context`` are sums that no ReLU has cut yet.
    """

    smallest: ClassVar[dict[str, Any]] = {"width": 2}
    auxiliary_map = "detail3"

    def __init__(self, *, width: int = 64, in_channels: int = 3) -> None:
        """``width``: channels of the stem; the fine branch has 2 and at its end 4 times as many."""
        super().__init__()
        if not 1 <= width <= 1024:
            raise ValueError(f"width: got {width}, expected 1 to 1024 (published: 64, slim 32)")
        fine = 2 * width
        self.stem = nn.Sequential(
            *_conv_norm(in_channels, width, 3, stride=2),
            nn.ReLU(),
            *_conv_norm(width, width, 3, stride=2),
            nn.ReLU(),
        )
        self.layer1 = nn.Sequential(_basic(width, width), _basic(width, width))
        self.layer2 = nn.Sequential(_basic(width, fine, 2), _basic(fine, fine))
        # the coarse branch, and beside each stage of it the fine one
        self.coarse3 = nn.Sequential(_basic(fine, 4 * width, 2), _plain(4 * width))
        self.fine3 = nn.Sequential(_basic(fine, fine), _plain(fine))
        self.down3 = nn.Sequential(*_conv_norm(fine, 4 * width, 3, stride=2))
        self.up3 = nn.Sequential(*_conv_norm(4 * width, fine, 1))
        self.coarse4 = nn.Sequential(_basic(4 * width, 8 * width, 2), _plain(8 * width))
        self.fine4 = nn.Sequential(_basic(fine, fine), _plain(fine))
        self.down4 = nn.Sequential(
            *_conv_norm(fine, 4 * width, 3, stride=2),
            nn.ReLU(),
            *_conv_norm(4 * width, 8 * width, 3, stride=2),
        )
        self.up4 = nn.Sequential(*_conv_norm(8 * width, fine, 1))
        self.coarse5 = _bottleneck(8 * width, stride=2)
        self.fine5 = _bottleneck(fine)
        self.resize = Resize()
        self.maps = (
            FeatureMap("stage1", width, 4),
            FeatureMap("stage2", fine, 8),
            FeatureMap("detail3", fine, 8),
            FeatureMap("detail4", fine, 8),
            FeatureMap("detail", 2 * fine, 8),
            FeatureMap("stage3", 4 * width, 16),
            FeatureMap("stage4", 8 * width, 32),
            FeatureMap("context", 16 * width, 64),
        )

    def forward(self, image: paddle.Tensor, names: Sequence[str] | None = None) -> list[paddle.Tensor]:
        found: dict[str, paddle.Tensor] = {}
        stage1 = self.layer1(self.stem(image))
        stage2 = self.layer2(stage1)
        coarse, fine = self.coarse3(stage2), self.fine3(stage2)
        stage3 = F.relu(coarse + self.down3(F.relu(fine)))
        detail3 = add_resized(fine, self.resize(self.up3(F.relu(coarse)), fine))
        coarse, fine = self.coarse4(stage3), self.fine4(F.relu(detail3))
        stage4 = F.relu(coarse + self.down4(F.relu(fine)))
        detail4 = add_resized(fine, self.resize(self.up4(F.relu(coarse)), fine))
        found.update(stage1=stage1, stage2=stage2, stage3=stage3, stage4=stage4)
        found.update(detail3=detail3, detail4=detail4)
        wanted = self.wanted(names)
        if "detail" in wanted:
            found["detail"] = self.fine5(F.relu(detail4))
        if "context" in wanted:
            found["context"] = self.coarse5(stage4)
        return [found[name] for name in wanted]


class DDRNet23Slim(DDRNet23):
    """DDRNet-23 of half the width (the authors' "slim"): the light network for processors."""

    def __init__(self, *, width: int = 32, in_channels: int = 3) -> None:
        """See `DDRNet23`."""
        super().__init__(width=width, in_channels=in_channels)


def _conv_norm(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1
) -> tuple[nn.Layer, nn.Layer]:
    conv = convolution(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    return conv, nn.BatchNorm2D(out_channels)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Layer | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(*_conv_norm(in_channels, out_channels, 1, stride=stride))


def _basic(in_channels: int, channels: int, stride: int = 1) -> BasicBlock:
    return BasicBlock(in_channels, channels, stride, (1, 1), _shortcut(in_channels, channels, stride))


def _plain(channels: int) -> Residual:
    """The last basic block of a stage of either branch."""
    body = (*_conv_norm(channels, channels, 3), nn.ReLU(), *_conv_norm(channels, channels, 3))
    return Residual(nn.Sequential(*body), None)


def _bottleneck(channels: int, *, stride: int = 1) -> Residual:
    """1x1, 3x3, 1x1 to twice the channels (not four times, as in ResNet)."""
    body = nn.Sequential(
        *_conv_norm(channels, channels, 1),
        nn.ReLU(),
        *_conv_norm(channels, channels, 3, stride=stride),
        nn.ReLU(),
        *_conv_norm(channels, 2 * channels, 1),
    )
    return Residual(body, _shortcut(channels, 2 * channels, stride))
