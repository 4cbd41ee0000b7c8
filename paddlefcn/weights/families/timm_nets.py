"""timm's MobileNetV2 and V3. Its ResNets and Xception: see torchvision_nets; its VGG: see rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from paddlefcn.errors import WeightsError
from paddlefcn.weights.entries import BATCH_NORM, IMAGENET, Entry, Foreign, Network
from paddlefcn.weights.families.torchvision_nets import backbone_section
from paddlefcn.weights.state import State

FORMATS = ("timm",)
_BLOCK = r"blocks\.(\d+)\.(\d+)\."


def detect(container: str, state: State, metadata: Mapping[str, str]) -> str | None:
    """timm, by the stem and the blocks that stand in stages."""
    blocks = any(re.match(_BLOCK + r"(conv|conv_dw)\.weight$", name) for name in state)
    return "timm" if blocks and "conv_stem.weight" in state else None


def images(foreign: Foreign) -> Mapping[str, object] | None:
    """ImageNet's."""
    return IMAGENET


def translate(foreign: Foreign, state: State) -> None:
    """Blocks by their place in the row; also finds the network."""
    second = "bn2.weight" in state  # V2 has BatchNorm behind its head, V3 only a bias, behind the pooling
    places = sorted({(int(found[1]), int(found[2])) for name in state if (found := re.match(_BLOCK, name))})
    numbers = {place: number for number, place in enumerate(places, start=1)}
    for source, array in state.items():
        layer, _, kind = source.rpartition(".")
        if kind == "num_batches_tracked":
            foreign.skipped.append((source, "a counter without use here"))
            continue
        part = _part(layer, state, numbers, second)
        if part is None:
            foreign.skipped.append((source, "the classifier's own scores"))
            continue
        kind = BATCH_NORM.get(kind, kind) if kind.startswith("running") else kind
        foreign.entries.append(Entry(source, f"backbone.features.{part}.{kind}", array))
    shapes = {entry.name: tuple(entry.array.shape) for entry in foreign.entries}
    backbone, in_channels = backbone_section(shapes)
    if second != (backbone["type"] == "MobileNetV2"):
        raise WeightsError("a network of MobileNet's blocks that is none of MobileNetV2, V3 small and large")
    if not second:
        backbone["norm_epsilon"] = 1.0e-5
    foreign.assumed.append("padding and BatchNorm's epsilon of timm's own networks, not of its tf_ ones")
    foreign.network = Network(None, backbone, {}, 0, in_channels)


def _part(layer: str, state: State, numbers: Mapping[tuple[int, int], int], second: bool) -> str | None:
    """What stands behind `features.` in our name of a layer; None for the classifier."""
    if layer in ("conv_stem", "bn1"):
        return f"0.{0 if layer == 'conv_stem' else 1}"
    if second and layer in ("conv_head", "bn2"):
        return f"{len(numbers) + 1}.{0 if layer == 'conv_head' else 1}"
    match = re.match(_BLOCK + r"(.+)$", layer)
    if not match:
        return None
    number, inner = numbers[int(match[1]), int(match[2])], match[3]
    at = f"blocks.{match[1]}.{match[2]}."
    if f"{at}conv.weight" in state:  # V3's last convolution stands among the blocks
        return f"{number}.{0 if inner == 'conv' else 1}"
    return f"{number}.{_inside(inner, at, state, second)}"


def _inside(inner: str, at: str, state: State, second: bool) -> str:
    """A layer of a block: expansion (if there is one), depthwise, gate (if there is one), projection."""
    wide, gated = f"{at}conv_pwl.weight" in state, f"{at}se.conv_reduce.weight" in state
    project = wide + 1 + gated
    rows: dict[str, Any] = {
        "conv_dw": f"{int(wide)}.0",
        "bn2" if wide else "bn1": f"{int(wide)}.1",
        "se.conv_reduce": f"{wide + 1}.fc1",
        "se.conv_expand": f"{wide + 1}.fc2",
    }
    if wide:
        rows |= {"conv_pw": "0.0", "bn1": "0.1"}
    # torchvision's names: V2's projection stands in the row, V3's is a part of its own
    ends = (f"{project}", f"{project + 1}") if second else (f"{project}.0", f"{project}.1")
    rows |= dict(zip(("conv_pwl", "bn3") if wide else ("conv_pw", "bn2"), ends))
    if inner not in rows:
        raise WeightsError(f"its {at}{inner} is no layer of MobileNetV2 or V3")
    return f"{'conv' if second else 'block'}.{rows[inner]}"
