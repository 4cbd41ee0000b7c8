"""Backbones by name. A new one: one file that declares what stands below, and a table line.

``channels``, ``strides``: of the maps that ``forward(image) -> list[Tensor]`` gives, finest first;
``batch_norm``: whether heads should use it too; ``padding``: ``same`` or ``reference``;
``output_sizes(size)``: heights (or widths) of the maps for an image of that height (or width).
"""

from __future__ import annotations

from typing import Any

from paddlefcn.backbones.alexnet import AlexNet
from paddlefcn.backbones.vgg import VGG, VGG11, VGG13, VGG16, VGG19

BACKBONES: dict[str, Any] = {
    "VGG": VGG,
    "VGG11": VGG11,
    "VGG13": VGG13,
    "VGG16": VGG16,
    "VGG19": VGG19,
    "AlexNet": AlexNet,
}

__all__ = ["BACKBONES", "VGG", "VGG11", "VGG13", "VGG16", "VGG19", "AlexNet"]
