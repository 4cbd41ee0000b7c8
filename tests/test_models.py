"""What every model of the table must do, and what only some can."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle.static import InputSpec

from paddlefcn.backbones import BACKBONES, VGG11, VGG16, AlexNet
from paddlefcn.layers import Upsample, use_export_form
from paddlefcn.models import MODELS, FCN8s, FCN16s, FCN32s, FCNAlexNet

SIZES = [(1, 1), (17, 5), (37, 45)]
NARROW_ALEXNET = [4, 4, 6, 6, 4]
REFERENCE = {"padding": "reference"}


def noise(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype("float32"))


def build(name, in_channels=3, **arguments):
    """A narrow model of the table; a new model on another backbone needs a line here."""
    paddle.seed(5)
    model = MODELS[name]
    given = model.backbone_arguments(**arguments)
    if name == "FCNAlexNet":
        backbone = AlexNet(widths=NARROW_ALEXNET, in_channels=in_channels, **given)
    else:
        backbone = VGG11(width=2, in_channels=in_channels, **given)
    return model(backbone, num_classes=5, fc_channels=6, **arguments)


def woken(model):
    """The score layers start from zero, which hides everything below them: give them values."""
    for index, (name, parameter) in enumerate(model.named_parameters()):
        if name.startswith("score_"):
            parameter.set_value(noise(*parameter.shape, seed=index))
    return model


def variants():
    """Every model, and every way to upsample that it offers."""
    for name in MODELS:
        yield name, {}
        if name == "FCNAlexNet":
            continue
        yield name, REFERENCE
        yield name, {"upsample": "transposed"}
        yield name, {"upsample": "transposed", "upsample_dense": True}
        yield name, {"align_corners": True}


VARIANTS = list(variants())
SUPERVISED = ["FCN16s", "FCN8s", "FCN8sAtOnce"]


@pytest.mark.parametrize(("name", "arguments"), VARIANTS)
def test_logits_have_the_size_of_the_image_whatever_it_is(name, arguments):
    model = build(name, **arguments)
    model.eval()
    for size in SIZES:
        assert [list(x.shape) for x in model(noise(2, 3, *size))] == [[2, 5, *size]]
        assert model.output_size(*size) == size


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("in_channels", [1, 4])
def test_any_number_of_input_channels(name, in_channels):
    model = build(name, in_channels=in_channels)
    model.eval()
    assert model(noise(1, in_channels, 20, 9))[0].shape == [1, 5, 20, 9]


@pytest.mark.parametrize(("name", "arguments"), VARIANTS)
def test_gradient_reaches_every_parameter(name, arguments):
    more = {} if name == "FCNAlexNet" else {"deep_supervision": False}
    if name in SUPERVISED and arguments != REFERENCE:
        more = {"deep_supervision": True}
    model = woken(build(name, dropout=0.0, **arguments, **more))
    outputs = model(noise(2, 3, 70, 95))
    sum((x * noise(*x.shape, seed=1)).sum() for x in outputs).backward()
    learned = [(key, p) for key, p in model.named_parameters() if not p.stop_gradient]
    assert [key for key, p in learned if float(p.grad.abs().sum()) == 0] == []


@pytest.mark.parametrize(("name", "arguments"), VARIANTS)
def test_export_at_any_size_gives_the_same_logits(tmp_path, name, arguments):
    model = woken(build(name, **arguments))
    model.eval()
    inputs = [noise(2, 3, *size) for size in SIZES]
    expected = [model(x)[0] for x in inputs]
    use_export_form(model)
    spec = InputSpec([None, 3, None, None], "float32", name="image")
    paddle.jit.save(model, str(tmp_path / "model"), input_spec=[spec])
    loaded = paddle.jit.load(str(tmp_path / "model"))
    for x, y in zip(inputs, expected):
        got = loaded(x)
        got = got[0] if isinstance(got, (list, tuple)) else got
        assert list(got.shape) == list(y.shape)
        assert float((got - y).abs().max() / y.abs().max()) < 2e-6


@pytest.mark.parametrize("name", MODELS)
def test_each_model_goes_with_its_default_backbone(name):
    model = MODELS[name]
    with paddle.LazyGuard():
        backbone = BACKBONES[model.default_backbone](**model.backbone_arguments())
        assert model(backbone, num_classes=2).backbone is backbone


@pytest.mark.parametrize("name", MODELS)
def test_equal_seeds_build_equal_models(name):
    first, second = build(name), build(name)
    for (key, one), (_, two) in zip(first.state_dict().items(), second.state_dict().items()):
        assert bool((one == two).all()), key


@pytest.mark.parametrize("name", SUPERVISED)
def test_deep_supervision_returns_every_stride_in_training_and_one_in_evaluation(name):
    model = woken(build(name, deep_supervision=True, dropout=0.0))
    strides = 2 if name == "FCN16s" else 3
    image = noise(2, 3, 37, 45)
    outputs = model(image)
    assert model.num_outputs == strides
    assert [x.shape for x in outputs] == [[2, 5, 37, 45]] * strides
    model.eval()
    assert len(model(image)) == 1


def test_deep_supervision_is_main_first_then_16s_then_32s():
    model = woken(build("FCN8s", deep_supervision=True, dropout=0.0, upsample="bilinear"))
    for score in (model.score_pool3, model.score_pool4):
        score.weight.set_value(paddle.zeros_like(score.weight))
        score.bias.set_value(paddle.zeros_like(score.bias))
    model.score_pool3.bias.set_value(paddle.full_like(model.score_pool3.bias, 100.0))
    main, sixteen, coarse = model(noise(2, 3, 64, 64))
    assert float((main - sixteen).mean()) == pytest.approx(100, abs=5)
    assert float((sixteen - coarse).abs().mean()) < 5


@pytest.mark.parametrize("name", MODELS)
def test_one_output_without_deep_supervision(name):
    model = build(name)
    assert model.num_outputs == len(model(noise(2, 3, 40, 40))) == 1


@pytest.mark.parametrize("name", MODELS)
def test_scores_start_from_zero_so_that_no_class_is_preferred(name):
    model = build(name)
    model.eval()
    assert float(model(noise(1, 3, 20, 30))[0].abs().max()) == 0


def test_state_dict_carries_the_names_of_the_authors_layers():
    model = build("FCN8s", upsample="transposed", deep_supervision=True)
    layers = {key.split(".")[0] for key in model.state_dict()}
    scores = {"score_fr", "score_pool4", "score_pool3"}
    kernels = {"upscore2", "upscore_pool4", "upscore8", "upscore16", "upscore32"}
    assert layers == {"backbone", "fc6", "fc7"} | scores | kernels
    assert "backbone.conv1_1.conv.weight" in model.state_dict()
    assert "fc6.bn._mean" in model.state_dict()


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("FCN32s", 136_152_917),
        ("FCN16s", 134_815_994),
        ("FCN8s", 134_489_759),
        ("FCN8sAtOnce", 134_489_759),
    ],
)
def test_parameter_counts_are_the_published_ones(name, published):
    with paddle.LazyGuard():  # 134 million values need not be drawn to be counted
        backbone = VGG16(**MODELS[name].backbone_arguments(**REFERENCE))
        model = MODELS[name](backbone, num_classes=21, **REFERENCE)
    assert sum(int(np.prod(p.shape)) for p in model.parameters()) == published


@pytest.mark.parametrize("name", MODELS)
def test_published_networks_keep_every_size_up_to_1300_by_arithmetic(name):
    model = build(name, **({} if name == "FCNAlexNet" else REFERENCE))
    # height and width do not meet in any layer, so the diagonal covers all pairs
    wrong = [n for n in range(1, 1301) if model.output_size(n, 1301 - n) != (n, 1301 - n)]
    assert wrong == []


@pytest.mark.parametrize("name", MODELS)
def test_published_networks_keep_a_sample_of_sizes_when_run(name):
    model = build(name, **({} if name == "FCNAlexNet" else REFERENCE))
    model.eval()
    for size in [(2, 31), (32, 33), (63, 64), (65, 1), (96, 127), (5, 200)]:
        assert model(noise(1, 3, *size))[0].shape[2:] == list(size)


@pytest.mark.parametrize(
    ("learn", "expected"),
    [
        (None, set()),
        ("none", set()),
        ("intermediate", {"upscore2", "upscore_pool4"}),
        ("all", {"upscore2", "upscore_pool4", "upscore8"}),
    ],
)
def test_learn_upsampling_says_which_deconvolutions_train(learn, expected):
    model = build("FCN8s", learn_upsampling=learn, **REFERENCE)
    layers = {key: x for key, x in model.named_sublayers() if isinstance(x, Upsample)}
    assert {key for key, x in layers.items() if not x.weight.stop_gradient} == expected
    assert set(layers) == {"upscore2", "upscore_pool4", "upscore8"}


def test_deconvolutions_of_the_default_variant_train_unless_told_otherwise():
    assert not build("FCN8s", upsample="transposed").upscore8.weight.stop_gradient
    frozen = build("FCN8s", upsample="transposed", learn_upsampling="none")
    assert frozen.upscore8.weight.stop_gradient


def test_at_once_scales_the_pools_before_their_scores():
    plain, scaled = woken(build("FCN8s")), woken(build("FCN8sAtOnce"))
    scaled.score_pool4.weight.set_value(plain.score_pool4.weight * 100)
    scaled.score_pool3.weight.set_value(plain.score_pool3.weight * 10_000)
    image = noise(1, 3, 40, 50)
    for model in (plain, scaled):
        model.eval()
    expected = plain(image)[0]
    assert float((scaled(image)[0] - expected).abs().max() / expected.abs().max()) < 1e-5


def test_align_corners_is_what_paddles_own_upsampling_layer_does():
    model = woken(build("FCN32s", align_corners=True))
    model.eval()
    image = noise(1, 3, 64, 96)
    coarse = model._coarse_score(model.backbone(image)[-1])
    expected = paddle.nn.UpsamplingBilinear2D(scale_factor=32)(coarse)
    assert bool((model(image)[0] == expected).all())


def test_a_notebook_needs_the_backbone_and_the_number_of_classes():
    import paddlefcn

    model = paddlefcn.FCN8s(paddlefcn.VGG16(width=1), num_classes=21, fc_channels=2)
    assert type(model) is FCN8s


VGG_REFERENCE = {"padding": "reference", "batch_norm": False}


@pytest.mark.parametrize(
    ("model", "backbone", "arguments", "message"),
    [
        (FCN8s, {}, {"padding": "valid"}, "padding: got 'valid', expected same or reference"),
        (FCN8s, {}, REFERENCE, "the model has 'reference' but its backbone VGG11 has 'same'"),
        (FCN8s, VGG_REFERENCE, {}, "the model has 'same' but its backbone VGG11 has 'reference'"),
        (FCN8s, REFERENCE, REFERENCE, "without BatchNorm"),
        (FCN8s, VGG_REFERENCE, {**REFERENCE, "upsample": "bilinear"}, "upsample: got 'bilinear'"),
        (FCN8s, VGG_REFERENCE, {**REFERENCE, "upsample_dense": False}, "upsample_dense: got False"),
        (FCN8s, VGG_REFERENCE, {**REFERENCE, "align_corners": True}, "align_corners: got True"),
        (FCN8s, VGG_REFERENCE, {**REFERENCE, "deep_supervision": True}, "deep_supervision: got"),
        (FCN8s, VGG_REFERENCE, {**REFERENCE, "fc6_kernel": 3}, "fc6_kernel: got 3"),
        (FCN8s, {}, {"fc6_kernel": 4}, "expected an odd number such as 3 or 5"),
        (FCN8s, {}, {"upsample": "nearest"}, "expected one of bilinear, transposed"),
        (FCN8s, {}, {"learn_upsampling": "all"}, "learn_upsampling: got 'all', but bilinear"),
        (FCN8s, {}, {"upsample_dense": True}, "upsample_dense: got True, but bilinear"),
        (FCN8s, {}, {"learn_upsampling": "some"}, "expected none, intermediate, all"),
        (FCN8s, {}, {"upsample": "transposed", "align_corners": True}, "align_corners: true has"),
        (FCN8s, {}, {"dropout": 1.0}, "dropout: got 1.0"),
        (FCN32s, {}, {"deep_supervision": True}, "FCN32s has one output; use FCN16s or FCN8s"),
        (FCNAlexNet, VGG_REFERENCE, {}, "FCNAlexNet goes with AlexNet"),
    ],
)
def test_contradictions_are_refused_in_one_line(model, backbone, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        model(VGG11(width=1, **backbone), num_classes=2, fc_channels=2, **arguments)
    assert "\n" not in str(error.value)


def test_a_model_refuses_a_backbone_it_was_not_published_on():
    with pytest.raises(ValueError, match="FCNAlexNet goes with AlexNet, the others with VGG"):
        FCN16s(AlexNet(widths=NARROW_ALEXNET), num_classes=2, **REFERENCE)
    backbone = VGG11(width=1)
    backbone.strides = (2, 4, 8, 16)
    with pytest.raises(ValueError, match="an FCN needs the last three to be 8, 16 and 32"):
        FCN16s(backbone, num_classes=2)
    with pytest.raises(ValueError, match="num_classes: got 0"):
        FCN16s(VGG11(width=1), num_classes=0)
    with pytest.raises(ValueError, match="fc_channels: got 0"):
        FCN16s(VGG11(width=1), num_classes=2, fc_channels=0)
