"""What does not go together is one line with the fix, before any data is read."""

from __future__ import annotations

import paddle
import pytest
from networks import build_model, noise

from paddlefcn.build import validate
from paddlefcn.config import parse_config
from paddlefcn.errors import ConfigError, UserError

REST = {
    "data": {"type": "Shapes", "classes": list("abcdef")},
    "loss": [{"type": "CrossEntropy"}],
    "optimizer": {"type": "Momentum"},
    "schedule": {"type": "Poly", "learning_rate": 0.1},
    "train": {"iters": 10},
}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"type": "SegNet", "backbone": "ResNet50"}, "take VGG16, or another model such as UNet"),
        ({"type": "UNet", "backbone": "ResNet50"}, "take UNetEncoder or a VGG, or another model"),
        (
            {"type": "UNet", "backbone": {"type": "UNetEncoder", "pooling": "floor"}},
            "set upsample: resize, or pooling: ceil",
        ),
        (
            {"type": "FCN8s", "backbone": {"type": "ResNet50", "output_stride": 8}},
            r"strides 2, 4, 8, FCN8s needs 8, 16 and 32; set output_stride: 32",
        ),
        ({"type": "FCN16s", "backbone": "UNetEncoder"}, "FCN16s needs 16 and 32"),
        (
            {"type": "DeepLabV3Plus", "low_level": "layer9"},
            "ResNet50 has no map 'layer9'; it has stem, layer1",
        ),
        ({"type": "DeepLabV3", "rates": []}, "such as .6, 12, 18."),
        ({"type": "LRASPP", "backbone": "UNetEncoder", "gate_window": 0}, "gate_window: got 0"),
        ({"type": "PSPNet", "backbone": {"type": "ResNet50", "output_stride": 4}}, "expected 8, 16 or 32"),
        (
            {"type": "PSPNet", "backbone": {"type": "VGG16", "output_stride": 8}},
            "VGG16 takes no 'output_stride'",
        ),
        (
            {"type": "DeepLabV3", "backbone": {"type": "ResNet50", "multi_grid": [1, 2]}},
            "multi_grid: got .1, 2., expected 3 factors",
        ),
        (
            {"type": "RefineNet", "backbone": {"type": "ResNet50", "output_stride": 8}},
            "strides 2, 4, 8, RefineNet needs 4, 8, 16 and 32; set output_stride: 32",
        ),
        ({"type": "BackboneUNet", "backbone": "UNetEncoder"}, "BackboneUNet needs 2, 4, 8, 16 and 32"),
        ({"type": "BackboneUNet", "channels": [8, 4]}, "expected five numbers, deepest first"),
        ({"type": "DeepLabV2", "rates": []}, "expected dilations such as .6, 12, 18, 24."),
        ({"type": "DeepLabV1", "rate": 0}, "rate: got 0, expected a dilation of 1 or more"),
        ({"type": "PSPNet", "deepest": "layer9"}, "ResNet50 has no map 'layer9'"),
        (
            {"type": "DeepLabV3Plus", "decoder_convolutions": 0},
            "decoder_convolutions: got 0, expected 1 to 8",
        ),
        ({"type": "UNetPlusPlus", "level": 5}, "level: got 5, expected 1 to 4"),
        (
            {"type": "FCNHead", "backbone": "AlexNet"},
            "reach 95 pixels beyond the image, which the published",
        ),
        (
            {"type": "UNet", "backbone": {"type": "VGG16", "padding": "reference"}},
            "reach 99 pixels .*; set model.padding: reference on FCN, or take another backbone",
        ),
        ({"type": "UNetPlusPlus", "average": True, "deep_supervision": False}, "set deep_supervision: true"),
    ],
)
def test_wrong_combinations_are_refused_by_validation(model, message):
    with pytest.raises(ConfigError, match=message) as error:
        validate(parse_config({**REST, "model": model}, "recipe.yml"))
    assert "\n" not in str(error.value)


def test_the_papers_output_stride_counts_where_a_recipe_is_silent():
    def deepest(model, **backbone):
        backbone = {"type": "ResNet18", "width": 2, **backbone}
        return build_model(model, backbone=backbone).backbone.last.stride

    assert [deepest(model) for model in ("DeepLabV3", "PSPNet", "FCNHead")] == [16, 8, 8]
    assert deepest("DeepLabV3", output_stride=32) == 32


@pytest.mark.parametrize("name", ["DDRNet", "DeepLabV3", "DeepLabV3Plus", "PSPNet"])
def test_batch_norm_over_the_mean_of_one_image_is_an_error_that_says_what_to_do(name):
    model = build_model(name)
    with pytest.raises(UserError, match=r"set train\.batch_size to 2 or more"):
        model(noise(1, 3, 64, 64))
    model.eval()
    model(noise(1, 3, 64, 64))  # the running statistics serve one image


def test_batch_norm_over_one_cell_of_one_image_is_an_error():
    with pytest.raises(UserError, match="a single value a channel"):
        build_model("FCN8s")(noise(1, 3, 20, 30))


def test_pyramid_bins_and_gate_windows_may_be_larger_than_the_map():
    for name, arguments in (("PSPNet", {}), ("LRASPP", {}), ("LRASPP", {"gate_window": 2})):
        model = build_model(name, **arguments)
        model.eval()
        assert model(noise(1, 3, 3, 200))[0].shape == [1, 5, 3, 200]


def test_a_pruned_unet_plus_plus_computes_the_level_of_the_whole_one():
    whole, pruned = build_model("UNetPlusPlus"), build_model("UNetPlusPlus", level=2)
    own = pruned.state_dict()
    state = {key: value for key, value in whole.state_dict().items() if key in own}
    pruned.set_state_dict(state)
    assert set(own) <= set(whole.state_dict())
    image = noise(2, 3, 33, 20)
    whole.train()
    pruned.train()
    assert whole.num_outputs == 4
    assert pruned.num_outputs == 2
    paddle.assign(whole(image)[2])  # levels 4, 3, 2, 1
    assert bool((whole(image)[2] == pruned(image)[0]).all())


def test_unet_plus_plus_averages_its_levels_on_request():
    one, mean = build_model("UNetPlusPlus"), build_model("UNetPlusPlus", average=True)
    mean.set_state_dict(one.state_dict())
    image = noise(2, 3, 33, 20)
    for layer in (*one.sublayers(), *mean.sublayers()):
        if isinstance(layer, paddle.nn.BatchNorm2D):
            layer.eval()
    expected = sum(one(image)) / 4
    mean.eval()
    assert float((mean(image)[0] - expected).abs().max()) < 1e-5
