"""VGG and AlexNet: what is true of them alone."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from networks import noise

from paddlefcn.backbones import VGG, VGG11, VGG13, VGG16, VGG19, AlexNet


@pytest.mark.parametrize(("build_vgg", "convolutions"), [(VGG11, 8), (VGG13, 10), (VGG16, 13), (VGG19, 16)])
def test_number_of_convolutions_is_in_the_name(build_vgg, convolutions):
    names = [key for key in build_vgg(width=1).state_dict() if key.endswith(".conv.weight")]
    assert len(names) == convolutions


def test_vgg16_has_the_published_names_and_number_of_weights():
    backbone = VGG16(batch_norm=False)
    assert sum(int(np.prod(p.shape)) for p in backbone.parameters()) == 14_714_688
    keys = list(backbone.state_dict())
    assert keys[:4] == [f"conv1_{n}.conv.{kind}" for n in (1, 2) for kind in ("weight", "bias")]
    assert [about.channels for about in backbone.maps] == [64, 64, 128, 128, 256, 256, 512, 512, 512, 512]


def test_a_stride_begins_with_the_pooled_map_and_ends_with_the_one_before_the_next_pooling():
    backbone = VGG11(width=2)
    assert [backbone.first(stride).name for stride in (8, 16, 32)] == ["pool3", "pool4", "pool5"]
    deepest = [backbone.deepest(stride).name for stride in (1, 2, 4, 8, 16, 32)]
    assert deepest == ["stage1", "stage2", "stage3", "stage4", "stage5", "pool5"]


def test_width_sets_every_stage_and_widths_sets_each():
    def pooled(backbone):
        return [backbone.map(f"pool{stage}").channels for stage in range(1, 6)]

    assert pooled(VGG11(width=3)) == [3, 6, 12, 24, 24]
    assert pooled(VGG11(widths=[1, 2, 3, 4, 5])) == [1, 2, 3, 4, 5]


def test_batch_norm_can_be_left_out():
    assert any("bn" in key for key in VGG11(width=2).state_dict())
    assert not any("bn" in key for key in VGG11(width=2, batch_norm=False).state_dict())


def test_reference_padding_is_a_hundred_pixels_at_the_first_convolution_only():
    reference, same = VGG16(width=1, padding="reference"), VGG16(width=1)
    reference.eval()
    same.eval()
    assert reference(noise(1, 3, 1, 1), ["stage1"])[0].shape[2:] == [199, 199]
    assert [x.shape[2] for x in same(noise(1, 3, 1, 1))] == [1] * 10
    assert {about.margin for about in reference.maps} == {99}


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (37, 45)])
def test_pooling_indices_say_where_each_value_came_from(size):
    backbone = VGG11(width=2)
    backbone.eval()
    image = noise(2, 3, *size)
    pool5, before, indices = backbone.pooled_with_indices(image)
    assert bool((pool5 == backbone(image, ["pool5"])[0]).all())
    for stage, (x, places) in enumerate(zip(before, indices), start=1):
        (pooled,) = backbone(image, [f"pool{stage}"])
        flat = paddle.take_along_axis(x.flatten(2), places.flatten(2).astype("int64"), axis=2)
        assert bool((flat.reshape(pooled.shape) == pooled).all())


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
        AlexNet(widths=[3, 4, 4, 4, 4])
