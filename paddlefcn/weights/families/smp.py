"""segmentation_models.pytorch's Unet, UnetPlusPlus, PSPNet and DeepLabV3Plus on its ResNet encoders.

What its networks do otherwise than the papers becomes arguments; channels that it concatenates in another
order are put into ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from paddlefcn.errors import WeightsError
from paddlefcn.weights.entries import BATCH_NORM, IMAGENET, Entry, Foreign, Network
from paddlefcn.weights.families.torchvision_nets import backbone_section
from paddlefcn.weights.state import State

FORMATS = ("smp",)
_PAIR = {r"\.conv([12])\.0\.": r".conv\1.conv.", r"\.conv([12])\.1\.": r".conv\1.bn."}
_ASPP = r"^decoder\.aspp\.0\.convs\."
_HEADS: dict[str, dict[str, str]] = {
    "BackboneUNet": {r"^decoder\.blocks\.(\d)\.": r"steps.\1.", **_PAIR},
    "BackboneUNetPlusPlus": _PAIR,
    "PSPNet": {
        r"^decoder\.psp\.blocks\.(\d)\.pool\.1\.0\.": r"pyramid.blocks.\1.conv.",
        r"^decoder\.psp\.blocks\.(\d)\.pool\.1\.1\.": r"pyramid.blocks.\1.bn.",
        r"^decoder\.conv\.0\.": "block.conv.",
        r"^decoder\.conv\.1\.": "block.bn.",
    },
    "DeepLabV3Plus": {
        _ASPP + r"0\.0\.": "aspp.blocks.0.conv.",
        _ASPP + r"0\.1\.": "aspp.blocks.0.bn.",
        _ASPP + r"([123])\.0\.0\.": r"aspp.blocks.\1.depthwise.",
        _ASPP + r"([123])\.0\.1\.": r"aspp.blocks.\1.pointwise.conv.",
        _ASPP + r"([123])\.1\.": r"aspp.blocks.\1.pointwise.bn.",
        _ASPP + r"4\.1\.": "aspp.image_pool.block.conv.",
        _ASPP + r"4\.2\.": "aspp.image_pool.block.bn.",
        r"^decoder\.aspp\.0\.project\.0\.": "aspp.project.conv.",
        r"^decoder\.aspp\.0\.project\.1\.": "aspp.project.bn.",
        r"^decoder\.aspp\.1\.0\.": "encoder_block.depthwise.",
        r"^decoder\.aspp\.1\.1\.": "encoder_block.pointwise.conv.",
        r"^decoder\.aspp\.2\.": "encoder_block.pointwise.bn.",
        r"^decoder\.block1\.0\.": "reduce.conv.",
        r"^decoder\.block1\.1\.": "reduce.bn.",
        r"^decoder\.block2\.0\.0\.": "decoder.0.depthwise.",
        r"^decoder\.block2\.0\.1\.": "decoder.0.pointwise.conv.",
        r"^decoder\.block2\.1\.": "decoder.0.pointwise.bn.",
    },
}
_MARKS = {
    "BackboneUNetPlusPlus": "decoder.blocks.x_0_0.conv1.0.weight",
    "BackboneUNet": "decoder.blocks.0.conv1.0.weight",
    "PSPNet": "decoder.psp.blocks.0.pool.1.0.weight",
    "DeepLabV3Plus": "decoder.block1.0.weight",
}


def detect(container: str, state: State, metadata: Mapping[str, str]) -> str | None:
    """smp, by its three parts."""
    parts = {name.partition(".")[0] for name in state}
    return "smp" if {"encoder", "decoder", "segmentation_head"} <= parts else None


def images(foreign: Foreign) -> Mapping[str, object] | None:
    """ImageNet's, which its encoders were trained on."""
    foreign.assumed.append("images normalised as its ImageNet encoders'")
    return IMAGENET


