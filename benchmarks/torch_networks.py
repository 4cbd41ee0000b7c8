"""The networks of training.py in PyTorch: the same layers as this library's, for comparison alone."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


def block(inside: int, outside: int, kernel: int = 3, **options: Any) -> nn.Sequential:
    """Convolution without bias, BatchNorm, ReLU."""
    options.setdefault("padding", options.get("dilation", 1) * (kernel // 2))
    convolution = nn.Conv2d(inside, outside, kernel, bias=False, **options)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU(inplace=True))


def separable(inside: int, outside: int, dilation: int = 1) -> nn.Sequential:
    """A depthwise 3x3 and a 1x1 block."""
    return nn.Sequential(
        block(inside, inside, dilation=dilation, groups=inside), block(inside, outside, kernel=1)
    )


def resized(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Bilinear, to another map's size."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


class FCN8s(nn.Module):
    """Padding: same, bilinear upsampling, BatchNorm, pooling that rounds up."""

    def __init__(
        self, arch: tuple[int, ...], widths: tuple[int, ...], fc: int, kernel: int, classes: int
    ) -> None:
        super().__init__()
        stages, inside = [], 3
        for count, width in zip(arch, widths):
            blocks = [block(inside if i == 0 else width, width) for i in range(count)]
            stages.append(nn.Sequential(*blocks, nn.MaxPool2d(2, 2, ceil_mode=True)))
            inside = width
        self.stages, self.drop = nn.ModuleList(stages), nn.Dropout(0.5)
        self.fc6, self.fc7 = block(inside, fc, kernel), block(fc, fc, 1)
        self.score = nn.Conv2d(fc, classes, 1)
        self.score4, self.score3 = nn.Conv2d(widths[3], classes, 1), nn.Conv2d(widths[2], classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        def up(x: torch.Tensor, factor: int) -> torch.Tensor:
            return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)

        maps, x = [], image
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        deep = self.score(self.drop(self.fc7(self.drop(self.fc6(x)))))
        for shallow in (self.score4(maps[3]), self.score3(maps[2])):
            deep = up(deep, 2)[:, :, : shallow.shape[2], : shallow.shape[3]] + shallow
        return up(deep, 8)[:, :, : image.shape[2], : image.shape[3]]


class UNet(nn.Module):
    """The paper's widths, padded convolutions, BatchNorm, 2x2 transposed convolutions upwards."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        widths, inside = (64, 128, 256, 512, 1024), channels
        self.down, self.up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for width in widths:
            self.down.append(nn.Sequential(block(inside, width), block(width, width)))
            inside = width
        for width in widths[-2::-1]:
            self.up.append(nn.ConvTranspose2d(2 * width, width, 2, stride=2))
            self.join.append(nn.Sequential(block(2 * width, width), block(width, width)))
        self.drop, self.score = nn.Dropout(0.5), nn.Conv2d(widths[0], classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        maps = [self.down[0](image)]
        for stage in self.down[1:]:
            maps.append(stage(F.max_pool2d(maps[-1], 2, 2, ceil_mode=True)))
        x = self.drop(maps.pop())
        for up, join in zip(self.up, self.join):
            skip = maps.pop()
            x = join(torch.cat([skip, up(x)[:, :, : skip.shape[2], : skip.shape[3]]], dim=1))
        return self.score(x)


class Bottleneck(nn.Module):
    """1x1 (with the stride), 3x3, 1x1 to four times the channels."""

    def __init__(self, inside: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.first, self.second = (
            block(inside, width, 1, stride=stride),
            block(width, width, dilation=dilation),
        )
        self.third = block(width, 4 * width, 1)[:2]
        shortcut = block(inside, 4 * width, 1, stride=stride)[:2]
        self.shortcut = shortcut if stride > 1 or inside != 4 * width else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.third(self.second(self.first(x))) + self.shortcut(x))


class DeepLabV3Plus(nn.Module):
    """On ResNet-50 with output stride 16; separable convolutions in pyramid and decoder."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem, inside = block(3, 64, 7, stride=2), 64
        stages = []
        for depth, width, stride, dilation in ((3, 64, 1, 1), (4, 128, 2, 1), (6, 256, 2, 1), (3, 512, 1, 2)):
            blocks = []
            for number in range(depth):
                blocks.append(Bottleneck(inside, width, stride if number == 0 else 1, dilation))
                inside = 4 * width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        branches = [block(inside, 256, 1), *(separable(inside, 256, rate) for rate in (6, 12, 18))]
        self.branches, self.mean = nn.ModuleList(branches), block(inside, 256, 1)
        self.project, self.drop = block(5 * 256, 256, 1), nn.Dropout(0.1)
        self.reduce = block(256, 48, 1)
        self.decoder = nn.Sequential(separable(256 + 48, 256), separable(256, 256))
        self.score = nn.Conv2d(256, classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x, maps = F.max_pool2d(self.stem(image), 3, 2, padding=1), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        mean = self.mean(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        x = self.drop(self.project(torch.cat([*(branch(x) for branch in self.branches), mean], dim=1)))
        x = self.decoder(torch.cat([resized(x, maps[0]), self.reduce(maps[0])], dim=1))
        return resized(self.score(x), image)


NETWORKS = {"FCN8s": FCN8s, "UNet": UNet, "DeepLabV3Plus": DeepLabV3Plus}
