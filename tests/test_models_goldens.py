"""Networks, gradients and training against what PyTorch computed (tests/goldens/make_goldens.py)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from paddlefcn.backbones import BACKBONES
from paddlefcn.models import MODELS, resolve
from paddlefcn.models.published_fcn import PUBLISHED
from paddlefcn.optim import Groups, Poly, momentum

FOLDER = Path(__file__).parent / "goldens"
STEP = 3  # the goldens keep every third row and column of an output
NETWORKS = sorted(path.stem for path in FOLDER.glob("*.npz") if path.stem != "trajectory")


def read(name):
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("config"))), arrays


def build(config, arrays):
    kind, backbone = config["backbone"]["type"], {**config["backbone"]}
    del backbone["type"]
    name, arguments, backbone = resolve(config["model"]["type"], config["model"]["arguments"], kind, backbone)
    model = MODELS[name](BACKBONES[kind](**backbone), **arguments)
    weights = {
        key[len("weight/") :]: paddle.to_tensor(value.astype("float32"))
        for key, value in arrays.items()
        if key.startswith("weight/")
    }
    missing, unexpected = model.set_state_dict(weights)
    assert not missing
    assert not unexpected
    assert {key: value.shape for key, value in model.state_dict().items()} == {
        key: value.shape for key, value in weights.items()
    }
    return model


def network_input(image):
    return paddle.to_tensor(image.astype("float32") / 64 - 2)


def training_loss(outputs, label):
    label = paddle.to_tensor(label.astype("int64"))
    losses = [F.cross_entropy(logits, label, ignore_index=255, axis=1) for logits in outputs]
    return sum(loss / 2**index for index, loss in enumerate(losses))


def relative_error(got, expected):
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def logits_errors(config, arrays):
    model = build(config, arrays)
    model.eval()
    errors = []
    for index in range(len(config["sizes"])):
        outputs = model(network_input(arrays[f"image/{index}"]))
        assert len(outputs) == 1
        assert outputs[0].shape[2:] == config["sizes"][index]
        got = outputs[0].numpy()[..., ::STEP, ::STEP]
        errors.append(relative_error(got, arrays[f"logits/{index}"]))
    return errors


def training_errors(config, arrays):
    """(largest error of the training outputs, of the loss, of the gradients), all relative."""
    model = build(config, arrays)
    model.train()
    outputs = model(network_input(arrays[f"image/{len(config['sizes']) - 1}"]))
    assert len(outputs) == model.num_outputs == sum(key.startswith("train/") for key in arrays)
    loss = training_loss(outputs, arrays["label"])
    loss.backward()
    expected = {key.split("/", 1)[1]: arrays[key] for key in arrays if key.startswith("gradient/")}
    got = {name: p.grad.numpy() for name, p in model.named_parameters() if not p.stop_gradient}
    assert got.keys() == expected.keys()
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    gradients = max(np.abs(got[name] - expected[name]).max() / largest for name in expected)
    output = max(
        relative_error(logits.numpy()[..., ::STEP, ::STEP], arrays[f"train/{index}"])
        for index, logits in enumerate(outputs)
    )
    return output, abs(loss.item() / float(arrays["loss"]) - 1), float(gradients)


def follow_trajectory(config, arrays):
    """(30 losses, eval-mode logits after them) of the package's own optimizer and schedule."""
    settings = config["training"]
    model = build(config, arrays)
    groups = Groups(head_lr_factor=settings["head_lr_factor"], bias_lr_factor=settings["bias_lr_factor"])
    optimizer = momentum(model, groups, settings["weight_decay"], settings["momentum"])
    schedule = Poly(settings["learning_rate"], settings["iters"], power=settings["power"])
    losses = []
    model.train()
    for iteration in range(1, settings["iters"] + 1):
        batch = (iteration - 1) % settings["batches"]
        optimizer.set_lr(schedule(iteration))
        outputs = model(network_input(arrays["images"][batch]))
        loss = training_loss(outputs, arrays["labels"][batch])
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        losses.append(loss.item())
    model.eval()
    logits = model(network_input(arrays["images"][0]))[0].numpy()
    return np.array(losses), logits[..., ::STEP, ::STEP]


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_equal_pytorch_at_odd_sizes(name):
    assert max(logits_errors(*read(name))) < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_training_outputs_loss_and_every_gradient_equal_pytorch(name):
    output, loss, gradients = training_errors(*read(name))
    # batch statistics over the 8 cells of the deepest map amplify float32's rounding: not 1e-5 here
    assert output < 5e-5
    assert loss < 1e-5
    assert gradients < 1e-4


def test_thirty_training_steps_follow_pytorch():
    config, arrays = read("trajectory")
    losses, logits = follow_trajectory(config, arrays)
    np.testing.assert_allclose(losses, arrays["losses"], rtol=1e-4)
    # eval mode: the running statistics moved as Paddle moves them (biased variance, momentum 0.9)
    assert relative_error(logits, arrays["logits"]) < 1e-3


def test_goldens_cover_every_fcn():
    sections = [read(name)[0]["model"] for name in NETWORKS]
    covered = {resolve(x["type"], x["arguments"], "VGG", {})[0] for x in sections}
    assert covered == {*PUBLISHED, *(f"Published{name}" for name in PUBLISHED), "FCNAlexNet"}
