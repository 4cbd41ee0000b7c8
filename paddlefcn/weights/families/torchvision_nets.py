"""torchvision's ResNet and MobileNet, and its segmentation networks; timm's and Paddle's of equal names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from paddlefcn.errors import WeightsError
from paddlefcn.weights.entries import BATCH_NORM, IMAGENET, Entry, Foreign, Network
from paddlefcn.weights.state import State

FORMATS = ("torchvision", "timm", "paddle")
_DEPTHS: dict[tuple[int, ...], tuple[str, bool]] = {
    (2, 2, 2, 2): ("ResNet18", False),
    (3, 4, 6, 3): ("ResNet34", False),
    (3, 4, 23, 3): ("ResNet101", True),
}
_FIRST = r"(backbone\.)?(conv1\.(0\.)?weight|features\.0\.0\.weight|0\.0\.weight|stem\.0\.conv\.weight)$"
# heads: our part for theirs, in the order in which they are tried
_DEEPLAB = {
    r"classifier\.0\.convs\.([0-3])\.0\.": r"aspp.blocks.\1.conv.",
    r"classifier\.0\.convs\.([0-3])\.1\.": r"aspp.blocks.\1.bn.",
    r"classifier\.0\.convs\.4\.1\.": "aspp.image_pool.block.conv.",
    r"classifier\.0\.convs\.4\.2\.": "aspp.image_pool.block.bn.",
    r"classifier\.0\.project\.0\.": "aspp.project.conv.",
    r"classifier\.0\.project\.1\.": "aspp.project.bn.",
    r"classifier\.1\.": "block.conv.",
    r"classifier\.2\.": "block.bn.",
    r"classifier\.4\.": "score.",
}
_FCN = {
    r"classifier\.0\.": "head.block.conv.",
    r"classifier\.1\.": "head.block.bn.",
    r"classifier\.4\.": "head.score.",
}
_AUXILIARY = {
    r"aux_classifier\.0\.": "auxiliary.block.conv.",
    r"aux_classifier\.1\.": "auxiliary.block.bn.",
    r"aux_classifier\.4\.": "auxiliary.score.",
}
_LRASPP = {
    r"classifier\.cbr\.0\.": "block.conv.",
    r"classifier\.cbr\.1\.": "block.bn.",
    r"classifier\.scale\.1\.": "gate.",
    r"classifier\.low_classifier\.": "score_low.",
    r"classifier\.high_classifier\.": "score_deep.",
}
HEADS = {"DeepLabV3": _DEEPLAB | _AUXILIARY, "FCNHead": _FCN | _AUXILIARY, "LRASPP": _LRASPP, "": {}}


def detect(container: str, state: State, metadata: Mapping[str, str]) -> str | None:
    """torchvision, if the layers have its names; Paddle's own classifiers keep `_mean`."""
    if not any(re.match(_FIRST, name) for name in state):
        return None
    if "conv1.weight" in state and "layer1.0.conv1.weight" not in state:
        return None  # CaffeNet has a conv1 too
    own_statistics = any(name.endswith("._mean") for name in state)
    if own_statistics and any(name.startswith("backbone.") for name in state):
        return None  # a model of this library
    return "paddle" if own_statistics else "torchvision"


def images(foreign: Foreign) -> Mapping[str, object] | None:
    """ImageNet's."""
    return IMAGENET


def translate(foreign: Foreign, state: State) -> None:
    """Backbones keep their names, but for statistics; heads get ours. Also finds the network."""
    model = _model(state)
    heads = {re.compile(theirs): ours for theirs, ours in HEADS[model].items()}
    for source, array in state.items():
        layer, _, kind = source.rpartition(".")
        if kind == "num_batches_tracked":
            foreign.skipped.append((source, "a counter without use here"))
            continue
        name = f"{layer}.{BATCH_NORM.get(kind, kind) if kind.startswith('running') else kind}"
        found = next((p.sub(ours, name) for p, ours in heads.items() if p.match(name)), None)
        if found is None and re.match(r"(fc|classifier|head)\.", name):
            foreign.skipped.append((source, "the classifier's own scores"))
            continue
        foreign.entries.append(Entry(source, found or _backbone_name(name), array))
    shapes = {entry.name: tuple(entry.array.shape) for entry in foreign.entries}
    foreign.network = _network(model, shapes, foreign)


def _model(state: State) -> str:
    if any(name.startswith("classifier.0.convs.") for name in state):
        return "DeepLabV3"
    if "classifier.cbr.0.weight" in state:
        return "LRASPP"
    return "FCNHead" if "classifier.4.weight" in state and "backbone.conv1.weight" in state else ""


def _backbone_name(name: str) -> str:
    """With the prefix of a model; torchvision's segmentation networks leave `features.` out."""
    name = name.removeprefix("backbone.")
    return "backbone." + (f"features.{name}" if re.match(r"\d+\.", name) else name)


