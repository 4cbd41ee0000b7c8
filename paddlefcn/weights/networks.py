"""The network that a foreign file was made for, built from what the file itself shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paddlefcn.errors import WeightsError
from paddlefcn.weights.foreign import Entry, Foreign

_NAMED: dict[tuple[int, ...], str] = {
    (1, 1, 2, 2, 2): "VGG11",
    (2, 2, 2, 2, 2): "VGG13",
    (2, 2, 3, 3, 3): "VGG16",
    (2, 2, 4, 4, 4): "VGG19",
}
_WIDTH_FACTORS = (1, 2, 4, 8, 8)


def vgg_name(arch: Sequence[int]) -> str:
    """VGG16 for (2, 2, 3, 3, 3), …; VGG for one without a name of its own."""
    return _NAMED.get(tuple(arch), "VGG")


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


def describe(foreign: Foreign, entries: list[Entry], model: str | None) -> Network:
    """What the file's tensors say: stages, widths, BatchNorm, classes, fc6 and fc7.

    `model`: the name of a model or backbone, None to take what the file holds. Raises
    WeightsError if the name and the file cannot be brought together.
    """
    from paddlefcn.backbones import BACKBONES
    from paddlefcn.models import MODELS

    if model is not None and model not in MODELS and model not in BACKBONES:
        import difflib

        names = [*MODELS, *BACKBONES]
        near = difflib.get_close_matches(model, names, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise WeightsError(f"--model {model!r}: expected one of {', '.join(names)}{hint}")
    shapes = {entry.name: entry.array.shape for entry in entries}
    backbone, in_channels = _backbone(foreign, shapes)
    alone = model in BACKBONES or (model is None and foreign.fcn is None)
    if alone:
        _check_backbone(foreign, model, backbone["type"])
        return Network(None, backbone, {}, 0, in_channels)
    name = model or foreign.fcn
    arguments: dict[str, Any] = {}
    alexnet = backbone["type"] == "AlexNet"
    if alexnet != (name == "FCNAlexNet"):
        raise WeightsError(f"{foreign.path}: holds a {backbone['type']}, which is not what {name} stands on")
    if "fc6.conv.weight" in shapes:
        arguments["fc_channels"] = shapes["fc6.conv.weight"][0]
        if not alexnet:
            arguments["fc6_kernel"] = shapes["fc6.conv.weight"][2]
    # the authors' files and pytorch-fcn's hold the published network; a classifier can be either
    if foreign.fcn is not None and foreign.format in ("caffe", "pytorch-fcn") and not alexnet:
        arguments["padding"] = "reference"
        arguments.pop("fc6_kernel", None)
    num_classes = shapes["score_fr.weight"][0] if "score_fr.weight" in shapes else 21
    return Network(name, backbone, arguments, num_classes, in_channels)


def _check_backbone(foreign: Foreign, model: str | None, found: str) -> None:
    """A named backbone must be the file's; `VGG` stands for any."""
    if model in (None, found, "VGG") and (model != "VGG" or found.startswith("VGG")):
        return
    raise WeightsError(f"{foreign.path}: holds a {found}, not a {model}")


def _backbone(foreign: Foreign, shapes: dict[str, Any]) -> tuple[dict[str, Any], int]:
    first = shapes.get("backbone.conv1.conv.weight")
    if first is not None:
        widths = [shapes.get(f"backbone.conv{n}.conv.weight", (0,))[0] for n in range(1, 6)]
        standard = {} if widths == [96, 256, 384, 384, 256] else {"widths": widths}
        return {"type": "AlexNet", **standard}, first[1]
    counts, widths = [0] * 5, [0] * 5
    for name, shape in shapes.items():
        match = re.match(r"backbone\.conv([1-5])_(\d+)\.conv\.weight$", name)
        if match:
            stage = int(match[1]) - 1
            counts[stage] = max(counts[stage], int(match[2]))
            widths[stage] = shape[0]
    if 0 in counts:
        raise WeightsError(f"{foreign.path}: holds no VGG of five stages (it has {counts})")
    kind = vgg_name(counts)
    backbone: dict[str, Any] = {"type": kind, "batch_norm": foreign.batch_norm}
    if kind == "VGG":
        backbone["arch"] = counts
    if widths == [widths[0] * factor for factor in _WIDTH_FACTORS]:
        if widths[0] != 64:
            backbone["width"] = widths[0]
    else:
        backbone["widths"] = widths
    return backbone, shapes["backbone.conv1_1.conv.weight"][1]


def build(network: Network) -> Any:
    """The paddle layer, model or backbone, with its start values."""
    from paddlefcn.backbones import BACKBONES
    from paddlefcn.models import MODELS, resolve

    own = {key: value for key, value in network.backbone.items() if key != "type"}
    make_backbone = BACKBONES[network.backbone["type"]]
    try:
        if network.model is None:
            return make_backbone(in_channels=network.in_channels, **own)
        name, arguments, own = resolve(network.model, network.arguments, network.backbone["type"], own)
        backbone = make_backbone(in_channels=network.in_channels, **own)
        return MODELS[name](backbone, num_classes=network.num_classes, **arguments)
    except ValueError as error:
        raise WeightsError(f"{network.model}: {error}") from error
