"""A network on a processor turns into its own export where that pays, and only if both agree."""

from pathlib import Path

import numpy as np
import paddle
import pytest

import paddlefcn
import paddlefcn.deploy.fast_path as fast_path
from paddlefcn.backbones import VGG
from paddlefcn.data.images import Normalize
from paddlefcn.deploy.fast_path import fast_network
from paddlefcn.inference import MultiScale, SlidingWindow, WholeImage
from paddlefcn.models import FCN8s

NORMALIZE = Normalize(255, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), "BGR")


def tiny(seed=0):
    paddle.seed(seed)
    net = FCN8s(VGG(arch=[1, 1, 1, 1, 1], width=8), num_classes=3, fc_channels=16, fc6_kernel=3)
    for name, parameter in net.named_parameters():
        if name.startswith("score"):
            parameter.set_value(paddle.randn(parameter.shape))
    net.eval()
    return net


def shown(count=5):
    rng = np.random.default_rng(1)
    return [paddle.to_tensor(rng.normal(size=(1, 3, 40 + 7 * k, 55)).astype("float32")) for k in range(count)]


@pytest.fixture
def always_worth(monkeypatch):
    monkeypatch.setattr(fast_path, "_SECONDS", 0.0)
    monkeypatch.setattr(fast_path, "_SECONDS_A_BYTE", 0.0)


@pytest.mark.parametrize("inference", [WholeImage(), MultiScale([1.0, 0.5], inner=SlidingWindow(32, 24))])
def test_the_export_takes_over_with_the_same_scores_and_says_so(always_worth, capsys, inference):
    net = tiny()
    fast = fast_network(net, NORMALIZE, images=5)
    for image in shown():
        ours, theirs = inference(fast, image).numpy(), inference(net, image).numpy()
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
    assert fast.engine is not None
    assert capsys.readouterr().out.count("runs as its own export from here on") == 1
    assert type(net.dropout) is paddle.nn.Dropout


def test_an_export_that_disagrees_is_not_used_and_the_network_goes_on(always_worth, capsys, monkeypatch):
    real = fast_path.write_program
    monkeypatch.setattr(fast_path, "write_program", lambda model, *more: real(tiny(seed=1), *more))
    net = tiny()
    fast = fast_network(net, NORMALIZE, images=5)
    with paddle.no_grad():
        for image in shown():
            np.testing.assert_array_equal(fast(image)[0].numpy(), net(image)[0].numpy())
    assert fast.engine is None
    line = capsys.readouterr().out
    assert line.startswith("the network itself runs, because its export cannot be used here: it disagrees")
    assert line.count("\n") == 1


def test_a_full_disk_leaves_the_network_to_run(always_worth, capsys, monkeypatch):
    def full(*more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fast_path, "write_program", full)
    fast = fast_network(tiny(), NORMALIZE, images=5)
    for image in shown():
        fast(image)
    assert "No space left on device" in capsys.readouterr().out


def test_few_or_small_images_are_not_worth_an_export(monkeypatch, capsys):
    monkeypatch.setattr(fast_path, "write_program", None)
    fast = fast_network(tiny(), NORMALIZE, images=6)
    for image in shown():
        fast(image)
    assert fast.engine is None
    assert capsys.readouterr().out == ""


def test_tiles_without_end_of_one_image_are_worth_it_once_they_took_as_long(monkeypatch, capsys):
    now = iter(range(0, 3000, 6))  # six seconds for each image
    monkeypatch.setattr(fast_path.time, "perf_counter", lambda: float(next(now)))
    fast = fast_network(tiny(), NORMALIZE, images=1)
    turned = []
    for image in shown():
        fast(image)
        turned.append(fast.engine is not None)
    assert turned == [False, True, True, True, True]  # 0.4 of 12 seconds are more than 4


def test_nothing_of_training_uses_it():
    package = Path(paddlefcn.__file__).parent
    for room in ("engine", "training"):
        for file in (package / room).rglob("*.py"):
            assert "fast_path" not in file.read_text("utf-8"), file
            assert "fast_network" not in file.read_text("utf-8"), file
