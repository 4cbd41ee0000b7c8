"""Semantic segmentation with fully convolutional networks in PaddlePaddle.

``from paddlefcn import FCN8s, VGG16`` works and imports paddle only then, with the threads and the quiet logs
of `runtime.prepare` if nobody has imported it before.
"""

from __future__ import annotations

import importlib
from typing import Any

from paddlefcn.version import __version__

# name -> the module it comes from; resolved on first use, so that `--help` stays free of paddle
_LAZY = {
    "FCN8s": "paddlefcn.models",
    "FCN16s": "paddlefcn.models",
    "FCN32s": "paddlefcn.models",
    "FCN8sAtOnce": "paddlefcn.models",
    "PublishedFCN8s": "paddlefcn.models",
    "PublishedFCN8sAtOnce": "paddlefcn.models",
    "PublishedFCN16s": "paddlefcn.models",
    "PublishedFCN32s": "paddlefcn.models",
    "FCNAlexNet": "paddlefcn.models",
    "AlexNet": "paddlefcn.backbones",
    "VGG": "paddlefcn.backbones",
    "VGG11": "paddlefcn.backbones",
    "VGG13": "paddlefcn.backbones",
    "VGG16": "paddlefcn.backbones",
    "VGG19": "paddlefcn.backbones",
    "ResNet18": "paddlefcn.backbones",
    "ResNet34": "paddlefcn.backbones",
    "ResNet50": "paddlefcn.backbones",
    "ResNet101": "paddlefcn.backbones",
    "ResNet18_vd": "paddlefcn.backbones",
    "ResNet34_vd": "paddlefcn.backbones",
    "ResNet50_vd": "paddlefcn.backbones",
    "ResNet101_vd": "paddlefcn.backbones",
    "MobileNetV2": "paddlefcn.backbones",
    "MobileNetV3Small": "paddlefcn.backbones",
    "MobileNetV3Large": "paddlefcn.backbones",
    "Xception65": "paddlefcn.backbones",
    "BackboneUNet": "paddlefcn.models",
    "BackboneUNetPlusPlus": "paddlefcn.models",
    "DDRNet": "paddlefcn.models",
    "DDRNet23": "paddlefcn.backbones",
    "DDRNet23Slim": "paddlefcn.backbones",
    "DeepLabV1": "paddlefcn.models",
    "DeepLabV2": "paddlefcn.models",
    "DeepLabV3": "paddlefcn.models",
    "DeepLabVGG16": "paddlefcn.backbones",
    "LightRefineNet": "paddlefcn.models",
    "RefineNet": "paddlefcn.models",
    "DeepLabV3Plus": "paddlefcn.models",
    "FCNHead": "paddlefcn.models",
    "LRASPP": "paddlefcn.models",
    "PSPNet": "paddlefcn.models",
    "SegNet": "paddlefcn.models",
    "UNet": "paddlefcn.models",
    "UNetPlusPlus": "paddlefcn.models",
    "UNetEncoder": "paddlefcn.backbones",
    "ConfusionMatrix": "paddlefcn.metrics",
    "CrossEntropy": "paddlefcn.losses",
    "Run": "paddlefcn.training",
    "Classes": "paddlefcn.classes",
    "Predictor": "paddlefcn.deploy.predictor",
    "Preprocess": "paddlefcn.preprocess",
    "export": "paddlefcn.deploy.export",
    "infer": "paddlefcn.deploy.predict",
    "predict": "paddlefcn.deploy.predict",
    "evaluate": "paddlefcn.evaluation",
    "load_config": "paddlefcn.config",
    "show": "paddlefcn.visualize",
    "train": "paddlefcn.training",
}
__all__ = ["__version__", *sorted(_LAZY)]
# those that import it; a Predictor on another runtime does without
_WITH_PADDLE = ("backbones", "deploy.export", "evaluation", "losses", "models", "training")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        if _LAZY[name].removeprefix("paddlefcn.") in _WITH_PADDLE:
            # threads are counted when paddle is imported: afterwards it is too late for them
            from paddlefcn import runtime

            runtime.prepare()
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'paddlefcn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
