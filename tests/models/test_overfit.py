"""Every model of the table learns eight images by heart, narrow, on two backbones.

    python -m pytest tests/models/test_overfit.py -m slow -s

prints what each reached, and after how many iterations. A new model is tested by being in the table: on the
kind of backbone that its `smallest` section names, and on the first other one that it accepts, or else on its
own kind in another width. Runs on the accelerator where it can be built, as `cpu_accelerator: auto` does.
"""

from __future__ import annotations

import inspect

import numpy as np
import paddle
import pytest
from networks import build_model

from paddlefcn.accelerator import accelerate, accelerator_for, restore
from paddlefcn.models import MODELS

BACKBONES = [
    {"type": "ResNet18", "width": 8},
    {"type": "MobileNetV3Small", "width_factor": 0.25},
    {"type": "VGG11", "width": 8},
    {"type": "UNetEncoder", "widths": [8, 12, 16, 24, 32]},
]
WIDER = {
    "channels": 32,
    "deep_channels": 32,
    "fc_channels": 32,
    "low_level_channels": 8,
    "pyramid_channels": 16,
}
# without BatchNorm and from zero scores: the authors train them from ImageNet's weights, stage by stage;
# test_models_goldens.py compares their steps with another implementation's
PUBLISHED = {"FCNAlexNet", "PublishedFCN32s", "PublishedFCN16s", "PublishedFCN8s", "PublishedFCN8sAtOnce"}
# its finer maps count a hundredth and less, and BatchNorm has made them small before: the coarse one decides
COARSE = {"FCN8sAtOnce"}
CASES = [(name, place) for name in MODELS if name not in PUBLISHED for place in range(2)]
ITERATIONS, EVERY, RATE = 400, 20, 0.005
RATES = {"RefineNet": 0.001}  # its blocks have no BatchNorm


def narrow(name, place):
    """(backbone's type, model), on the kind of the model's `smallest` section (place 0) or on another (1)."""
    takes = inspect.signature(MODELS[name]).parameters
    arguments = {key: value for key, value in WIDER.items() if takes_number(takes, key)}
    if "dropout" in takes:
        arguments["dropout"] = 0.0
    smallest = MODELS[name].smallest.get("channels")
    if isinstance(smallest, list):
        arguments["channels"] = [4 * width for width in smallest]
    kind = MODELS[name].smallest["backbone"]["type"]
    own = [node for node in BACKBONES if node["type"] == kind] or [{"type": kind, "width": 8}]
    others = [node for node in BACKBONES if node["type"] != kind] + [{"type": kind, "width": 12}]
    for backbone in own if place == 0 else others:
        try:
            return backbone["type"], build_model(name, 3, backbone=backbone, **arguments)
        except ValueError:
            continue
    raise AssertionError(f"{name} accepts no backbone of this test; add one that it stands on")


def takes_number(parameters, key):
    return key in parameters and isinstance(parameters[key].default, int)


def finest(model):
    """The stride of the finest map that the model scores; 1 where it returns to the image itself."""
    taps = getattr(model, "taps", None)
    return 1 if taps is None else min(model.backbone.map(tap).stride for tap in taps)


def pictures(coarse):
    """Eight noisy images of 64x64 and their labels, three classes that colours tell apart.

    A rectangle of class 1 or 2 on class 0; ``coarse``: two classes with a straight border, the shape that a
    grid of 2x2 cells can express.
    """
    rng = np.random.default_rng(3)
    images = rng.standard_normal((8, 3, 64, 64)).astype("float32") * 0.1
    labels = np.zeros((8, 64, 64), "int64")
    rows, columns = np.mgrid[-31.5:32, -31.5:32]
    for index in range(8):
        if coarse:
            angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-8, 8)
            inside = rows * np.cos(angle) + columns * np.sin(angle) > offset
            labels[index] = index % 3
            labels[index][inside] = (index + 1) % 3
        else:
            top, left = rng.integers(0, 32, 2)
            labels[index, top : top + 28, left : left + 28] = 1 + index % 2
        for channel in range(3):
            images[index, channel] += 2 * (labels[index] == channel)
    return paddle.to_tensor(images), paddle.to_tensor(labels)


def mean_iou(predicted, labels):
    scores = []
    for number in range(3):
        hit, there = predicted == number, labels == number
        scores.append((hit & there).sum() / (hit | there).sum())
    return float(np.mean(scores))


def learn(model, rate, images, labels):
    """(mean IoU in evaluation mode, iterations), stopped as soon as it is above 0.95."""
    schedule = paddle.optimizer.lr.PolynomialDecay(rate, ITERATIONS, power=0.9)
    optimizer = paddle.optimizer.AdamW(schedule, parameters=model.parameters(), weight_decay=0.0)
    iou = 0.0
    for iteration in range(1, ITERATIONS + 1):
        model.train()
        loss = sum(
            weight * paddle.nn.functional.cross_entropy(logits, labels, axis=1)
            for weight, logits in zip(model.output_weights, model(images))
        )
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        schedule.step()
        if iteration % EVERY == 0:
            model.eval()
            with paddle.no_grad():
                iou = mean_iou(model(images)[0].argmax(1).numpy(), labels.numpy())
            if iou > 0.95:
                break
    return iou, iteration


@pytest.mark.slow
@pytest.mark.parametrize(("name", "place"), CASES)
def test_eight_images_are_learned_by_heart(name, place):
    kind, model = narrow(name, place)
    coarse = name in COARSE or finest(model) > 8
    use, _ = accelerator_for("auto", "cpu")
    if use:
        accelerate(model)
    iou, iterations = learn(model, RATES.get(name, RATE), *pictures(coarse))
    if use:
        restore(model)
    shapes = "straight borders" if coarse else "rectangles"
    print(f"\n{name:<22}{kind:<18}{shapes:<18}mean IoU {iou:.4f} after {iterations}", flush=True)
    assert iou > 0.95
