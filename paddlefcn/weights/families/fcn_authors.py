"""Caffe's VGG, AlexNet and FCN, and pytorch-fcn's: layers by the names of the authors."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from paddlefcn.errors import WeightsError
from paddlefcn.weights.entries import CLASSIFIERS, Entry, Foreign, as_convolution
from paddlefcn.weights.state import State

FORMATS = ("caffe", "pytorch-fcn")
_ONES = [1.0, 1.0, 1.0]
CAFFE_VGG = {"scale": 1.0, "mean": [103.939, 116.779, 123.68], "std": _ONES, "order": "BGR"}
CAFFE_FCN = {"scale": 1.0, "mean": [104.00699, 116.66877, 122.67892], "std": _ONES, "order": "BGR"}
AT_ONCE = {"pool4": 0.01, "pool3": 0.0001}


def detect(container: str, state: State, metadata: Mapping[str, str]) -> str | None:
    """The format, if layers have the authors' names."""
    if any(re.match(r"conv\d(_\d)?\.weight$", name) for name in state) and not any(
        name.startswith("layer1.") for name in state
    ):
        return "caffe" if container == "caffe" else "pytorch-fcn"
    return None


def images(foreign: Foreign) -> Mapping[str, object] | None:
    """The FCN authors took another mean than VGG's."""
    alexnet = any(entry.name.startswith("backbone.conv1.") for entry in foreign.entries)
    return CAFFE_FCN if foreign.fcn or foreign.format == "pytorch-fcn" or alexnet else CAFFE_VGG


def translate(foreign: Foreign, state: State) -> None:
    """Layers by name; the constants of the network trained at once are checked and left out."""
    deepest = max(name for name in state if re.match(r"conv\d(_\d)?\.weight$", name))
    for source, array in state.items():
        layer, _, kind = source.rpartition(".")
        if kind not in ("weight", "bias"):
            foreign.skipped.append((source, "no such tensor in this network"))
        elif re.match(r"conv\d(_\d)?$", layer):
            foreign.entries.append(Entry(source, f"backbone.{layer}.conv.{kind}", array))
        elif layer in ("fc6", "fc7"):
            note = ""
            if kind == "weight" and array.ndim == 2:
                reshaped = as_convolution(layer, array, state[deepest].shape[0])
                array, note = reshaped, f"{list(array.shape)} -> {list(reshaped.shape)}"
            foreign.entries.append(Entry(source, f"{layer}.conv.{kind}", array, note))
        elif re.match(r"score_(fr|pool3|pool4)$|upscore(2|8|16|_pool4)?$", layer):
            name = "upscore32" if layer == "upscore" else layer
            foreign.entries.append(Entry(source, f"{name}.{kind}", array))
        elif layer in ("scale_pool4", "scale_pool3"):
            constant = AT_ONCE[layer[len("scale_") :]]
            _check_scale(source, array, constant)
            foreign.skipped.append((source, f"{constant}, a constant of FCN8sAtOnce"))
        elif layer in CLASSIFIERS:
            foreign.skipped.append((source, "the classifier's own scores"))
        else:
            foreign.skipped.append((source, "no such layer in VGG, AlexNet or FCN"))


def _check_scale(source: str, array: np.ndarray, constant: float) -> None:
    if not np.allclose(array, constant, rtol=1e-3):
        raise WeightsError(f"{source} is not the constant {constant} of the published network")
