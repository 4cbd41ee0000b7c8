"""Backbones and models against torchvision's, timm's, smp's and PaddleSeg's own code, through the importers.

The goldens are made by tests/goldens/make_network_goldens.py; weights are drawn by name, written to a file as
the library would save it, imported, and the network found from it is run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlefcn.weights import save_state
from paddlefcn.weights.fitting import load_foreign
from paddlefcn.weights.foreign import read_foreign
from paddlefcn.weights.networks import build, describe

FOLDER = Path(__file__).parent / "goldens"
sys.path.insert(0, str(FOLDER))
from synthetic import STEP, fill, image, noise  # noqa: E402

NAMES = sorted(path.stem for path in (FOLDER / "networks").glob("*.npz"))
# one of each kind runs with the fast tests, every depth and stride with the slow ones
FAST = {
    "resnet18",
    "resnet50_output_stride_8",
    "resnet50d",
    "mobilenet_v2_half",
    "mobilenet_v3_small",
    "fcn_resnet50",
    "deeplabv3_resnet50",
    "lraspp_mobilenet_v3_large",
    "smp_deeplabv3plus_resnet18",
    "smp_pspnet_resnet18",
    "smp_unet_resnet18",
    "smp_unetplusplus_resnet18",
    "timm_mobilenet_v2_half",
    "timm_mobilenet_v3_small",
    "paddleseg_unet",
    "paddleseg_unetplusplus",
    "paddleseg_segnet",
    "paddleseg_pspnet_resnet50",
    "paddleseg_deeplabv3p_resnet50",
    "paddleseg_deeplabv3p_xception65",
}
CASES = [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow], id=name) for name in NAMES]
MAPS = {
    "layer1": "layer1",
    "blocks.0": "blocks0",
    "blocks.1.stack.conv2": "blocks1_conv2",
    "blocks.1": "blocks1",
    "blocks.18": "middle",
    "blocks.20": "exit",
    "blocks.2": "features6",
    "bn2": "features18",
    "blocks.5": "features12",
    "blocks.6": "features16",
}


def read(name):
    with np.load(FOLDER / "networks" / f"{name}.npz") as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("config"))), json.loads(str(arrays.pop("gradient"))), arrays


def imported(config, folder, name):
    state = {key: fill(key, tuple(shape)) for key, shape in config["shapes"].items()}
    save_state(state, folder / "theirs.safetensors")
    foreign = read_foreign(folder / "theirs.safetensors")
    assert foreign.format == config["library"]
    network = describe(foreign, foreign.entries, None)
    if network.model is None:
        stride = 32
        if "output_stride" in name:
            stride = int(name.rpartition("_")[2])
        network.backbone["output_stride"] = stride
    if "align_corners" in name:  # the file cannot say
        network.arguments["align_corners"] = True
    layer = build(network)
    report = load_foreign(layer, foreign, what=name)
    assert not report.names("missing")
    layer.to(dtype="float64")  # rounding set aside
    layer.eval()
    return layer, foreign


def outputs_of(layer, config, x):
    if not config["maps"]:
        return layer(x)
    return layer(x, [MAPS.get(place, place.replace("features.", "features")) for place in config["maps"]])


def relative_error(got, expected):
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", CASES)
def test_logits_and_gradients_equal_the_librarys_own(name, tmp_path):
    config, gradient, arrays = read(name)
    layer, foreign = imported(config, tmp_path, name)
    for index, size in enumerate(config["sizes"]):
        x = paddle.to_tensor(image(tuple(size)).astype("float64"))
        with paddle.no_grad():
            results = outputs_of(layer, config, x)
        for number, result in enumerate(results):
            expected = arrays[f"logits/{index}/{number}"]
            assert relative_error(result.numpy()[..., ::STEP, ::STEP], expected) < 1e-5
    layer.train()
    for part in layer.sublayers():
        if isinstance(part, paddle.nn.BatchNorm2D):
            part.eval()  # the library's statistics stand, so that gradients do not hang on rounding
        if isinstance(part, paddle.nn.Dropout):
            part.p = 0.0
    results = outputs_of(layer, config, x)
    supervised = name.startswith("paddleseg_unetplusplus")  # theirs trains the mean of the levels
    results = [sum(results) / len(results)] if supervised else results
    assert len(results) == sum(key.startswith("train/") for key in arrays)
    for number, result in enumerate(results):
        assert relative_error(result.numpy()[..., ::STEP, ::STEP], arrays[f"train/{number}"]) < 1e-5
    loss = sum(
        (y * paddle.to_tensor(noise(k, tuple(y.shape)).astype("float64"))).mean()
        for k, y in enumerate(results)
    )
    loss.backward()
    assert gradient_error(layer, foreign, gradient, model=not config["maps"]) < 1e-4


def gradient_error(layer, foreign, gradient, *, model):
    """The largest difference of a norm, or of a product with the weight, relative to the largest norm."""
    # a stage that nothing stands on has no gradient here, and none there
    own = {key: p for key, p in layer.named_parameters() if not p.stop_gradient and p.grad is not None}
    names = {
        entry.source: entry.name if model else entry.name[len("backbone.") :] for entry in foreign.entries
    }
    largest = max(norm for norm, _ in gradient.values())
    worst, seen = 0.0, set()
    for source, (norm, product) in gradient.items():
        if names.get(source) not in own:
            continue  # a bias under BatchNorm, which our convolutions leave out
        parameter = own[names[source]]
        got = parameter.grad
        scale = max(1.0, float(parameter.norm()))
        worst = max(worst, abs(float(got.norm()) - norm) / largest)
        worst = max(worst, abs(float((got * parameter).sum()) - product) / largest / scale)
        seen.add(names[source])
    assert seen == set(own)
    return worst
