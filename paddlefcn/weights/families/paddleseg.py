"""PaddleSeg's networks: `.pdparams` of UNet, UNetPlusPlus, SegNet, PSPNet, DeepLabV3 and DeepLabV3P.

What PaddleSeg does otherwise than the papers becomes arguments; channels that it concatenates in another
order are put into ours; biases under BatchNorm are folded into its mean, as everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paddlefcn.errors import WeightsError
from paddlefcn.weights.entries import Entry, Foreign, Network
from paddlefcn.weights.families.torchvision_nets import backbone_section
from paddlefcn.weights.state import State

FORMATS = ("paddleseg",)
# paddleseg.transforms.Normalize as it is when nothing is given
HALF = {"scale": 255.0, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "order": "RGB"}

_BLOCK = {r"\._conv\.": ".conv.", r"\._batch_norm\.": ".bn."}
_SEPARABLE = {
    r"\.depthwise_conv\._conv\.": ".depthwise.",
    r"\.depthwise_conv\._batch_norm\.": ".bn.",
    r"\.piontwise_conv\.": ".pointwise.",
}
_RESNET = {
    r"^backbone\.conv1_1\._conv\.": "backbone.conv1.0.",
    r"^backbone\.conv1_1\._batch_norm\.": "backbone.conv1.1.",
    r"^backbone\.conv1_2\._conv\.": "backbone.conv1.3.",
    r"^backbone\.conv1_2\._batch_norm\.": "backbone.conv1.4.",
    r"^backbone\.conv1_3\._conv\.": "backbone.conv1.6.",
    r"^backbone\.conv1_3\._batch_norm\.": "backbone.bn1.",
}
_XCEPTION = {
    r"^backbone\._conv1\.": "backbone.stem.0.",
    r"^backbone\._conv2\.": "backbone.stem.1.",
    r"\._conv([123])\._conv1\.": r".stack.conv\1.conv_dw.",
    r"\._conv([123])\._bn1\.": r".stack.conv\1.bn_dw.",
    r"\._conv([123])\._conv2\.": r".stack.conv\1.conv_pw.",
    r"\._conv([123])\._bn2\.": r".stack.conv\1.bn_pw.",
    r"\._short\.": ".shortcut.",
    r"\._bn\.": ".bn.",
}
_ASPP = {
    r"^head\.aspp\.aspp_blocks\.": "aspp.blocks.",
    r"^head\.aspp\.global_avg_pool\.1\.": "aspp.image_pool.block.",
    r"^head\.aspp\.conv_bn_relu\.": "aspp.project.",
}
_MODELS: dict[str, dict[str, str]] = {
    "DeepLabV3": {**_ASPP, r"^head\.cls\.": "score."},
    "DeepLabV3Plus": {
        **_ASPP,
        r"^head\.decoder\.conv_bn_relu1\.": "reduce.",
        r"^head\.decoder\.conv_bn_relu2\.": "decoder.0.",
        r"^head\.decoder\.conv_bn_relu3\.": "decoder.1.",
        r"^head\.decoder\.conv\.": "score.",
    },
    "PSPNet": {
        r"^head\.psp_module\.stages\.(\d)\.1\.": r"pyramid.blocks.\1.",
        r"^head\.psp_module\.conv_bn_relu2\.": "block.",
        r"^head\.auxlayer\.conv_bn_relu\.": "auxiliary.block.",
        r"^head\.auxlayer\.conv\.": "auxiliary.score.",
        r"^head\.conv\.": "score.",
    },
    "UNet": {
        r"^encode\.double_conv\.": "backbone.stage1.",
        r"^encode\.down_sample_list\.0\.1\.": "backbone.stage2.0.",
        r"^encode\.down_sample_list\.0\.2\.": "backbone.stage2.1.",
        r"^encode\.down_sample_list\.1\.1\.": "backbone.stage3.0.",
        r"^encode\.down_sample_list\.1\.2\.": "backbone.stage3.1.",
        r"^encode\.down_sample_list\.2\.1\.": "backbone.stage4.0.",
        r"^encode\.down_sample_list\.2\.2\.": "backbone.stage4.1.",
        r"^encode\.down_sample_list\.3\.1\.": "backbone.stage5.0.",
        r"^encode\.down_sample_list\.3\.2\.": "backbone.stage5.1.",
        r"^decode\.up_sample_list\.(\d)\.double_conv\.0\.": r"steps.\1.conv1.",
        r"^decode\.up_sample_list\.(\d)\.double_conv\.1\.": r"steps.\1.conv2.",
        r"^cls\.": "score.",
    },
    "SegNet": {r"^deco5\.1\.(weight|bias)$": r"score.\1"},
    "UNetPlusPlus": {
        r"^up_cat(\d)_(\d)\.up\.1\.": r"x\1_\2.reduce.",
        r"^up_cat(\d)_(\d)\.up\.": r"x\1_\2.up.",
        r"^up_cat(\d)_(\d)\.conv\.conv\.0\.": r"x\1_\2.conv1.conv.",
        r"^up_cat(\d)_(\d)\.conv\.conv\.1\.": r"x\1_\2.conv1.bn.",
        r"^up_cat(\d)_(\d)\.conv\.conv\.3\.": r"x\1_\2.conv2.conv.",
        r"^up_cat(\d)_(\d)\.conv\.conv\.4\.": r"x\1_\2.conv2.bn.",
        r"^out_(\d)\.": r"score\1.",
    },
    "": {},
}


def detect(container: str, state: State, metadata: Mapping[str, str]) -> str | None:
    """PaddleSeg, by the names of its blocks."""
    theirs = r"(.*\._(conv|batch_norm|bn)\d?\.(weight|_mean)|(conv\d_0|up_cat\d_\d)\.conv\..*)$"
    return "paddleseg" if any(re.match(theirs, name) for name in state) else None


def images(foreign: Foreign) -> Mapping[str, object] | None:
    """Mean and deviation of a half, which its configs take unless they say otherwise."""
    foreign.assumed += ["mean and std 0.5", "align_corners false"]
    channels = foreign.network.in_channels if foreign.network else 3
    return {**HALF, "mean": [0.5] * channels, "std": [0.5] * channels}


def translate(foreign: Foreign, state: State) -> None:
    """Names of heads, then of backbones, then of blocks; and the network they are of."""
    model = _model(state)
    for source, array in state.items():
        if model == "UNet" and source.startswith("conv."):
            foreign.skipped.append((source, "the score's second name"))
            continue
        if source.startswith(("fc.", "out.")):
            foreign.skipped.append((source, "the classifier's own scores"))
            continue
        foreign.entries.append(Entry(source, _name(model, source), array))
    shapes = {entry.name: tuple(entry.array.shape) for entry in foreign.entries}
    foreign.network = _network(model, shapes, foreign)
    foreign.entries = [_reordered(model, entry, shapes) for entry in foreign.entries]


def _model(state: State) -> str:
    marks = {
        "DeepLabV3Plus": "head.decoder.conv.weight",
        "DeepLabV3": "head.aspp.conv_bn_relu._conv.weight",
        "PSPNet": "head.psp_module.conv_bn_relu2._conv.weight",
        "UNet": "encode.double_conv.0._conv.weight",
        "SegNet": "enco1.0._conv.weight",
        "UNetPlusPlus": "up_cat0_1.conv.conv.0.weight",
    }
    return next((model for model, mark in marks.items() if mark in state), "")


def _name(model: str, source: str) -> str:
    name = source
    if not model and not name.startswith("backbone."):
        name = f"backbone.{name}"
    for theirs, ours in {**_MODELS[model], **_RESNET}.items():
        name = re.sub(theirs, ours, name)
    name = _block_names(model, name)
    if name.startswith("backbone.") and ("flow" in name or "._conv" in name or "._bn" in name):
        name = _xception_name(name)
    for theirs, ours in {**_SEPARABLE, **_BLOCK}.items():
        name = re.sub(theirs, ours, name)
    return name


def _block_names(model: str, name: str) -> str:
    """Rows of blocks whose numbers change."""
    match = re.match(r"backbone\.bb_(\d)_(\d+)\.(conv(\d)|short)\._(conv|batch_norm)\.(\w+)$", name)
    if match:
        stage, block, part, number, kind, tensor = match.groups()
        layer = f"backbone.layer{int(stage) + 1}.{block}."
        if part == "short":
            return f"{layer}downsample.{1 if kind == 'conv' else 2}.{tensor}"
        return f"{layer}{'conv' if kind == 'conv' else 'bn'}{int(number) + 1}.{tensor}"
    if model == "SegNet":
        name = re.sub(
            r"^enco(\d)\.(\d)\.", lambda found: f"backbone.conv{found[1]}_{int(found[2]) + 1}.", name
        )
        return re.sub(r"^deco(\d)\.", lambda found: f"stages.{int(found[1]) - 1}.", name)
    if model == "UNetPlusPlus":
        match = re.match(r"conv(\d)_0\.conv\.([0134])\.(\w+)$", name)
        if match:
            place = {"0": "0.conv", "1": "0.bn", "3": "1.conv", "4": "1.bn"}[match[2]]
            return f"backbone.stage{int(match[1]) + 1}.{place}.{match[3]}"
    return name


def _xception_name(name: str) -> str:
    match = re.match(r"backbone\.xception_\d+/(entry|middle)_flow/block(\d+)\.", name)
    if match:
        number = int(match[2]) - 1 + (3 if match[1] == "middle" else 0)
        name = f"backbone.blocks.{number}." + name[match.end() :]
    else:
        name = re.sub(r"^backbone\._exit_flow_1\.", "backbone.blocks.exit1.", name)
        name = re.sub(r"^backbone\._exit_flow_2\.", "backbone.blocks.exit2.", name)
    for theirs, ours in _XCEPTION.items():
        name = re.sub(theirs, ours, name)
    return name


def _network(model: str, shapes: dict[str, tuple[int, ...]], foreign: Foreign) -> Network:
    _number_exit_blocks(foreign)
    shapes = {entry.name: tuple(entry.array.shape) for entry in foreign.entries}
    if model in ("UNet", "UNetPlusPlus"):
        return _unet(model, shapes)
    if model == "SegNet":
        return _segnet(shapes)
    backbone, in_channels = backbone_section(shapes)
    if not model:
        return Network(None, backbone, {}, 0, in_channels)
    xception = backbone["type"] == "Xception65"
    backbone["output_stride"] = 16 if xception else 8
    foreign.assumed.append(f"output_stride {backbone['output_stride']}")
    if not xception:
        backbone["dilate_first"] = True
    classes = shapes["score.weight"][0]
    if model == "PSPNet":
        arguments: dict[str, Any] = {"channels": shapes["score.weight"][1]}
        arguments["auxiliary"] = "auxiliary.score.weight" in shapes
        return Network(model, backbone, arguments, classes, in_channels)
    arguments = {"channels": shapes["score.weight"][1], "rates": [6, 12, 18], "dropout": 0.1}
    foreign.assumed.append("ASPP rates 6, 12, 18")
    if model == "DeepLabV3Plus":
        arguments |= {"inner_relu": False, "low_level_channels": shapes["reduce.conv.weight"][0]}
        arguments["low_level"] = "blocks0" if xception else "layer1"
    return Network(model, backbone, arguments, classes, in_channels)


def _number_exit_blocks(foreign: Foreign) -> None:
    """Xception's exit flow stands behind however many blocks the middle flow has."""
    numbers = [re.match(r"backbone\.blocks\.(\d+)\.", entry.name) for entry in foreign.entries]
    last = max((int(found[1]) for found in numbers if found), default=0)
    foreign.entries = [
        Entry(
            entry.source,
            entry.name.replace(".exit1.", f".{last + 1}.").replace(".exit2.", f".{last + 2}."),
            entry.array,
            entry.note,
        )
        for entry in foreign.entries
    ]


