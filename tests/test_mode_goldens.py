"""The papers' own modes against an independent implementation (tests/goldens/make_mode_goldens.py)."""

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
from synthetic import fill, image, noise  # noqa: E402

NAMES = sorted(path.stem for path in (FOLDER / "modes").glob("*.npz"))


def built(section, classes):
    """The model, or the backbone alone where the section names no model."""
    section = dict(section)
    backbone, name = dict(section.pop("backbone")), section.pop("type", None)
    kind = backbone.pop("type")
    if name is None:
        return BACKBONES[kind](**backbone)
    name, section, backbone = resolve(name, section, kind, backbone)
    return MODELS[name](BACKBONES[kind](**backbone), num_classes=classes, **section)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_are_those_of_the_paper(name):
    with np.load(FOLDER / "modes" / f"{name}.npz") as file:
        arrays = dict(file)
    config, gradient = (json.loads(str(arrays.pop(key))) for key in ("config", "gradient"))
    layer = built(config["model"], config["classes"])
    shapes = {key: list(tensor.shape) for key, tensor in layer.state_dict().items()}
    assert shapes == config["shapes"]
    layer.set_state_dict({key: fill(key, tuple(shape)) for key, shape in shapes.items()})
    layer.to(dtype="float64")  # rounding set aside
    layer.eval()
    names = [] if "type" in config["model"] else [["layer1", "layer2", "layer3", "layer4"]]
    step = config["step"]
    for index, size in enumerate(config["sizes"]):
        x = paddle.to_tensor(image(tuple(size)).astype("float64"))
        results = layer(x, *names)
        for number, y in enumerate(results):
            expected = arrays.pop(f"output/{index}/{number}")
            got = y.numpy()[..., ::step, ::step]
            assert got.shape == expected.shape
            assert np.abs(got - expected).max() / np.abs(expected).max() < 1e-5
        if index == 0:
            pairs = [(y, noise(k, tuple(y.shape)).astype("float64")) for k, y in enumerate(results)]
            sum((y * paddle.to_tensor(values)).mean() for y, values in pairs).backward()
    assert not arrays
    largest = max(norm for norm, _ in gradient.values())
    learned = {key: p for key, p in layer.named_parameters() if not p.stop_gradient}
    assert set(learned) == set(gradient)
    for key, p in learned.items():
        norm, product = gradient[key]
        assert abs(float(p.grad.norm()) - norm) < 1e-4 * largest, key
        scale = max(1.0, float(p.norm()))
        assert abs(float((p.grad * p).sum()) - product) < 1e-4 * largest * scale, key
