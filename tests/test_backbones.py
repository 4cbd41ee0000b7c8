"""What every backbone of the table must do."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddlefcn.backbones import BACKBONES, VGG, VGG11, VGG13, VGG16, VGG19

# the smallest arguments with which each builds; a new backbone needs a line here
NARROW = {
    "VGG": {"arch": [1, 2, 1, 1, 2], "width": 2},
    "VGG11": {"width": 2},
    "VGG13": {"width": 2},
    "VGG16": {"width": 2},
    "VGG19": {"width": 2},
    "AlexNet": {"widths": [4, 4, 6, 6, 4]},
}
SIZES = [(1, 1), (17, 5), (37, 45)]


def noise(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype("float32"))


def build(name, **more):
    paddle.seed(3)
    return BACKBONES[name](**NARROW[name], **more)


@pytest.mark.parametrize("name", BACKBONES)
def test_maps_have_the_declared_channels_and_the_computed_sizes(name):
    backbone = build(name)
    backbone.eval()
    assert len(backbone.channels) == len(backbone.strides)
    for height, width in SIZES:
        maps = backbone(noise(2, 3, height, width))
        rows, columns = backbone.output_sizes(height), backbone.output_sizes(width)
        expected = [[2, *shape] for shape in zip(backbone.channels, rows, columns)]
        assert [list(x.shape) for x in maps] == expected


@pytest.mark.parametrize("name", BACKBONES)
def test_a_longer_image_adds_one_cell_a_stride(name):
    backbone = build(name)
    short, long = backbone.output_sizes(64), backbone.output_sizes(64 + 320)
    steps = [320 / (after - before) for before, after in zip(short, long)]
    assert steps == list(backbone.strides)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("in_channels", [1, 4])
def test_any_number_of_input_channels(name, in_channels):
    maps = build(name, in_channels=in_channels)(noise(2, in_channels, 17, 5))
    assert bool(paddle.isfinite(maps[-1]).all())


@pytest.mark.parametrize("name", BACKBONES)
def test_gradient_reaches_every_parameter(name):
    backbone = build(name)
    maps = backbone(noise(2, 3, 67, 75))
    sum((x * noise(*x.shape, seed=1)).sum() for x in maps).backward()
    # paddle counts the running statistics as parameters without gradient
    learned = [(key, p) for key, p in backbone.named_parameters() if not p.stop_gradient]
    assert [key for key, p in learned if float(p.grad.abs().sum()) == 0] == []


@pytest.mark.parametrize("name", BACKBONES)
def test_equal_seeds_build_equal_backbones(name):
    image = noise(1, 3, 33, 20)
    first, second = build(name)(image), build(name)(image)
    assert all(bool((one == two).all()) for one, two in zip(first, second))


@pytest.mark.parametrize(("build_vgg", "convolutions"), [(VGG11, 8), (VGG13, 10), (VGG16, 13), (VGG19, 16)])
def test_number_of_convolutions_is_in_the_name(build_vgg, convolutions):
    names = [key for key in build_vgg(width=1).state_dict() if key.endswith(".conv.weight")]
    assert len(names) == convolutions


def test_vgg16_has_the_published_names_and_number_of_weights():
    backbone = VGG16(batch_norm=False)
    assert sum(int(np.prod(p.shape)) for p in backbone.parameters()) == 14_714_688
    keys = list(backbone.state_dict())
    assert keys[:4] == [f"conv1_{n}.conv.{kind}" for n in (1, 2) for kind in ("weight", "bias")]
    assert backbone.channels == (64, 128, 256, 512, 512)


def test_width_sets_every_stage_and_widths_sets_each():
    assert VGG11(width=3).channels == (3, 6, 12, 24, 24)
    assert VGG11(widths=[1, 2, 3, 4, 5]).channels == (1, 2, 3, 4, 5)


def test_batch_norm_can_be_left_out():
    assert any("bn" in key for key in VGG11(width=2).state_dict())
    assert not any("bn" in key for key in VGG11(width=2, batch_norm=False).state_dict())


def test_reference_padding_is_a_hundred_pixels_at_the_first_convolution_only():
    assert VGG16(width=1, padding="reference").output_sizes(1)[0] == 100
    assert VGG16(width=1).output_sizes(1) == [1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": [1, 1, 1]}, r"arch: got \[1, 1, 1\], expected five"),
        ({"arch": [1, 1, 1, 1, 0]}, "arch: got"),
        ({"arch": [1] * 5, "widths": [1, 2]}, r"widths: got \[1, 2\], expected five"),
        ({"arch": [1] * 5, "width": 0}, "widths: got"),
        ({"arch": [1] * 5, "padding": "valid"}, "padding: got 'valid', expected same or reference"),
    ],
)
def test_wrong_arguments_are_named_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        VGG(**arguments)
    assert "\n" not in str(error.value)


def test_alexnet_refuses_widths_that_two_groups_cannot_share():
    with pytest.raises(ValueError, match="five positive even numbers"):
        BACKBONES["AlexNet"](widths=[3, 4, 4, 4, 4])