def _unet(model: str, shapes: Mapping[str, tuple[int, ...]]) -> Network:
    arguments: dict[str, Any]
    widths = [shapes[f"backbone.stage{stage}.1.conv.weight"][0] for stage in range(1, 6)]
    backbone: dict[str, Any] = {"type": "UNetEncoder", "widths": widths}
    in_channels = shapes["backbone.stage1.0.conv.weight"][1]
    if model == "UNetPlusPlus":
        transposed = "x0_1.up.weight" in shapes
        arguments = {"average": True, "upsample": "transposed" if transposed else "bilinear"}
        return Network(model, backbone, arguments, shapes["score4.weight"][0], in_channels)
    if any("deconv" in name for name in shapes):
        raise WeightsError("a PaddleSeg UNet with use_deconv has other channels than the paper's")
    channels = [shapes[f"steps.{step}.conv2.conv.weight"][0] for step in range(4)]
    arguments = {"channels": channels, "upsample": "resize", "dropout": 0.0, "score_kernel": 3}
    return Network(model, {**backbone, "pooling": "floor"}, arguments, shapes["score.weight"][0], in_channels)


def _segnet(shapes: Mapping[str, tuple[int, ...]]) -> Network:
    from paddlefcn.weights.networks import vgg_section

    counts = [0] * 5
    for name in shapes:
        match = re.match(r"stages\.(\d)\.(\d+)\.", name)
        if match:
            counts[int(match[1])] = max(counts[int(match[1])], int(match[2]) + 1)
    counts[4] += 1  # the score is the last convolution of the last stage
    backbone, in_channels = vgg_section(shapes)
    return Network("SegNet", backbone, {"decoder": counts}, shapes["score.weight"][0], in_channels)


