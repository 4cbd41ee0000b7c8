"""Models by name. A new one: one file with a subclass of `SegmentationModel`, and a line in the table."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from paddlefcn.models.base import SegmentationModel
from paddlefcn.models.fcn import FCN8s, FCN8sAtOnce, FCN16s, FCN32s
from paddlefcn.models.published_fcn import (
    FCNAlexNet,
    PublishedFCN8s,
    PublishedFCN8sAtOnce,
    PublishedFCN16s,
    PublishedFCN32s,
    published,
)

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
}

Arguments = dict[str, Any]


def resolve(
    name: str, arguments: Mapping[str, Any], backbone: Mapping[str, Any]
) -> tuple[str, Arguments, Arguments]:
    """What a `model` section means: the model's name, its arguments, and those of its backbone.

    `padding: reference` names the published network; what a model needs its backbone to be is added to the
    backbone's arguments; a backbone with `batch_norm: false` means the model's own layers too. Raises
    ValueError for what contradicts the model.
    """
    name, arguments = published(name, arguments)
    if name not in MODELS:
        return name, arguments, dict(backbone)
    for key, needed in MODELS[name].backbone_arguments.items():
        if backbone.get(key, needed) != needed:
            raise ValueError(
                f"backbone.{key}: got {backbone[key]!r}, but {name} stands on one with {needed!r}"
            )
    takes_norm = "batch_norm" in inspect.signature(MODELS[name]).parameters
    if backbone.get("batch_norm") is False and takes_norm:
        arguments.setdefault("batch_norm", False)
    return name, arguments, {**MODELS[name].backbone_arguments, **backbone}


__all__ = [
    "MODELS",
    "FCN8s",
    "FCN8sAtOnce",
    "FCN16s",
    "FCN32s",
    "FCNAlexNet",
    "PublishedFCN8s",
    "PublishedFCN8sAtOnce",
    "PublishedFCN16s",
    "PublishedFCN32s",
    "SegmentationModel",
    "resolve",
]