def _network(model: str, shapes: Mapping[str, tuple[int, ...]], foreign: Foreign) -> Network:
    backbone, in_channels = backbone_section(shapes)
    if not model:
        return Network(None, backbone, {}, 0, in_channels)
    arguments: dict[str, Any] = {}
    mobile = backbone["type"].startswith("Mobile")
    backbone["output_stride"] = 16 if mobile else 8
    foreign.assumed.append(f"output_stride {backbone['output_stride']}")
    if mobile:
        backbone["dilate_first"] = True
    if model == "LRASPP":
        arguments = {"channels": shapes["block.conv.weight"][0], "gate_window": None}
        return Network(model, backbone, arguments, shapes["score_low.weight"][0], in_channels)
    arguments["auxiliary"] = "auxiliary.score.weight" in shapes
    if model == "FCNHead":
        return Network(model, backbone, arguments, shapes["head.score.weight"][0], in_channels)
    arguments |= {"channels": shapes["score.weight"][1], "rates": [12, 24, 36], "dropout": 0.5}
    arguments["head_convolution"] = True
    foreign.assumed.append("ASPP rates 12, 24, 36")
    return Network(model, backbone, arguments, shapes["score.weight"][0], in_channels)


# --- which backbone it is -------------------------------------------------------------------------


def backbone_section(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, Any], int]:
    """The `backbone` section that has these shapes under our names, and its input channels."""
    own = {name[len("backbone.") :]: shape for name, shape in shapes.items() if name.startswith("backbone.")}
    if "layer1.0.conv1.weight" in own:
        return _resnet(own)
    if "stem.0.conv.weight" in own:
        return _xception(own)
    return _mobilenet(own)


def _resnet(own: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, Any], int]:
    depths = [0] * 4
    for name in own:
        match = re.match(r"layer([1-4])\.(\d+)\.", name)
        if match:
            depths[int(match[1]) - 1] = max(depths[int(match[1]) - 1], int(match[2]) + 1)
    bottleneck, deep_stem = "layer1.0.conv3.weight" in own, "conv1.0.weight" in own
    kind, deep = _DEPTHS.get(tuple(depths), ("", False))
    if kind == "ResNet34" and bottleneck:
        kind, deep = "ResNet50", True
    if not kind or deep != bottleneck:
        raise WeightsError(f"a ResNet with stages of {depths} blocks, which is none of 18, 34, 50, 101")
    first = own["conv1.0.weight"] if deep_stem else own["conv1.weight"]
    width = own["bn1.weight"][0]
    section: dict[str, Any] = {"type": kind + ("_vd" if deep_stem else "")}
    if width != 64:
        section["width"] = width
    if bottleneck and not deep_stem:
        section["stride_at"] = "3x3"
    return section, first[1]


def _xception(own: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, Any], int]:
    blocks = {int(name.split(".")[1]) for name in own if name.startswith("blocks.")}
    middle = len(blocks) - 5
    if middle < 1:
        raise WeightsError(f"an Xception of {len(blocks)} blocks, expected three, a middle flow, and two")
    factor = own["stem.1.conv.weight"][0] / 64
    section: dict[str, Any] = {"type": "Xception65"}
    if middle != 16:
        section["middle_blocks"] = middle
    if factor != 1:
        section["width_factor"] = factor
    return section, own["stem.0.conv.weight"][1]


def _mobilenet(own: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, Any], int]:
    in_channels = own["features.0.0.weight"][1]
    if any(".conv." in name for name in own):
        return {"type": "MobileNetV2", **_factor("MobileNetV2", own)}, in_channels
    kind = "MobileNetV3Large" if "features.16.0.weight" in own else "MobileNetV3Small"
    return {"type": kind, **_factor(kind, own)}, in_channels


def _factor(kind: str, own: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The width factor (and reduced tail) with which every shape is the file's."""
    import paddle

    from paddlefcn.backbones import BACKBONES

    tails: list[dict[str, Any]] = [{}] if kind == "MobileNetV2" else [{}, {"reduced_tail": True}]
    shapes = {name: list(shape) for name, shape in own.items() if name.endswith("weight") and len(shape) == 4}
    for factor in (1.0, 0.75, 0.5, 1.4, 1.3, 1.25, 0.35, 0.25, 1.5, 2.0, 0.1):
        for tail in tails:
            with paddle.LazyGuard():
                made = BACKBONES[kind](width_factor=factor, in_channels=own["features.0.0.weight"][1], **tail)
            expected = {name: list(tensor.shape) for name, tensor in made.state_dict().items()}
            if all(expected.get(name) == shape for name, shape in shapes.items()):
                return {**({} if factor == 1 else {"width_factor": factor}), **tail}
    raise WeightsError(f"a {kind} of another width factor than 0.1, 0.25, 0.35, 0.5, 0.75, 1 to 2")
