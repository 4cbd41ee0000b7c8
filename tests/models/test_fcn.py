"""The FCN of every backbone: what is true of it alone."""

from __future__ import annotations

import paddle
import pytest
from networks import build_model, noise, woken
from test_models import export_error

from paddlefcn.backbones import VGG11, AlexNet
from paddlefcn.layers import Upsample
from paddlefcn.models import FCN8s, FCN16s, FCN32s

SIZES = [(1, 1), (17, 5), (37, 45)]
NAMES = ["FCN32s", "FCN16s", "FCN8s", "FCN8sAtOnce"]
SUPERVISED = NAMES[1:]
UPSAMPLING = [
    {"upsample": "transposed"},
    {"upsample": "transposed", "upsample_dense": True},
    {"align_corners": True},
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arguments", UPSAMPLING, ids=str)
def test_every_upsampling_keeps_sizes_trains_everything_and_exports(name, arguments, tmp_path):
    more = {"deep_supervision": True} if name in SUPERVISED else {}
    model = woken(build_model(name, dropout=0.0, **arguments, **more))
    outputs = model(noise(2, 3, 70, 95))
    sum((x * noise(*x.shape, seed=1)).sum() for x in outputs).backward()
    learned = [(key, p) for key, p in model.named_parameters() if not p.stop_gradient]
    assert [key for key, p in learned if float(p.grad.abs().sum()) == 0] == []
    assert export_error(model, tmp_path) < 2e-6


@pytest.mark.parametrize("name", SUPERVISED)
def test_deep_supervision_returns_every_stride_in_training_and_one_in_evaluation(name):
    model = woken(build_model(name, deep_supervision=True, dropout=0.0))
    strides = 2 if name == "FCN16s" else 3
    image = noise(2, 3, 37, 45)
    outputs = model(image)
    assert model.num_outputs == strides
    assert model.output_weights == (1.0, 0.4, 0.4)[:strides]
    assert [x.shape for x in outputs] == [[2, 5, 37, 45]] * strides
    model.eval()
    assert len(model(image)) == 1


def test_deep_supervision_is_main_first_then_16s_then_32s():
    model = woken(build_model("FCN8s", deep_supervision=True, dropout=0.0, upsample="bilinear"))
    for score in (model.score_pool3, model.score_pool4):
        score.weight.set_value(paddle.zeros_like(score.weight))
        score.bias.set_value(paddle.zeros_like(score.bias))
    model.score_pool3.bias.set_value(paddle.full_like(model.score_pool3.bias, 100.0))
    main, sixteen, coarse = model(noise(2, 3, 64, 64))
    assert float((main - sixteen).mean()) == pytest.approx(100, abs=5)
    assert float((sixteen - coarse).abs().mean()) < 5


@pytest.mark.parametrize("name", NAMES)
def test_scores_start_from_zero_so_that_no_class_is_preferred(name):
    model = build_model(name)
    model.eval()
    assert float(model(noise(1, 3, 20, 30))[0].abs().max()) == 0


def test_state_dict_carries_the_names_of_the_authors_layers():
    model = build_model("FCN8s", upsample="transposed", deep_supervision=True)
    layers = {key.split(".")[0] for key in model.state_dict()}
    scores = {"score_fr", "score_pool4", "score_pool3"}
    kernels = {"upscore2", "upscore_pool4", "upscore8", "upscore16", "upscore32"}
    assert layers == {"backbone", "fc6", "fc7"} | scores | kernels
    assert "backbone.conv1_1.conv.weight" in model.state_dict()
    assert "fc6.bn._mean" in model.state_dict()


def test_fc6_and_fc7_go_without_batch_norm_where_the_backbone_does():
    without = build_model("FCN8s", backbone={"type": "VGG11", "width": 2, "batch_norm": False})
    assert not any(".bn." in key for key in without.state_dict())
    told = build_model("FCN8s", backbone={"type": "VGG11", "width": 2, "batch_norm": False}, batch_norm=True)
    assert "fc6.bn._mean" in told.state_dict()


@pytest.mark.parametrize(
    ("learn", "expected"),
    [
        (None, {"upscore2", "upscore_pool4", "upscore8"}),
        ("none", set()),
        ("intermediate", {"upscore2", "upscore_pool4"}),
        ("all", {"upscore2", "upscore_pool4", "upscore8"}),
    ],
)
def test_learn_upsampling_says_which_kernels_train(learn, expected):
    model = build_model("FCN8s", learn_upsampling=learn, upsample="transposed")
    layers = {key: x for key, x in model.named_sublayers() if isinstance(x, Upsample)}
    assert {key for key, x in layers.items() if not x.weight.stop_gradient} == expected


def test_at_once_scales_the_pools_before_their_scores():
    plain, scaled = woken(build_model("FCN8s")), woken(build_model("FCN8sAtOnce"))
    scaled.score_pool4.weight.set_value(plain.score_pool4.weight * 100)
    scaled.score_pool3.weight.set_value(plain.score_pool3.weight * 10_000)
    image = noise(1, 3, 40, 50)
    for model in (plain, scaled):
        model.eval()
    expected = plain(image)[0]
    assert float((scaled(image)[0] - expected).abs().max() / expected.abs().max()) < 1e-5


def test_align_corners_is_what_paddles_own_upsampling_layer_does():
    model = woken(build_model("FCN32s", align_corners=True))
    model.eval()
    image = noise(1, 3, 64, 96)
    coarse = model._coarse_score(model.backbone(image)[-1])
    expected = paddle.nn.UpsamplingBilinear2D(scale_factor=32)(coarse)
    assert bool((model(image)[0] == expected).all())


def test_a_notebook_needs_the_backbone_and_the_number_of_classes():
    import paddlefcn

    model = paddlefcn.FCN8s(paddlefcn.VGG16(width=1), num_classes=21, fc_channels=2)
    assert type(model) is FCN8s


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (FCN8s, {"upsample": "nearest"}, "upsample: got 'nearest', expected one of bilinear, transposed"),
        (FCN8s, {"upsample_dense": True}, "upsample_dense: got True, but bilinear"),
        (FCN8s, {"learn_upsampling": "all"}, "learn_upsampling: got 'all', but bilinear"),
        (FCN8s, {"learn_upsampling": "some"}, "learn_upsampling: got 'some', expected none, intermediate"),
        (FCN8s, {"fc6_kernel": 4}, "fc6_kernel: got 4, expected an odd number such as 3 or 5"),
        (FCN8s, {"dropout": 1.0}, "dropout: got 1.0, expected 0 to below 1"),
        (FCN8s, {"fc_channels": 0}, "fc_channels: got 0"),
        (FCN32s, {"deep_supervision": True}, "FCN32s has one output; use FCN16s or FCN8s"),
        (
            FCN8s,
            {"upsample": "transposed", "align_corners": True},
            "align_corners: true has no transposed convolution",
        ),
    ],
)
def test_contradictions_are_refused_in_one_line(model, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        model(VGG11(width=1), num_classes=2, **{"fc_channels": 2, **arguments})
    assert "\n" not in str(error.value)


def test_a_backbone_without_the_strides_or_beyond_the_image_is_refused():
    backbone = VGG11(width=1)
    backbone.maps = backbone.maps[:-1]
    with pytest.raises(ValueError, match="its maps have strides 1, 2, 4, 8, 16, FCN16s needs 16 and 32"):
        FCN16s(backbone, num_classes=2)
    for padded in (VGG11(width=1, padding="reference"), AlexNet(widths=[4, 4, 6, 6, 4])):
        with pytest.raises(ValueError, match="pixels beyond the image"):
            FCN16s(padded, num_classes=2)
