"""Backbones by name. A new one: one file with a subclass of `Backbone`, and a table line."""

from __future__ import annotations

from paddlefcn.backbones.alexnet import AlexNet
from paddlefcn.backbones.base import Backbone, FeatureMap
from paddlefcn.backbones.vgg import VGG, VGG11, VGG13, VGG16, VGG19

BACKBONES: dict[str, type[Backbone]] = {
    "VGG": VGG,
    "VGG11": VGG11,
    "VGG13": VGG13,
    "VGG16": VGG16,
    "VGG19": VGG19,
    "AlexNet": AlexNet,
}

__all__ = ["BACKBONES", "VGG", "VGG11", "VGG13", "VGG16", "VGG19", "AlexNet", "Backbone", "FeatureMap"]
