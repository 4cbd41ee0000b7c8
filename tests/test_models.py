"""What every model of the table must do; a new entry is tested by being there."""

from __future__ import annotations

import paddle
import pytest
from networks import build_model, noise, woken
from paddle.static import InputSpec

from paddlefcn.backbones import BACKBONES
from paddlefcn.layers import use_export_form
from paddlefcn.models import MODELS, SegmentationModel

SIZES = [(1, 1), (17, 5), (37, 45)]


@pytest.mark.parametrize("name", MODELS)
def test_logits_have_the_size_of_the_image_whatever_it_is(name):
    model = build_model(name)
    model.eval()
    assert isinstance(model, SegmentationModel)
    for size in SIZES:
        assert [list(x.shape) for x in model(noise(2, 3, *size))] == [[2, 5, *size]]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("in_channels", [1, 4])
def test_any_number_of_input_channels(name, in_channels):
    model = build_model(name, in_channels=in_channels)
    model.eval()
    assert model(noise(1, in_channels, 20, 9))[0].shape == [1, 5, 20, 9]


@pytest.mark.parametrize("name", MODELS)
def test_training_returns_as_many_outputs_as_there_are_weights_for_them(name):
    model = build_model(name)
    image = noise(2, 3, 37, 45)
    outputs = model(image)
    assert model.num_outputs == len(model.output_weights) == len(outputs)
    assert [list(x.shape) for x in outputs] == [[2, 5, 37, 45]] * len(outputs)
    assert min(model.output_weights) > 0
    model.eval()
    assert len(model(image)) == 1


@pytest.mark.parametrize("name", MODELS)
def test_gradient_reaches_every_parameter(name):
    model = woken(build_model(name))
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.Dropout):
            layer.p = 0.0
    outputs = model(noise(2, 3, 70, 95))
    sum((x * noise(*x.shape, seed=1)).sum() for x in outputs).backward()
    learned = [(key, p) for key, p in model.named_parameters() if not p.stop_gradient]
    assert [key for key, p in learned if p.grad is None or float(p.grad.abs().sum()) == 0] == []


def export_error(model, folder):
    """The largest relative difference between a model and what was exported of it, at every size."""
    model.eval()
    inputs = [noise(2, 3, *size) for size in SIZES]
    expected = [model(x)[0] for x in inputs]
    use_export_form(model)
    spec = InputSpec([None, 3, None, None], "float32", name="image")
    paddle.jit.save(model, str(folder / "model"), input_spec=[spec])
    loaded = paddle.jit.load(str(folder / "model"))
    errors = []
    for x, y in zip(inputs, expected):
        got = loaded(x)
        got = got[0] if isinstance(got, (list, tuple)) else got
        assert list(got.shape) == list(y.shape)
        errors.append(float((got - y).abs().max() / y.abs().max()))
    return max(errors)


@pytest.mark.parametrize("name", MODELS)
def test_export_at_any_size_gives_the_same_logits(tmp_path, name):
    assert export_error(woken(build_model(name)), tmp_path) < 2e-6


@pytest.mark.parametrize("name", MODELS)
def test_each_model_goes_with_its_default_backbone(name):
    model = MODELS[name]
    with paddle.LazyGuard():
        backbone = BACKBONES[model.default_backbone](**model.backbone_arguments)
        assert model(backbone, num_classes=2).backbone is backbone


@pytest.mark.parametrize("name", MODELS)
def test_equal_seeds_build_equal_models(name):
    first, second = build_model(name), build_model(name)
    for (key, one), (_, two) in zip(first.state_dict().items(), second.state_dict().items()):
        assert bool((one == two).all()), key


@pytest.mark.parametrize("name", MODELS)
def test_a_model_without_classes_is_refused(name):
    with pytest.raises(ValueError, match="num_classes: got 0, expected at least 1"):
        build_model(name, num_classes=0)
