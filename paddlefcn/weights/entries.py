"""What a foreign file holds, said in this project's names."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paddlefcn.errors import WeightsError
from paddlefcn.weights.state import State

# how images were normalised: what ImageNet's classifiers of most libraries were trained on
IMAGENET = {
    "scale": 255.0,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "order": "RGB",
}
# BatchNorm's tensors as PyTorch and as Paddle name them
BATCH_NORM = {
    "weight": "weight",
    "bias": "bias",
    "running_mean": "_mean",
    "running_var": "_variance",
    "_mean": "_mean",
    "_variance": "_variance",
}
# the scores of an ImageNet classifier
CLASSIFIERS = ("classifier.6", "head.fc", "fc8")


@dataclass(frozen=True)
class Entry:
    """A tensor of the file under the name of this project's networks."""

    source: str
    name: str
    array: np.ndarray
    note: str = ""  # how it was changed; empty if it was not


@dataclass(frozen=True)
class Network:
    """A network as a config's `model` section would give it; without `model`, a backbone alone."""

    model: str | None
    backbone: dict[str, Any]
    arguments: dict[str, Any]
    num_classes: int
    in_channels: int

    def config(self) -> dict[str, Any]:
        """The `model` section of a config that builds it."""
        return {"type": self.model or "FCN8s", "backbone": self.backbone, **self.arguments}


@dataclass
class Foreign:
    """A file's tensors in our names (a model's: `backbone.conv1_1.conv.weight`, `fc6.…`)."""

    path: Path
    format: str
    entries: list[Entry]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    network: Network | None = None  # of families that find it while they translate
    assumed: list[str] = field(default_factory=list)  # library's defaults where the file cannot say

    @property
    def state(self) -> State:
        """The arrays by their names in the file."""
        return {entry.name: entry.array for entry in self.entries}

    @property
    def batch_norm(self) -> bool:
        """Whether the network has BatchNorm."""
        return any(".bn." in entry.name for entry in self.entries)

    @property
    def segments(self) -> bool:
        """Whether there are score layers in it."""
        return self.fcn is not None or (self.network is not None and self.network.model is not None)

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


def as_convolution(name: str, weight: np.ndarray, channels: int) -> np.ndarray:
    """[out, in] -> [out, channels, k, k] for fc6, [out, in, 1, 1] for fc7."""
    if name == "fc7":
        return weight[:, :, None, None]
    kernel = math.isqrt(weight.shape[1] // max(1, channels))
    if kernel < 1 or channels * kernel * kernel != weight.shape[1]:
        raise WeightsError(f"fc6 sees {weight.shape[1]} values, which is no square of {channels} maps")
    return weight.reshape(weight.shape[0], channels, kernel, kernel)
