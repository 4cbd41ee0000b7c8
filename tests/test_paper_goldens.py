"""Networks that no library of the goldens beside has, against implementations written out from their papers.

The goldens are made by tests/goldens/make_paper_goldens.py; weights are drawn by name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlefcn.backbones import BACKBONES
from paddlefcn.models import MODELS, resolve

FOLDER = Path(__file__).parent / "goldens"
sys.path.insert(0, str(FOLDER))
from synthetic import STEP, fill, image, noise  # noqa: E402

NAMES = sorted(path.stem for path in (FOLDER / "papers").glob("*.npz"))
FAST = {"ddrnet", "deeplabv1_vgg", "refinenet_resnet50"}
CASES = [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow], id=name) for name in NAMES]


def read(name):
    with np.load(FOLDER / "papers" / f"{name}.npz") as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("config"))), json.loads(str(arrays.pop("gradient"))), arrays


def build(config):
    section = dict(config["model"])
    name, backbone = section.pop("type"), dict(section.pop("backbone"))
    kind = backbone.pop("type")
    name, section, backbone = resolve(name, section, kind, backbone)
    model = MODELS[name](BACKBONES[kind](**backbone), num_classes=config["num_classes"], **section)
    assert {key: list(tensor.shape) for key, tensor in model.state_dict().items()} == config["shapes"]
    model.set_state_dict({key: fill(key, tuple(shape)) for key, shape in config["shapes"].items()})
    model.to(dtype="float64")  # rounding set aside
    return model


def relative_error(got, expected):
    got = got.numpy()[..., ::STEP, ::STEP]
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", CASES)
def test_logits_and_gradients_equal_the_papers_network_written_out(name):
    config, gradient, arrays = read(name)
    model = build(config)
    model.eval()
    for index, size in enumerate(config["sizes"]):
        x = paddle.to_tensor(image(tuple(size)).astype("float64"))
        with paddle.no_grad():
            (logits,) = model(x)
        assert relative_error(logits, arrays[f"logits/{index}"]) < 1e-5
    model.train()
    for part in model.sublayers():
        if isinstance(part, paddle.nn.BatchNorm2D):
            part.eval()  # the drawn statistics stand, so that gradients do not hang on rounding
        if isinstance(part, paddle.nn.Dropout):
            part.p = 0.0
    outputs = model(x)
    assert len(outputs) == sum(key.startswith("train/") for key in arrays)
    for number, output in enumerate(outputs):
        assert relative_error(output, arrays[f"train/{number}"]) < 1e-5
    sum(
        (y * paddle.to_tensor(noise(k, tuple(y.shape)).astype("float64"))).mean()
        for k, y in enumerate(outputs)
    ).backward()
    own = {key: p for key, p in model.named_parameters() if not p.stop_gradient}
    assert set(own) == set(gradient)
    largest = max(norm for norm, _ in gradient.values())
    for key, (norm, product) in gradient.items():
        got, scale = own[key].grad, max(1.0, float(own[key].norm()))
        assert abs(float(got.norm()) - norm) / largest < 1e-4, key
        assert abs(float((got * own[key]).sum()) - product) / largest / scale < 1e-4, key
