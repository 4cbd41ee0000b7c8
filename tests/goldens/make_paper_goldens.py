"""Makes the goldens in papers/: networks written out from their papers in plain functional PyTorch.

    pip install torch==2.13.0 numpy && python tests/goldens/make_paper_goldens.py

In float64, sharing nothing with the package but the names of its weights, which are drawn by name
(synthetic.py) with the shapes that the networks here ask for. Each ``papers/NAME.npz`` holds

    config       JSON: model and backbone with their arguments, sizes, the shape of every tensor
    logits/I     float32, eval mode, at every third pixel, of image I
    train/K      output K of the last image in training mode, BatchNorm with its running statistics
    gradient     JSON: of the mean of output * noise, summed over outputs: by name [norm, product with weight]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from synthetic import STEP, fill, image, noise  # noqa: E402

CLASSES = 3
ODD = [(1, 1), (37, 45), (65, 33)]
Tensor = torch.Tensor


class Net:
    """Layers whose weights come to be when they are first asked for."""

    def __init__(self, training: bool) -> None:
        self.training = training
        self.weights: dict[str, Tensor] = {}

    def weight(self, name: str, *shape: int) -> Tensor:
        if name not in self.weights:
            statistic = name.endswith(("_mean", "_variance"))
            value = torch.tensor(fill(name, shape)).double()
            self.weights[name] = value.requires_grad_(not statistic)
        return self.weights[name]

    def conv(
        self,
        x: Tensor,
        name: str,
        out: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = False,
    ) -> Tensor:
        weight = self.weight(f"{name}.weight", out, x.shape[1], kernel, kernel)
        shift = self.weight(f"{name}.bias", out) if bias else None
        return F.conv2d(x, weight, shift, stride, dilation * (kernel // 2), dilation)

    def norm(self, x: Tensor, name: str) -> Tensor:
        keys = ("_mean", "_variance", "weight", "bias")
        return F.batch_norm(x, *(self.weight(f"{name}.{key}", x.shape[1]) for key in keys), False, 0.0, 1e-5)

    def block(self, x: Tensor, name: str, out: int, kernel: int = 3, **where: int) -> Tensor:
        """Convolution, BatchNorm, ReLU under `conv` and `bn`."""
        return F.relu(self.norm(self.conv(x, f"{name}.conv", out, kernel, **where), f"{name}.bn"))

    def row(self, x: Tensor, name: str, plan: list[Any]) -> Tensor:
        """Layers numbered in a row: (out, kernel, stride) a convolution, "bn", "relu"."""
        for number, step in enumerate(plan):
            if step == "relu":
                x = F.relu(x)
            elif step == "bn":
                x = self.norm(x, f"{name}.{number}")
            else:
                x = self.conv(x, f"{name}.{number}", step[0], step[1], stride=step[2])
        return x


def resized(x: Tensor, like: Tensor, align_corners: bool = False) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=align_corners)


# --- DDRNet (Pan and others, 2022) --------------------------------------------------------------------


def basic(net: Net, x: Tensor, name: str, out: int, stride: int) -> Tensor:
    y = F.relu(net.norm(net.conv(x, f"{name}.conv1", out, 3, stride=stride), f"{name}.bn1"))
    y = net.norm(net.conv(y, f"{name}.conv2", out, 3), f"{name}.bn2")
    if stride > 1 or x.shape[1] != out:
        x = net.row(x, f"{name}.downsample", [(out, 1, stride), "bn"])
    return F.relu(x + y)


def sums(net: Net, x: Tensor, name: str, plan: list[Any], out: int, stride: int) -> Tensor:
    y = net.row(x, f"{name}.body", plan)
    if stride > 1 or x.shape[1] != out:
        x = net.row(x, f"{name}.downsample", [(out, 1, stride), "bn"])
    return x + y


def two_blocks(net: Net, x: Tensor, name: str, out: int, stride: int) -> Tensor:
    """A stage of a branch, whose end is not rectified."""
    x = basic(net, x, f"{name}.0", out, stride)
    return sums(net, x, f"{name}.1", [(out, 3, 1), "bn", "relu", (out, 3, 1), "bn"], out, 1)


def narrow_in_between(net: Net, x: Tensor, name: str, stride: int) -> Tensor:
    c = x.shape[1]
    plan = [(c, 1, 1), "bn", "relu", (c, 3, stride), "bn", "relu", (2 * c, 1, 1), "bn"]
    return sums(net, x, name, plan, 2 * c, stride)


def aggregation(net: Net, x: Tensor, channels: int, out: int) -> Tensor:
    def activated(value: Tensor, name: str, after: int, kernel: int) -> Tensor:
        value = F.relu(net.norm(value, f"pyramid.{name}.0"))
        return net.conv(value, f"pyramid.{name}.2", after, kernel)

    pooled = [F.avg_pool2d(x, 5, 2, 2), F.avg_pool2d(x, 9, 4, 4), F.avg_pool2d(x, 17, 8, 8)]
    pooled.append(x.mean((2, 3), keepdim=True))
    found = [activated(x, "reduce.0", channels, 1)]
    for number, mean in enumerate(pooled):
        wide = resized(activated(mean, f"reduce.{number + 1}", channels, 1), x)
        found.append(activated(wide + found[-1], f"process.{number}", channels, 3))
    return activated(torch.cat(found, 1), "project", out, 1) + activated(x, "shortcut", out, 1)


def ddrnet(net: Net, x: Tensor) -> list[Tensor]:
    width, pyramid, inside, source = 4, 5, 6, x

    def head(value: Tensor, name: str) -> Tensor:
        value = net.block(F.relu(net.norm(value, f"{name}.bn")), f"{name}.block", inside)
        return resized(net.conv(value, f"{name}.score", CLASSES, bias=True), source)

    at = "backbone."
    x = net.row(x, at + "stem", [(width, 3, 2), "bn", "relu", (width, 3, 2), "bn", "relu"])
    for number in (0, 1):
        x = basic(net, x, f"{at}layer1.{number}", width, 1)
    for number in (0, 1):
        x = basic(net, x, f"{at}layer2.{number}", 2 * width, 2 - number)
    coarse, fine = (
        two_blocks(net, x, at + "coarse3", 4 * width, 2),
        two_blocks(net, x, at + "fine3", 2 * width, 1),
    )
    down = net.row(F.relu(fine), at + "down3", [(4 * width, 3, 2), "bn"])
    up = net.row(F.relu(coarse), at + "up3", [(2 * width, 1, 1), "bn"])
    coarse, fine = coarse + down, fine + resized(up, fine)
    side = fine
    coarse = two_blocks(net, F.relu(coarse), at + "coarse4", 8 * width, 2)
    fine = two_blocks(net, F.relu(fine), at + "fine4", 2 * width, 1)
    plan = [(4 * width, 3, 2), "bn", "relu", (8 * width, 3, 2), "bn"]
    down = net.row(F.relu(fine), at + "down4", plan)
    up = net.row(F.relu(coarse), at + "up4", [(2 * width, 1, 1), "bn"])
    coarse, fine = coarse + down, fine + resized(up, fine)
    fine = narrow_in_between(net, F.relu(fine), at + "fine5", 1)
    coarse = narrow_in_between(net, F.relu(coarse), at + "coarse5", 2)
    outputs = [head(fine + resized(aggregation(net, coarse, pyramid, 4 * width), fine), "head")]
    return [*outputs, head(side, "auxiliary")] if net.training else outputs


# --- VGG and ResNet as DeepLab and RefineNet take them ---------------------------------------------


def deeplab_vgg(net: Net, x: Tensor, width: int) -> Tensor:
    """The prototxt's poolings: 3x3, stride 2 three times, then 1; conv5 dilated by 2."""
    for stage, (count, factor) in enumerate(zip((2, 2, 3, 3, 3), (1, 2, 4, 8, 8)), start=1):
        for number in range(1, count + 1):
            name = f"backbone.conv{stage}_{number}.conv"
            x = F.relu(net.conv(x, name, width * factor, 3, dilation=2 if stage == 5 else 1, bias=True))
        x = F.max_pool2d(x, 3, 2 if stage <= 3 else 1, 1)
    return x


