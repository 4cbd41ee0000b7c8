"""Backbones by name. A new one: one file with a subclass of `Backbone`, and a table line."""

from __future__ import annotations

from paddlefcn.backbones.alexnet import AlexNet
from paddlefcn.backbones.base import Backbone, FeatureMap
from paddlefcn.backbones.ddrnet import DDRNet23, DDRNet23Slim
from paddlefcn.backbones.deeplab_vgg import DeepLabVGG16
from paddlefcn.backbones.mobilenet import MobileNetV2, MobileNetV3Large, MobileNetV3Small
from paddlefcn.backbones.resnet import (
    ResNet18,
    ResNet18_vd,
    ResNet34,
    ResNet34_vd,
    ResNet50,
    ResNet50_vd,
    ResNet101,
    ResNet101_vd,
)
from paddlefcn.backbones.unet_encoder import UNetEncoder
from paddlefcn.backbones.vgg import VGG, VGG11, VGG13, VGG16, VGG19
from paddlefcn.backbones.xception import Xception65

BACKBONES: dict[str, type[Backbone]] = {
    "VGG": VGG,
    "VGG11": VGG11,
    "VGG13": VGG13,
    "VGG16": VGG16,
    "VGG19": VGG19,
    "AlexNet": AlexNet,
    "ResNet18": ResNet18,
    "ResNet34": ResNet34,
    "ResNet50": ResNet50,
    "ResNet101": ResNet101,
    "ResNet18_vd": ResNet18_vd,
    "ResNet34_vd": ResNet34_vd,
    "ResNet50_vd": ResNet50_vd,
    "ResNet101_vd": ResNet101_vd,
    "MobileNetV2": MobileNetV2,
    "MobileNetV3Small": MobileNetV3Small,
    "MobileNetV3Large": MobileNetV3Large,
    "Xception65": Xception65,
    "UNetEncoder": UNetEncoder,
    "DDRNet23": DDRNet23,
    "DDRNet23Slim": DDRNet23Slim,
    "DeepLabVGG16": DeepLabVGG16,
}

__all__ = [
    "BACKBONES",
    "VGG",
    "VGG11",
    "VGG13",
    "VGG16",
    "VGG19",
    "AlexNet",
    "Backbone",
    "DDRNet23",
    "DDRNet23Slim",
    "DeepLabVGG16",
    "FeatureMap",
    "MobileNetV2",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "ResNet18",
    "ResNet18_vd",
    "ResNet34",
    "ResNet34_vd",
    "ResNet50",
    "ResNet50_vd",
    "ResNet101",
    "ResNet101_vd",
    "UNetEncoder",
    "Xception65",
]
