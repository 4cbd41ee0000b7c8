"""Weight files of other libraries: read, recognised, and said in this project's names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paddlefcn.errors import WeightsError
from paddlefcn.weights.caffe import read_caffemodel
from paddlefcn.weights.loading import normalize_metadata
from paddlefcn.weights.state import State, first_bytes, read_state_and_metadata, reading
from paddlefcn.weights.torch_file import is_torch, read_torch

FORMATS = ("auto", "torchvision", "timm", "caffe", "pytorch-fcn", "paddle")
OWN = "paddlefcn"

# what each library's networks were trained on; the mean in the order given
IMAGENET = {
    "scale": 255.0,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "order": "RGB",
}
_ONES = [1.0, 1.0, 1.0]
CAFFE_VGG = {"scale": 1.0, "mean": [103.939, 116.779, 123.68], "std": _ONES, "order": "BGR"}
CAFFE_FCN = {"scale": 1.0, "mean": [104.00699, 116.66877, 122.67892], "std": _ONES, "order": "BGR"}
IMAGES = {"imagenet": IMAGENET, "caffe": CAFFE_VGG, "fcn": CAFFE_FCN}

_BATCH_NORM = {
    "weight": "weight",
    "bias": "bias",
    "running_mean": "_mean",
    "running_var": "_variance",
    "_mean": "_mean",
    "_variance": "_variance",
}
_FC_LAYERS = {
    "classifier.0": "fc6",
    "classifier.3": "fc7",
    "pre_logits.fc1": "fc6",
    "pre_logits.fc2": "fc7",
}
_CLASSIFIERS = ("classifier.6", "head.fc", "fc8")
AT_ONCE = {"pool4": 0.01, "pool3": 0.0001}


@dataclass(frozen=True)
class Entry:
    """A tensor of the file under the name of this project's networks."""

    source: str
    name: str
    array: np.ndarray
    note: str = ""  # how it was changed; empty if it was not


@dataclass
class Foreign:
    """A file's tensors in our names (a model's: `backbone.conv1_1.conv.weight`, `fc6.…`)."""

    path: Path
    format: str
    entries: list[Entry]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> State:
        return {entry.name: entry.array for entry in self.entries}

    @property
    def batch_norm(self) -> bool:
        return any(".bn." in entry.name for entry in self.entries)

    @property
    def fcn(self) -> str | None:
        """The published network that the file holds, None for a classifier or a backbone."""
        names = {entry.name.split(".")[0] for entry in self.entries}
        if "score_fr" not in names:
            return None
        if any(entry.name.startswith("backbone.conv1.") for entry in self.entries):
            return "FCNAlexNet"
        if "score_pool3" in names:
            at_once = any(source.startswith("scale_pool") for source, _ in self.skipped)
            return "FCN8sAtOnce" if at_once else "FCN8s"
        return "FCN16s" if "score_pool4" in names else "FCN32s"


def read_foreign(path: Path, format: str = "auto", *, images: str | None = None) -> Foreign:
    """Read a weight file of any supported library, or our own, in our names.

    `format` is one of FORMATS. `images` (a key of IMAGES) replaces what is known of the library's
    preprocessing. Raises WeightsError if the file holds no VGG or AlexNet of that library.
    """
    with reading(path):
        state, container, metadata = _read_any(path, format)
        state = _without_wrapper(state)
        found = _detect(path, container, state)
        if format not in ("auto", found) and not {format, found} <= _SEQUENTIAL:
            raise WeightsError(f"{path}: looks like {found}, not {format}; use --format auto")
        foreign = Foreign(path, found if format == "auto" else format, [], metadata=metadata)
        if found == OWN:
            _translate_own(foreign, state)
        elif found in _SEQUENTIAL:
            _translate_sequential(foreign, state)
        else:
            _translate_named(foreign, state)
        if not foreign.entries:
            raise WeightsError(f"{path}: none of its {len(state)} tensors has a known name")
    if images is not None:
        foreign.metadata.update(normalize_metadata(IMAGES[images]))
    elif found != OWN:
        foreign.metadata.update(normalize_metadata(_trained_on(foreign)))
    return foreign


_SEQUENTIAL = {"torchvision", "timm", "paddle"}


def _trained_on(foreign: Foreign) -> Mapping[str, object]:
    if foreign.format in _SEQUENTIAL:
        return IMAGENET
    alexnet = any(entry.name.startswith("backbone.conv1.") for entry in foreign.entries)
    return CAFFE_FCN if foreign.fcn or foreign.format == "pytorch-fcn" or alexnet else CAFFE_VGG