def bottleneck(net: Net, x: Tensor, name: str, inside: int, strides: tuple[int, int], hole: int) -> Tensor:
    """``strides``: of the first 1x1 convolution and of the 3x3 one."""
    y = F.relu(net.norm(net.conv(x, f"{name}.conv1", inside, stride=strides[0]), f"{name}.bn1"))
    y = net.conv(y, f"{name}.conv2", inside, 3, stride=strides[1], dilation=hole)
    y = F.relu(net.norm(y, f"{name}.bn2"))
    y = net.norm(net.conv(y, f"{name}.conv3", 4 * inside), f"{name}.bn3")
    if x.shape[1] != 4 * inside:
        x = net.row(x, f"{name}.downsample", [(4 * inside, 1, max(strides)), "bn"])
    return F.relu(x + y)


def resnet50(net: Net, x: Tensor, width: int, stride_at: str, dilated: bool) -> list[Tensor]:
    """Maps of the four stages; ``dilated``: the last two keep stride 8 and are dilated by 2 and 4."""
    x = F.relu(net.norm(net.conv(x, "backbone.conv1", width, 7, stride=2), "backbone.bn1"))
    x, maps = F.max_pool2d(x, 3, 2, 1), []
    for stage, depth in enumerate((3, 4, 6, 3), start=1):
        hole = 2 ** (stage - 2) if dilated and stage > 2 else 1
        for number in range(depth):
            stride = 2 if number == 0 and stage > 1 and hole == 1 else 1
            strides = (stride, 1) if stride_at == "1x1" else (1, stride)
            name = f"backbone.layer{stage}.{number}"
            x = bottleneck(net, x, name, width * 2 ** (stage - 1), strides, hole)
        maps.append(x)
    return maps


