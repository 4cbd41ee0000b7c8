"""Models by name. A new one: one file with a subclass of `SegmentationModel`, and a line in the table."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from paddlefcn.backbones import BACKBONES
from paddlefcn.models.backbone_unet import BackboneUNet, BackboneUNetPlusPlus
from paddlefcn.models.base import SegmentationModel
from paddlefcn.models.ddrnet import DDRNet
from paddlefcn.models.deeplabv1 import DeepLabV1
from paddlefcn.models.deeplabv2 import DeepLabV2
from paddlefcn.models.deeplabv3 import DeepLabV3
from paddlefcn.models.deeplabv3plus import DeepLabV3Plus
from paddlefcn.models.fcn import FCN8s, FCN8sAtOnce, FCN16s, FCN32s
from paddlefcn.models.fcn_head import FCNHead
from paddlefcn.models.lraspp import LRASPP
from paddlefcn.models.pspnet import PSPNet
from paddlefcn.models.published_fcn import (
    FCNAlexNet,
    PublishedFCN8s,
    PublishedFCN8sAtOnce,
    PublishedFCN16s,
    PublishedFCN32s,
    published,
)
from paddlefcn.models.refinenet import LightRefineNet, RefineNet
from paddlefcn.models.segnet import SegNet
from paddlefcn.models.unet import UNet
from paddlefcn.models.unet_plusplus import UNetPlusPlus

MODELS: dict[str, type[SegmentationModel]] = {
    "FCN32s": FCN32s,
    "FCN16s": FCN16s,
    "FCN8s": FCN8s,
    "FCN8sAtOnce": FCN8sAtOnce,
    "PublishedFCN32s": PublishedFCN32s,
    "PublishedFCN16s": PublishedFCN16s,
    "PublishedFCN8s": PublishedFCN8s,
    "PublishedFCN8sAtOnce": PublishedFCN8sAtOnce,
    "FCNAlexNet": FCNAlexNet,
    "BackboneUNet": BackboneUNet,
    "BackboneUNetPlusPlus": BackboneUNetPlusPlus,
    "DDRNet": DDRNet,
    "DeepLabV1": DeepLabV1,
    "DeepLabV2": DeepLabV2,
    "DeepLabV3": DeepLabV3,
    "DeepLabV3Plus": DeepLabV3Plus,
    "FCNHead": FCNHead,
    "LRASPP": LRASPP,
    "LightRefineNet": LightRefineNet,
    "PSPNet": PSPNet,
    "RefineNet": RefineNet,
    "SegNet": SegNet,
    "UNet": UNet,
    "UNetPlusPlus": UNetPlusPlus,
}

Arguments = dict[str, Any]


def resolve(
    name: str, arguments: Mapping[str, Any], kind: str, backbone: Mapping[str, Any]
) -> tuple[str, Arguments, Arguments]:
    """What a `model` section means: the model's name, its arguments, and those of its backbone.

    `kind`: the backbone's name. `padding: reference` names the published network; what a model needs its
    backbone to be, and what its paper builds it with, is added to the backbone's arguments; a backbone with
    `batch_norm: false` means the model's own layers too. Raises ValueError for what contradicts the model.
    """
    name, arguments = published(name, arguments)
    if name not in MODELS or kind not in BACKBONES:
        return name, arguments, dict(backbone)
    model, takes = MODELS[name], inspect.signature(BACKBONES[kind]).parameters
    for key, needed in model.backbone_arguments.items():
        if backbone.get(key, needed) != needed:
            raise ValueError(
                f"backbone.{key}: got {backbone[key]!r}, but {name} stands on one with {needed!r}"
            )
    defaults = {
        key: value
        for key, value in model.backbone_defaults.items()
        if key in takes and (key == "output_stride" or kind == model.default_backbone)
    }
    takes_norm = "batch_norm" in inspect.signature(model).parameters
    if backbone.get("batch_norm") is False and takes_norm:
        arguments.setdefault("batch_norm", False)
    return name, arguments, {**defaults, **model.backbone_arguments, **backbone}


__all__ = [
    "LRASPP",
    "MODELS",
    "BackboneUNet",
    "BackboneUNetPlusPlus",
    "DDRNet",
    "DeepLabV1",
    "DeepLabV2",
    "DeepLabV3",
    "DeepLabV3Plus",
    "FCN8s",
    "FCN8sAtOnce",
    "FCN16s",
    "FCN32s",
    "FCNAlexNet",
    "FCNHead",
    "LightRefineNet",
    "PSPNet",
    "PublishedFCN8s",
    "PublishedFCN8sAtOnce",
    "PublishedFCN16s",
    "PublishedFCN32s",
    "RefineNet",
    "SegNet",
    "SegmentationModel",
    "UNet",
    "UNetPlusPlus",
    "resolve",
]
