"""VGG as torchvision, timm and Paddle keep it: layers numbered in a row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from paddlefcn.errors import WeightsError
from paddlefcn.weights.entries import BATCH_NORM, CLASSIFIERS, IMAGENET, Entry, Foreign, as_convolution
from paddlefcn.weights.state import State

FORMATS = ("torchvision", "timm", "paddle")
_FC_LAYERS = {
    "classifier.0": "fc6",
    "classifier.3": "fc7",
    "pre_logits.fc1": "fc6",
    "pre_logits.fc2": "fc7",
}


def detect(container: str, state: State, metadata: Mapping[str, str]) -> str | None:
    """Whose row of layers it is, if it is one."""
    if any(name.startswith("pre_logits.") for name in state):
        return "timm"
    if any(re.match(r"features\.\d+\.(weight|bias|running_mean|_mean)$", name) for name in state):
        buffers = any(name.endswith("._mean") for name in state)
        return "paddle" if buffers or container == "pickle" else "torchvision"
    return None


def images(foreign: Foreign) -> Mapping[str, object] | None:
    """All three were trained on equal images."""
    return IMAGENET


def translate(foreign: Foreign, state: State) -> None:
    """Convolutions by their place in the row; fully connected layers as the convolutions they are."""
    convolutions = _numbered(state)
    normed = f"features.{convolutions[0] + 1}.weight" in state
    position = dict(zip(convolutions, stage_names(convolutions, 3 if normed else 2)))
    for source, array in state.items():
        layer, _, kind = source.rpartition(".")
        if kind == "num_batches_tracked":
            foreign.skipped.append((source, "a counter without use here"))
        elif layer.startswith("features."):
            _feature(foreign, source, array, position)
        elif layer in _FC_LAYERS:
            _fc(foreign, source, _FC_LAYERS[layer], kind, array, state)
        elif layer in CLASSIFIERS:
            foreign.skipped.append((source, "the classifier's own scores"))
        else:
            foreign.skipped.append((source, "no such layer in VGG"))


def _numbered(state: State) -> list[int]:
    found = [re.match(r"features\.(\d+)\.weight$", name) for name in state]
    numbers = [int(match.group(1)) for match in found if match and state[match.group(0)].ndim == 4]
    if not numbers:
        raise WeightsError("it has features.N, but no convolutions among them")
    return sorted(numbers)


def stage_names(numbers: Sequence[int], step: int) -> list[str]:
    """conv1_1, conv1_2, conv2_1, … for the places of VGG's convolutions in its row of layers.

    Two of a stage stand `step` places apart: convolution, BatchNorm if there is one, ReLU. Between
    stages stands a pooling layer too.
    """
    names, stage, number = ["conv1_1"], 1, 1
    for index in range(1, len(numbers)):
        near = numbers[index] - numbers[index - 1] == step
        stage, number = (stage, number + 1) if near else (stage + 1, 1)
        names.append(f"conv{stage}_{number}")
    return names


def _feature(foreign: Foreign, source: str, array: np.ndarray, position: Mapping[int, str]) -> None:
    _, number, kind = source.split(".")
    place = int(number)
    if place in position and kind in ("weight", "bias"):
        target = f"backbone.{position[place]}.conv.{kind}"
    elif place - 1 in position and kind in BATCH_NORM:
        target = f"backbone.{position[place - 1]}.bn.{BATCH_NORM[kind]}"
    else:
        foreign.skipped.append((source, "no such layer in VGG"))
        return
    foreign.entries.append(Entry(source, target, array))


def _fc(foreign: Foreign, source: str, name: str, kind: str, array: np.ndarray, state: State) -> None:
    """A fully connected layer as the convolution it is."""
    target, note = f"{name}.conv.{kind}", ""
    if kind == "weight" and array.ndim == 2:
        shape = list(array.shape)
        if _is_transposed(foreign, state):
            array = array.T
        array = as_convolution(name, array, _deepest_channels(foreign, state))
        note = f"{shape} -> {list(array.shape)}"
    foreign.entries.append(Entry(source, target, array, note))


def _is_transposed(foreign: Foreign, state: State) -> bool:
    """Whether linear layers are [in, out], as Paddle keeps them; seen on fc6, which is not square."""
    weight, bias = state.get("classifier.0.weight"), state.get("classifier.0.bias")
    if weight is None or bias is None or weight.shape[0] == weight.shape[1]:
        return foreign.format == "paddle"
    return weight.shape[1] == bias.shape[0]


def _deepest_channels(foreign: Foreign, state: State) -> int:
    convolutions = _numbered(state)
    return state[f"features.{convolutions[-1]}.weight"].shape[0]