# --- DeepLab v1 and v2 (Chen and others, 2015 and 2018) ----------------------------------------------


def branch(net: Net, x: Tensor, name: str, rate: int, inside: int | None) -> Tensor:
    if inside is None:
        return net.conv(x, f"{name}.score", CLASSES, 3, dilation=rate, bias=True)
    x = F.relu(net.conv(x, f"{name}.layers.0.conv", inside, 3, dilation=rate, bias=True))
    x = F.relu(net.conv(x, f"{name}.layers.1.conv", inside, bias=True))
    return net.conv(x, f"{name}.score", CLASSES, bias=True)


def deeplabv1_vgg(net: Net, x: Tensor) -> list[Tensor]:
    deep = F.avg_pool2d(deeplab_vgg(net, x, 3), 3, 1, 1)
    return [resized(branch(net, deep, "branch", 12, 7), x, align_corners=True)]


def deeplabv2_vgg(net: Net, x: Tensor) -> list[Tensor]:
    deep = deeplab_vgg(net, x, 3)
    scores = [branch(net, deep, f"branches.{i}", rate, 7) for i, rate in enumerate((6, 12, 18, 24))]
    return [resized(torch.stack(scores).sum(0), x, align_corners=True)]


def deeplabv2_resnet(net: Net, x: Tensor) -> list[Tensor]:
    deep = resnet50(net, x, 2, "1x1", dilated=True)[-1]
    scores = [branch(net, deep, f"branches.{i}", rate, None) for i, rate in enumerate((6, 12, 18, 24))]
    return [resized(torch.stack(scores).sum(0), x, align_corners=True)]


# --- RefineNet (Lin and others, 2017) and its light version (Nekrasov and others, 2018) ---------------