def _read_any(path: Path, format: str) -> tuple[State, str, dict[str, str]]:
    head = first_bytes(path)
    if path.suffix == ".caffemodel" or format == "caffe":
        return read_caffemodel(path), "caffe", {}
    if is_torch(path, head):
        return read_torch(path), "torch", {}
    if head[257:262] == b"ustar":
        raise WeightsError(f"{path}: PyTorch's tar format of before 0.1.11; save it again with torch")
    state, metadata = read_state_and_metadata(path)
    return state, "pickle" if head[:1] == b"\x80" else "plain", metadata


def _without_wrapper(state: State) -> State:
    """Names without the prefix that data-parallel training leaves."""
    for prefix in ("module.", "_layers."):
        if state and all(name.startswith(prefix) for name in state):
            return {name[len(prefix) :]: array for name, array in state.items()}
    return state


def _detect(path: Path, container: str, state: State) -> str:
    names = list(state)
    if any(re.match(r"(backbone\.)?conv\d(_\d)?\.(conv|bn)\.", name) for name in names):
        return OWN
    if any(name.startswith("pre_logits.") for name in names):
        return "timm"
    if any(re.match(r"features\.\d+\.", name) for name in names):
        buffers = any(name.endswith("._mean") for name in names)
        return "paddle" if buffers or container == "pickle" else "torchvision"
    if any(re.match(r"conv\d(_\d)?\.weight$", name) for name in names):
        return "caffe" if container == "caffe" else "pytorch-fcn"
    shown = ", ".join(names[:3])
    raise WeightsError(f"{path}: no VGG, AlexNet or FCN of a known library (it has {shown}, …)")


# --- our own names -------------------------------------------------------------------------------


def _translate_own(foreign: Foreign, state: State) -> None:
    alone = not any(name.startswith("backbone.") for name in state)
    for name, array in state.items():
        foreign.entries.append(Entry(name, f"backbone.{name}" if alone else name, array))


# --- torchvision, timm, Paddle: layers numbered in a row ---------------------------------------------


def _translate_sequential(foreign: Foreign, state: State) -> None:
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
        elif layer in _CLASSIFIERS:
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
    elif place - 1 in position and kind in _BATCH_NORM:
        target = f"backbone.{position[place - 1]}.bn.{_BATCH_NORM[kind]}"
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
        array = _as_convolution(name, array, _deepest_channels(foreign, state))
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


def _as_convolution(name: str, weight: np.ndarray, channels: int) -> np.ndarray:
    """[out, in] -> [out, channels, k, k] for fc6, [out, in, 1, 1] for fc7."""
    if name == "fc7":
        return weight[:, :, None, None]
    kernel = math.isqrt(weight.shape[1] // max(1, channels))
    if kernel < 1 or channels * kernel * kernel != weight.shape[1]:
        raise WeightsError(f"fc6 sees {weight.shape[1]} values, which is no square of {channels} maps")
    return weight.reshape(weight.shape[0], channels, kernel, kernel)


# --- Caffe, pytorch-fcn: layers by name --------------------------------------------------------------


def _translate_named(foreign: Foreign, state: State) -> None:
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
                reshaped = _as_convolution(layer, array, state[deepest].shape[0])
                array, note = reshaped, f"{list(array.shape)} -> {list(reshaped.shape)}"
            foreign.entries.append(Entry(source, f"{layer}.conv.{kind}", array, note))
        elif re.match(r"score_(fr|pool3|pool4)$|upscore(2|8|16|_pool4)?$", layer):
            name = "upscore32" if layer == "upscore" else layer
            foreign.entries.append(Entry(source, f"{name}.{kind}", array))
        elif layer in ("scale_pool4", "scale_pool3"):
            constant = AT_ONCE[layer[len("scale_") :]]
            _check_scale(source, array, constant)
            foreign.skipped.append((source, f"{constant}, a constant of FCN8sAtOnce"))
        elif layer in _CLASSIFIERS:
            foreign.skipped.append((source, "the classifier's own scores"))
        else:
            foreign.skipped.append((source, "no such layer in VGG, AlexNet or FCN"))


def _check_scale(source: str, array: np.ndarray, constant: float) -> None:
    if not np.allclose(array, constant, rtol=1e-3):
        raise WeightsError(f"{source} is not the constant {constant} of the published network")
