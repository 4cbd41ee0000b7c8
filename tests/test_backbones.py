"""What every backbone of the table must do; a new entry is tested by being there."""

from __future__ import annotations

import math

import paddle
import pytest
from networks import build_backbone, noise

from paddlefcn.backbones import BACKBONES, Backbone

SIZES = [(1, 1), (17, 5), (37, 45)]


@pytest.mark.parametrize("name", BACKBONES)
def test_maps_have_the_declared_channels_and_sizes_that_round_up(name):
    backbone = build_backbone(name)
    backbone.eval()
    assert isinstance(backbone, Backbone)
    for height, width in SIZES:
        got = backbone(noise(2, 3, height, width))
        assert len(got) == len(backbone.maps)
        for x, about in zip(got, backbone.maps):
            assert x.shape[:2] == [2, about.channels]
            if not about.margin:
                assert x.shape[2:] == [math.ceil(height / about.stride), math.ceil(width / about.stride)]


@pytest.mark.parametrize("name", BACKBONES)
def test_a_longer_image_adds_one_cell_a_stride(name):
    backbone = build_backbone(name)
    backbone.eval()
    short, long = backbone(noise(1, 3, 64, 32)), backbone(noise(1, 3, 64 + 320, 32))
    steps = [320 / (after.shape[2] - before.shape[2]) for before, after in zip(short, long)]
    assert steps == [about.stride for about in backbone.maps]


@pytest.mark.parametrize("name", BACKBONES)
def test_maps_have_names_of_their_own_and_strides_that_grow(name):
    maps = build_backbone(name).maps
    assert len({about.name for about in maps}) == len(maps)
    strides = [about.stride for about in maps]
    assert strides == sorted(strides)


@pytest.mark.parametrize("name", BACKBONES)
def test_maps_come_by_name_in_the_order_asked(name):
    backbone = build_backbone(name)
    backbone.eval()
    image = noise(1, 3, 33, 20)
    everything = dict(zip((about.name for about in backbone.maps), backbone(image)))
    names = [backbone.maps[-1].name, backbone.maps[0].name]
    for asked, x in zip(names, backbone(image, names)):
        assert bool((x == everything[asked]).all())
    assert backbone.last == backbone.deepest(backbone.last.stride)
    with pytest.raises(ValueError, match=f"{name} has no map 'conv99'; it has {backbone.maps[0].name}"):
        backbone.map("conv99")
    with pytest.raises(ValueError, match=f"{name} has no map of stride 128"):
        backbone.deepest(128)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("in_channels", [1, 4])
def test_any_number_of_input_channels(name, in_channels):
    backbone = build_backbone(name, in_channels=in_channels)
    backbone.eval()
    maps = backbone(noise(2, in_channels, 17, 5))
    assert bool(paddle.isfinite(maps[-1]).all())


@pytest.mark.parametrize("name", BACKBONES)
def test_gradient_reaches_every_parameter(name):
    backbone = build_backbone(name)
    maps = backbone(noise(2, 3, 67, 75))
    sum((x * noise(*x.shape, seed=1)).sum() for x in maps).backward()
    # paddle counts the running statistics as parameters without gradient
    learned = [(key, p) for key, p in backbone.named_parameters() if not p.stop_gradient]
    assert [key for key, p in learned if p.grad is None or float(p.grad.abs().sum()) == 0] == []


@pytest.mark.parametrize("name", BACKBONES)
def test_equal_seeds_build_equal_backbones(name):
    first, second = build_backbone(name).state_dict(), build_backbone(name).state_dict()
    assert list(first) == list(second)
    assert all(bool((first[key] == second[key]).all()) for key in first)
