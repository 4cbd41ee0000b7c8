"""Makes the goldens in modes/: the papers' own modes, which no library's code has, written out in PyTorch.

    # in an environment with torch==2.13.0 and numpy:
    python tests/goldens/make_mode_goldens.py

Nothing of this project is imported: networks are functions that draw each weight by its name and by the shape
that the paper gives it (synthetic.py), in float64. Each ``modes/NAME.npz`` holds

    config       JSON: what to build, image sizes, which cells are kept, the tensors' shapes by name
    output/I/K   float32, output K (a backbone: map K) of image I, in evaluation mode
    gradient     JSON: of the sum over outputs of mean(output * noise), image 0: [norm, product with weight]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from synthetic import fill, image, noise  # noqa: E402


class Weights:
    """Tensors by name, drawn when they are first asked for."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        if name not in self.found:
            value = torch.tensor(fill(name, shape), dtype=torch.float64)
            self.found[name] = value.requires_grad_(not name.endswith(("_mean", "_variance")))
        assert tuple(self.found[name].shape) == shape
        return self.found[name]

    def conv(
        self, x: Tensor, name: str, out: int, kernel: int = 1, *, stride: int = 1, rate: int = 1,
        groups: int = 1, bias: bool = False,
    ) -> Tensor:  # fmt: skip
        weight = self(f"{name}.weight", out, x.shape[1] // groups, kernel, kernel)
        shift = self(f"{name}.bias", out) if bias else None
        return F.conv2d(x, weight, shift, stride, rate * (kernel // 2), rate, groups)

    def norm(self, x: Tensor, name: str) -> Tensor:
        n = x.shape[1]
        mean, variance = self(f"{name}._mean", n), self(f"{name}._variance", n)
        return F.batch_norm(x, mean, variance, self(f"{name}.weight", n), self(f"{name}.bias", n), eps=1e-5)

    def block(self, x: Tensor, name: str, out: int, kernel: int = 3, **more: Any) -> Tensor:
        return F.relu(self.norm(self.conv(x, f"{name}.conv", out, kernel, **more), f"{name}.bn"))

    def separable(self, x: Tensor, name: str, out: int, rate: int = 1) -> Tensor:
        x = self.conv(x, f"{name}.depthwise", x.shape[1], 3, rate=rate, groups=x.shape[1])
        return self.block(F.relu(self.norm(x, f"{name}.bn")), f"{name}.pointwise", out, 1)


def resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def cropped(x: Tensor, like: Tensor) -> Tensor:
    return x[:, :, : like.shape[2], : like.shape[3]]


# --- ResNet (He and others, CVPR 2016): the first 1x1 convolution of a stage reduces, as the authors' does


def basic(w: Weights, x: Tensor, name: str, out: int, stride: int, rates: tuple[int, int]) -> Tensor:
    y = F.relu(w.norm(w.conv(x, f"{name}.conv1", out, 3, stride=stride, rate=rates[0]), f"{name}.bn1"))
    y = w.norm(w.conv(y, f"{name}.conv2", out, 3, rate=rates[1]), f"{name}.bn2")
    return y + shortcut(w, x, name, out, stride)


def bottleneck(w: Weights, x: Tensor, name: str, out: int, stride: int, rates: tuple[int, int]) -> Tensor:
    y = F.relu(w.norm(w.conv(x, f"{name}.conv1", out, stride=stride), f"{name}.bn1"))
    y = F.relu(w.norm(w.conv(y, f"{name}.conv2", out, 3, rate=rates[1]), f"{name}.bn2"))
    y = w.norm(w.conv(y, f"{name}.conv3", 4 * out), f"{name}.bn3")
    return y + shortcut(w, x, name, 4 * out, stride)


def shortcut(w: Weights, x: Tensor, name: str, out: int, stride: int) -> Tensor:
    if stride == 1 and x.shape[1] == out:
        return x
    return w.norm(w.conv(x, f"{name}.downsample.0", out, stride=stride), f"{name}.downsample.1")


def resnet(
    w: Weights, x: Tensor, width: int, depths: Sequence[int], rates: Sequence[Sequence[int]],
    part: Callable[..., Tensor], prefix: str = "",
) -> list[Tensor]:  # fmt: skip
    """layer1 to layer4. ``rates``: dilations of each block; a stage that starts above 1 keeps the grid."""
    x = F.relu(w.norm(w.conv(x, f"{prefix}conv1", width, 7, stride=2), f"{prefix}bn1"))
    x, maps, before = F.max_pool2d(x, 3, 2, 1), [], 1
    for stage, (depth, own) in enumerate(zip(depths, rates), start=1):
        for number in range(depth):
            stride = 2 if number == 0 and stage > 1 and max(own) == 1 else 1
            first = before if number == 0 else own[number]
            x = part(
                w, x, f"{prefix}layer{stage}.{number}", width * 2 ** (stage - 1), stride, (first, own[number])
            )
            x = F.relu(x)
        before = own[-1]
        maps.append(x)
    return maps


def resnet18(w: Weights, x: Tensor, width: int, output_stride: int) -> list[Tensor]:
    last = {32: 1, 16: 2}[output_stride]
    return resnet(w, x, width, [2] * 4, [[1] * 2] * 3 + [[last] * 2], basic, "backbone.")


def resnet50(w: Weights, x: Tensor, third: int, last: Sequence[int]) -> list[Tensor]:
    return resnet(w, x, 4, [3, 4, 6, 3], [[1] * 3, [1] * 4, [third] * 6, last], bottleneck)


# --- models ---------------------------------------------------------------------------------------------


def fcn8s(w: Weights, x: Tensor, classes: int) -> list[Tensor]:
    """FCN-8s (Long and others, 2015, figure 3) on ResNet-18."""
    _, pool3, pool4, pool5 = resnet18(w, x, 3, 32)
    fc7 = w.block(w.block(pool5, "fc6", 7, 3), "fc7", 7, 1)

    def enlarged(score: Tensor, factor: int) -> Tensor:
        size = [factor * side for side in score.shape[2:]]
        return F.interpolate(score, size=size, mode="bilinear", align_corners=False)

    score = w.conv(fc7, "score_fr", classes, bias=True)
    for pool, name in ((pool4, "score_pool4"), (pool3, "score_pool3")):
        score = cropped(enlarged(score, 2), pool) + w.conv(pool, name, classes, bias=True)
    return [cropped(enlarged(score, 8), x)]


def segnet(w: Weights, x: Tensor, classes: int) -> list[Tensor]:
    """SegNet (Badrinarayanan and others, 2017, figure 2), the decoder the mirror of VGG-11."""
    image_, widths, counts, places = x, (3, 4, 5, 6, 6), (1, 1, 2, 2, 2), []
    for stage, (width, count) in enumerate(zip(widths, counts), start=1):
        for number in range(1, count + 1):
            x = w.block(x, f"backbone.conv{stage}_{number}", width)
        before = x
        x, indices = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
        places.append((indices, before.shape[2:]))
    for row, stage in enumerate(range(4, -1, -1)):
        indices, size = places[stage]
        x = F.max_unpool2d(x, indices, 2, 2, output_size=size)
        after = [widths[stage]] * (counts[stage] - 1) + ([widths[stage - 1]] if stage else [])
        for number, width in enumerate(after):
            x = w.block(x, f"stages.{row}.{number}", width)
    assert x.shape[2:] == image_.shape[2:]
    return [w.conv(x, "score", classes, 3, bias=True)]


def unet(w: Weights, x: Tensor, classes: int) -> list[Tensor]:
    """U-Net (Ronneberger and others, 2015, figure 1): 2x2 up-convolutions that halve the channels; padded."""
    skips, widths = [], (4, 6, 8, 10, 12)
    for stage, width in enumerate(widths, start=1):
        x = x if stage == 1 else F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = w.block(w.block(x, f"backbone.stage{stage}.0", width), f"backbone.stage{stage}.1", width)
        skips.append(x)
    skips.pop()
    for step, skip in enumerate(reversed(skips)):
        up = f"steps.{step}.up"
        deep = x.shape[1]
        kernel, shift = w(f"{up}.weight", deep, deep // 2, 2, 2), w(f"{up}.bias", deep // 2)
        x = torch.cat([skip, cropped(F.conv_transpose2d(x, kernel, shift, stride=2), skip)], 1)
        width = skip.shape[1]
        x = w.block(w.block(x, f"steps.{step}.conv1", width), f"steps.{step}.conv2", width)
    return [w.conv(x, "score", classes, bias=True)]


def deeplabv3plus(w: Weights, x: Tensor, classes: int) -> list[Tensor]:
    """DeepLabV3+ (Chen and others, ECCV 2018, figure 2), separable, ReLU within (the authors' code)."""
    low, _, _, deep = resnet18(w, x, 3, 16)
    branches = [w.block(deep, "aspp.blocks.0", 6, 1)]
    branches += [
        w.separable(deep, f"aspp.blocks.{k}", 6, rate) for k, rate in enumerate((6, 12, 18), start=1)
    ]
    mean = w.block(deep.mean((2, 3), keepdim=True), "aspp.image_pool.block", 6, 1)
    encoded = w.block(torch.cat([*branches, mean.expand_as(branches[0])], 1), "aspp.project", 6, 1)
    y = torch.cat([resized(encoded, low), w.block(low, "reduce", 4, 1)], 1)
    y = w.separable(w.separable(y, "decoder.0", 6), "decoder.1", 6)
    return [resized(w.conv(y, "score", classes, bias=True), x)]


def lraspp(w: Weights, x: Tensor, classes: int) -> list[Tensor]:
    """LR-ASPP (Howard and others, 2019, figure 10): average pooling 49x49 with strides of 16 and 20."""
    _, low, _, deep = resnet18(w, x, 3, 16)
    window = [min(49, side) for side in deep.shape[2:]]  # the paper's maps have 64x128 cells
    gate = torch.sigmoid(w.conv(F.avg_pool2d(deep, window, (16, 20)), "gate", 5))
    y = w.block(deep, "block", 5, 1)
    y = resized(y * resized(gate, y), low)
    score = w.conv(low, "score_low", classes, bias=True) + w.conv(y, "score_deep", classes, bias=True)
    return [resized(score, x)]


ODD = [(37, 45), (1, 1), (17, 70)]
LONG = [(33, 1121), (1057, 33), (37, 45)]  # maps of 3x71 and 67x3 cells: two windows along, one across
R18 = {"type": "ResNet18", "width": 3, "output_stride": 16}
R50 = {"type": "ResNet50", "width": 4}
# name: function, `model` section (without type: a backbone), classes, sizes, every how many cells are kept
CASES: dict[str, tuple[Any, dict[str, Any], int, list[tuple[int, int]], int]] = {
    "fcn8s_resnet18": (
        fcn8s,
        {"type": "FCN8s", "backbone": {**R18, "output_stride": 32}, "fc_channels": 7, "fc6_kernel": 3},
        5,
        ODD,
        3,
    ),
    "segnet_vgg11": (
        segnet,
        {"type": "SegNet", "backbone": {"type": "VGG11", "widths": [3, 4, 5, 6, 6]}},
        5,
        ODD,
        3,
    ),
    "unet": (
        unet,
        {"type": "UNet", "backbone": {"type": "UNetEncoder", "widths": [4, 6, 8, 10, 12]}},
        5,
        ODD,
        3,
    ),
    "deeplabv3plus_resnet18": (
        deeplabv3plus,
        {"type": "DeepLabV3Plus", "backbone": R18, "channels": 6, "low_level_channels": 4},
        5,
        ODD,
        3,
    ),
    "lraspp_resnet18": (lraspp, {"type": "LRASPP", "backbone": R18, "channels": 5}, 2, LONG, 7),
    "resnet50": (lambda w, x, _: resnet50(w, x, 1, [1] * 3), {"backbone": R50}, 0, ODD, 3),
    "resnet50_output_stride_8": (
        lambda w, x, _: resnet50(w, x, 2, [4] * 3),
        {"backbone": {**R50, "output_stride": 8}},
        0,
        ODD,
        3,
    ),
    "resnet50_multi_grid": (  # 2 * (1, 2, 4) at output stride 16 (DeepLabV3, section 3.2.1)
        lambda w, x, _: resnet50(w, x, 1, [2, 4, 8]),
        {"backbone": {**R50, "output_stride": 16, "multi_grid": [1, 2, 4]}},
        0,
        ODD,
        3,
    ),
}


def golden(
    function: Any, section: dict[str, Any], classes: int, sizes: list[tuple[int, int]], step: int
) -> dict[str, Any]:
    w, out = Weights(), {}
    for index, size in enumerate(sizes):
        x = torch.tensor(image(size), dtype=torch.float64)
        results = function(w, x, classes)
        if index == 0:
            loss = sum((y * torch.tensor(noise(k, tuple(y.shape)))).mean() for k, y in enumerate(results))
            loss.backward()
        for number, y in enumerate(results):
            out[f"output/{index}/{number}"] = y.detach().numpy()[..., ::step, ::step].astype("float32")
    shapes = {name: list(tensor.shape) for name, tensor in w.found.items()}
    gradient = {
        name: [float(p.grad.norm()), float((p.grad * p.detach()).sum())]
        for name, p in w.found.items()
        if p.grad is not None
    }
    config = {"model": section, "classes": classes, "sizes": sizes, "step": step, "shapes": shapes}
    return {"config": json.dumps(config), "gradient": json.dumps(gradient), **out}


def main() -> None:
    for name, case in CASES.items():
        path = HERE / "modes" / f"{name}.npz"
        np.savez_compressed(path, **golden(*case))
        print(f"{path.name:<32}{path.stat().st_size / 1024:8.1f} KB", flush=True)


if __name__ == "__main__":
    main()