def _reordered(model: str, entry: Entry, shapes: Mapping[str, tuple[int, ...]]) -> Entry:
    """Input channels of what follows a concatenation, in our order."""
    if not entry.name.endswith("conv.weight"):
        return entry
    parts: Sequence[int] = ()
    if model == "UNet" and re.match(r"steps\.\d\.conv1\.", entry.name):
        # theirs: enlarged, skip; the skip has the channels of the encoder's stage
        step = int(entry.name.split(".")[1])
        skip = shapes[f"backbone.stage{4 - step}.1.conv.weight"][0]
        parts = (entry.array.shape[1] - skip, skip)
        order = (1, 0)
    elif model == "UNetPlusPlus" and re.match(r"x\d_\d\.conv1\.", entry.name):
        width = entry.array.shape[0]
        parts = (width, entry.array.shape[1] - width)
        order = (1, 0)
    elif model == "PSPNet" and entry.name == "block.conv.weight":
        bins = sum(re.match(r"pyramid\.blocks\.\d+\.conv\.weight$", name) is not None for name in shapes)
        inner = shapes["pyramid.blocks.0.conv.weight"][0]
        parts = (entry.array.shape[1] - bins * inner, *[inner] * bins)
        order = (0, *range(bins, 0, -1))
    if not parts:
        return entry
    pieces = np.split(entry.array, np.cumsum(parts)[:-1], axis=1)
    array = np.concatenate([pieces[place] for place in order], axis=1)
    return Entry(entry.source, entry.name, array, "input channels in our order")