def translate(foreign: Foreign, state: State) -> None:
    """Encoders have torchvision's names; decoders get ours. Also finds the network."""
    model = next((model for model, mark in _MARKS.items() if mark in state), None)
    if model is None:
        raise WeightsError(
            "segmentation_models.pytorch's, but none of Unet, UnetPlusPlus, PSPNet and DeepLabV3Plus"
        )
    if "encoder.layer1.0.conv1.weight" not in state:
        raise WeightsError("its encoder is no ResNet")
    heads = {re.compile(theirs): ours for theirs, ours in _HEADS[model].items()}
    for source, array in state.items():
        layer, _, kind = source.rpartition(".")
        if kind == "num_batches_tracked":
            foreign.skipped.append((source, "a counter without use here"))
            continue
        if source.startswith("classification_head."):
            foreign.skipped.append((source, "scores of the whole image"))
            continue
        # sums of classes are not BatchNorm's, so only running statistics change their name
        name = f"{layer}.{BATCH_NORM[kind] if kind.startswith('running') else kind}"
        foreign.entries.append(Entry(source, _name(name, heads), array))
    shapes = {entry.name: tuple(entry.array.shape) for entry in foreign.entries}
    foreign.network = _network(model, shapes, foreign)
    if model == "PSPNet":
        foreign.entries = [_reordered(entry, shapes) for entry in foreign.entries]


def _name(name: str, heads: Mapping[re.Pattern[str], str]) -> str:
    if name.startswith("encoder."):
        return name.replace("encoder.", "backbone.", 1)
    if name.startswith("segmentation_head.0."):
        return name.replace("segmentation_head.0.", "score.", 1)
    match = re.match(r"decoder\.blocks\.x_(\d)_(\d)\.", name)
    if match:
        # theirs count the steps of a path and the layer, ours the row from the finest and the column
        depth, layer = int(match[1]), int(match[2])
        name = ("last." if layer == 4 else f"x{3 - layer}_{layer + 1 - depth}.") + name[match.end() :]
    for theirs, ours in heads.items():
        name = theirs.sub(ours, name)
    return name


def _network(model: str, shapes: Mapping[str, tuple[int, ...]], foreign: Foreign) -> Network:
    backbone, in_channels = backbone_section(shapes)
    classes, inner, kernel, _ = shapes["score.weight"]
    arguments: dict[str, Any]
    if model in ("BackboneUNet", "BackboneUNetPlusPlus"):
        paths = [f"steps.{step}" for step in range(5)]
        if model == "BackboneUNetPlusPlus":
            paths = ["x3_1", "x2_2", "x1_3", "x0_4", "last"]
        missing = [path for path in paths if f"{path}.conv2.conv.weight" not in shapes]
        if missing or any(name.startswith(("decoder.", "steps.5")) for name in shapes):
            raise WeightsError(
                "its decoder has another depth than 5, attention or a centre block, which are not here"
            )
        arguments = {"channels": [shapes[f"{path}.conv2.conv.weight"][0] for path in paths]}
        foreign.assumed.append("nearest interpolation")
    elif model == "PSPNet":
        if shapes["block.conv.weight"][1] != 2 * _channels(shapes, "layer2"):
            raise WeightsError("a PSPNet of another encoder_depth than 3, its default")
        normed = "pyramid.blocks.0.bn.weight" in shapes
        arguments = {
            "channels": inner,
            "auxiliary": False,
            "deepest": "layer2",
            "block_kernel": 1,
            "score_kernel": kernel,
            "mean_norm": normed,
            "dropout": 0.2,
            "align_corners": True,
        }
        backbone["output_stride"] = 32
    else:
        separable = "aspp.blocks.1.depthwise.weight" in shapes
        if not separable:
            raise WeightsError("a DeepLabV3Plus without decoder_aspp_separable, its default")
        backbone |= {"output_stride": 16, "dilate_first": True}
        foreign.assumed += ["output_stride 16", "ASPP rates 12, 24, 36"]
        arguments = {
            "channels": inner,
            "low_level_channels": shapes["reduce.conv.weight"][0],
            "rates": [12, 24, 36],
            "inner_relu": False,
            "inner_norm": False,
            "encoder_convolution": True,
            "decoder_convolutions": 1,
            "dropout": 0.5,
            "align_corners": True,
        }
    return Network(model, backbone, arguments, classes, in_channels)


def _channels(shapes: Mapping[str, tuple[int, ...]], stage: str) -> int:
    """Channels of a stage's output."""
    last = 3 if f"backbone.{stage}.0.conv3.weight" in shapes else 2
    return shapes[f"backbone.{stage}.0.conv{last}.weight"][0]


def _reordered(entry: Entry, shapes: Mapping[str, tuple[int, ...]]) -> Entry:
    """The pyramid stands before the map there, behind it here."""
    if entry.name != "block.conv.weight":
        return entry
    own = _channels(shapes, "layer2")
    split = entry.array.shape[1] - own
    array = np.concatenate([entry.array[:, split:], entry.array[:, :split]], axis=1)
    return Entry(entry.source, entry.name, array, "input channels in our order")
