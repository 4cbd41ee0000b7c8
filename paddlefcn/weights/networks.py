"""The network that a foreign file was made for, built from what the file itself shows."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from paddlefcn.errors import WeightsError
from paddlefcn.weights.entries import Entry, Foreign, Network

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
    if foreign.network is not None:
        return _chosen(foreign, foreign.network, model)
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


def _chosen(foreign: Foreign, found: Network, model: str | None) -> Network:
    """What the family found, or the part of it that is asked for."""
    from paddlefcn.models import MODELS

    if model in (None, found.model) or (found.model is None and model == found.backbone["type"]):
        return found
    if model == found.backbone["type"]:
        return Network(None, found.backbone, {}, 0, found.in_channels)
    if found.model is None and model in MODELS:
        return Network(model, found.backbone, {}, 21, found.in_channels)
    raise WeightsError(f"{foreign.path}: holds a {found.model or found.backbone['type']}, not a {model}")


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
    try:
        return vgg_section(shapes)
    except WeightsError as error:
        raise WeightsError(f"{foreign.path}: {error}") from error


def vgg_section(shapes: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The `backbone` section of a VGG that has these shapes under our names, and its input channels."""
    counts, widths = [0] * 5, [0] * 5
    for name, shape in shapes.items():
        match = re.match(r"backbone\.conv([1-5])_(\d+)\.conv\.weight$", name)
        if match:
            stage = int(match[1]) - 1
            counts[stage] = max(counts[stage], int(match[2]))
            widths[stage] = shape[0]
    if 0 in counts:
        raise WeightsError(f"holds no VGG of five stages (it has {counts})")
    kind = vgg_name(counts)
    backbone: dict[str, Any] = {"type": kind, "batch_norm": any(".bn." in name for name in shapes)}
    if kind == "VGG":
        backbone["arch"] = counts
    if widths == [widths[0] * factor for factor in _WIDTH_FACTORS]:
        if widths[0] != 64:
            backbone["width"] = widths[0]
    else:
        backbone["widths"] = widths
    return backbone, shapes["backbone.conv1_1.conv.weight"][1]


# what may differ between the network that weights were trained in and the one that they go into
FREE = (
    "auxiliary",
    "average",
    "deep_supervision",
    "dilate_first",
    "dropout",
    "level",
    "multi_grid",
    "output_stride",
    "pretrained",
    "rates",
    "type",
)


def check_made_for(made: Mapping[str, Any], section: Mapping[str, Any], *, what: str) -> list[str]:
    """What weights were made for against the `model` section that they go into, both complete or not.

    Returns the differences that a network survives, one note each. Raises WeightsError for one that gives
    other numbers without changing a shape, such as the place of a ResNet's strides.
    """
    from paddlefcn.backbones import BACKBONES
    from paddlefcn.models import MODELS

    notes: list[str] = []
    pairs = [("model.backbone", BACKBONES, made["backbone"], section["backbone"])]
    if "type" in made and made["type"] == section.get("type"):
        pairs.append(("model", MODELS, made, section))
    for where, table, theirs, ours in pairs:
        if ours["type"] not in table or theirs["type"] != ours["type"]:
            continue
        defaults = inspect.signature(table[ours["type"]]).parameters
        for key, value in theirs.items():
            if key == "backbone" or key not in defaults:
                continue
            have = ours.get(key, defaults[key].default)
            same = (
                list(have) == list(value) if isinstance(value, list) and have is not None else have == value
            )
            if same:
                continue
            if key not in FREE:
                raise WeightsError(
                    f"{what}: its network has {where}.{key}: {_yaml(value)}, the recipe {_yaml(have)}; "
                    f"set {where}.{key}: {_yaml(value)}"
                )
            if key in ("output_stride", "dilate_first", "rates"):
                notes.append(
                    f"{what} was made with {where}.{key} {_yaml(value)}; the recipe has {_yaml(have)}"
                )
    return notes


def _yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


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