def refinenet(net: Net, x: Tensor, kernel: int, before: int, behind: int) -> list[Tensor]:
    channels, deepest, result = 5, 6, None

    def unit(value: Tensor, name: str) -> Tensor:
        c = value.shape[1]
        inner = net.conv(F.relu(value), f"{name}.conv1", c, 3, bias=True)
        return value + net.conv(F.relu(inner), f"{name}.conv2", c, 3)

    for number, found in enumerate(reversed(resnet50(net, x, 2, "3x3", dilated=False))):
        at, c = f"blocks.{number}", channels if number else deepest
        y = net.conv(found, f"{at}.reduce", c, kernel)
        for i in range(before):
            y = unit(y, f"{at}.adapt_units.{i}")
        if result is not None:
            y = net.conv(y, f"{at}.adapt", c, kernel) + resized(result, y, align_corners=True)
        y = total = F.relu(y)
        for i in range(4):
            y = net.conv(F.max_pool2d(y, 5, 1, 2), f"{at}.pooling.convs.{i}", c, kernel)
            total = total + y
        for i in range(behind):
            total = unit(total, f"{at}.units.{i}")
        result = net.conv(total, f"{at}.out", channels, kernel) if number < 3 else total
    assert result is not None
    return [resized(net.conv(result, "score", CLASSES, 3, bias=True), x, align_corners=True)]


def full_refinenet(net: Net, x: Tensor) -> list[Tensor]:
    return refinenet(net, x, 3, 2, 3)


def light_refinenet(net: Net, x: Tensor) -> list[Tensor]:
    return refinenet(net, x, 1, 0, 0)


# --- what is written ------------------------------------------------------------------------------

VGG = {"type": "DeepLabVGG16", "width": 3, "batch_norm": False}
REFINED = {
    "backbone": {"type": "ResNet50", "width": 2, "stride_at": "3x3"},
    "channels": 5,
    "deep_channels": 6,
}
Case = tuple[Callable[[Net, Tensor], list[Tensor]], dict[str, Any], list[tuple[int, int]]]
CASES: dict[str, Case] = {
    "ddrnet": (
        ddrnet,
        {
            "type": "DDRNet",
            "backbone": {"type": "DDRNet23Slim", "width": 4},
            "pyramid_channels": 5,
            "channels": 6,
        },
        [(1, 1), (37, 45), (40, 104)],
    ),
    "deeplabv1_vgg": (
        deeplabv1_vgg,
        {"type": "DeepLabV1", "backbone": VGG, "fc_channels": 7},
        ODD,
    ),
    "deeplabv2_vgg": (
        deeplabv2_vgg,
        {"type": "DeepLabV2", "backbone": VGG, "fc_channels": 7},
        ODD,
    ),
    "deeplabv2_resnet50": (
        deeplabv2_resnet,
        {"type": "DeepLabV2", "backbone": {"type": "ResNet50", "width": 2, "dilate_first": True}},
        ODD,
    ),
    "refinenet_resnet50": (full_refinenet, {"type": "RefineNet", **REFINED}, ODD),
    "light_refinenet_resnet50": (light_refinenet, {"type": "LightRefineNet", **REFINED}, ODD),
}


def golden(run: Callable[[Net, Tensor], list[Tensor]], model: Any, sizes: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    net = Net(training=False)
    for index, size in enumerate(sizes):
        with torch.no_grad():
            (logits,) = run(net, torch.tensor(image(size)).double())
        out[f"logits/{index}"] = logits.numpy()[..., ::STEP, ::STEP].astype("float32")
    net = Net(training=True)
    results = run(net, torch.tensor(image(sizes[-1])).double())
    torch.stack(
        [(y * torch.tensor(noise(k, tuple(y.shape)))).mean() for k, y in enumerate(results)]
    ).sum().backward()
    for number, result in enumerate(results):
        out[f"train/{number}"] = result.detach().numpy()[..., ::STEP, ::STEP].astype("float32")
    gradient = {
        name: [float(w.grad.norm()), float((w.grad * w).sum())]
        for name, w in net.weights.items()
        if w.grad is not None
    }
    shapes = {name: list(w.shape) for name, w in net.weights.items()}
    config = {"model": model, "num_classes": CLASSES, "sizes": sizes, "shapes": shapes}
    return {"config": json.dumps(config), "gradient": json.dumps(gradient), **out}


def main() -> None:
    (HERE / "papers").mkdir(exist_ok=True)
    for name, (run, model, sizes) in CASES.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        path = HERE / "papers" / f"{name}.npz"
        np.savez_compressed(path, **golden(run, model, sizes))
        print(f"{path.name:<44}{path.stat().st_size / 1024:8.1f} KB", flush=True)


if __name__ == "__main__":
    main()
