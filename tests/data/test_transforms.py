"""Contract of every transform: sizes agree, dtype and range stay, chance comes from the rng alone."""

import numpy as np
import pytest

from paddlefcn.data import TRANSFORMS
from paddlefcn.data.transforms import (
    ColorJitter,
    Compose,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomScale,
)
from paddlefcn.errors import DataError

NEEDED = {
    "Resize": {"size": [21, 17]},
    "RandomCrop": {"size": [30, 50], "fill": 3.0},
    "RandomWarp": {"size": [30, 50], "degrees": 20, "shear": 5, "perspective": 0.2},
}
MANY = {"ColorJitter": {"saturation": 0}}


def pair(channels=3, dtype=np.uint8, size=(40, 33), seed=0):
    rng = np.random.default_rng(seed)
    top = 1.0 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    image = (rng.random((*size, channels)) * top).astype(dtype)
    return image, rng.integers(0, 20, size).astype(np.uint8)


def build(name, channels=3):
    extra = MANY.get(name, {}) if channels > 3 else {}
    return TRANSFORMS[name](**NEEDED.get(name, {}), **extra)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_sizes_agree_and_types_stay(name, channels, dtype):
    image, label = pair(channels, dtype)
    before = image.copy(), label.copy()
    for seed in range(4):
        out, ids = build(name, channels)(image, label, np.random.default_rng(seed))
        assert out.shape == (*ids.shape, channels)
        assert out.dtype == dtype
        assert ids.dtype == np.uint8
        assert set(np.unique(ids)) <= {*range(20), 255}
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(label, before[1])


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_one_seed_gives_one_result(name):
    image, label = pair()
    first, again = (build(name)(image, label, np.random.default_rng(5)) for _ in range(2))
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "name",
    [
        *("RandomFlip", "RandomRotate90", "RandomScale", "RandomCrop", "RandomRotation", "ElasticDeform"),
        *("RandomShear", "RandomPerspective", "RandomWarp"),
    ],
)
def test_image_and_label_stay_on_each_other(name):
    """The image shows the label, so it must after any geometric transform, void aside."""
    label = np.zeros((96, 80), np.uint8)
    label[20:60, 10:50] = 1
    label[50:90, 40:75] = 2
    image = np.repeat((label * 100)[:, :, None], 3, axis=2)
    arguments = {"RandomCrop": {"size": [120, 60]}, "RandomWarp": {"size": [90, 100]}}.get(name, {})
    for seed in range(6):
        out, ids = TRANSFORMS[name](**arguments)(image, label, np.random.default_rng(seed))
        seen = np.rint(out[:, :, 0] / 100)
        known = ids != 255
        assert known.any()
        assert (seen[known] == ids[known]).mean() > 0.95


def test_padding_is_fill_and_void():
    image, label = pair(size=(10, 10))
    out, ids = RandomCrop([20, 30], fill=[1.4, 2.6, 300], ignore_index=200)(
        image, label, np.random.default_rng(0)
    )
    void = ids == 200
    assert void.sum() == 20 * 30 - 100
    assert (out[void] == [1, 3, 255]).all()
    turned, ids = RandomRotation(45, fill=[7, 8, 9], ignore_index=200)(image, label, np.random.default_rng(3))
    assert tuple(turned[0, 0]) == (7, 8, 9)
    assert ids[0, 0] == 200


def test_wide_labels_survive_a_warp():
    image, _ = pair(size=(16, 16))
    label = np.full((16, 16), 70000, np.int32)
    _, ids = RandomRotation(30, ignore_index=-1)(image, label, np.random.default_rng(1))
    assert ids.dtype == np.int32
    assert set(np.unique(ids)) == {-1, 70000}


def test_crops_reach_every_corner():
    image, label = pair(size=(4, 4))
    label = np.arange(16, dtype=np.uint8).reshape(4, 4)
    firsts = {int(RandomCrop([3, 3])(image, label, np.random.default_rng(s))[1][0, 0]) for s in range(60)}
    assert firsts == {0, 1, 4, 5}


def test_flips_happen_as_often_as_said():
    image, label = pair()
    for probability, expected in ((0.0, 0), (1.0, 40), (0.5, 20)):
        flip = RandomFlip(horizontal=probability)
        flipped = sum((flip(image, label, np.random.default_rng(s))[1] != label).any() for s in range(40))
        assert abs(flipped - expected) <= 8 * (0 < probability < 1)


def test_jitter_of_nothing_changes_nothing_and_grey_stays_grey():
    image, label = pair()
    out, _ = ColorJitter(0, 0, 0, 0)(image, label, np.random.default_rng(0))
    np.testing.assert_array_equal(out, image)
    grey = np.repeat(image[:, :, :1], 3, axis=2)
    out, _ = ColorJitter(0, 0, 1, 0.5)(grey, label, np.random.default_rng(0))
    assert np.abs(out.astype(int) - grey).max() <= 1


def test_brightness_and_contrast_are_factors():
    image = np.full((4, 4, 1), 100.0, np.float32)
    image[:2] = 50
    for seed in range(5):
        out, _ = ColorJitter(0.5, 0, 0, 0)(image, np.zeros((4, 4)), np.random.default_rng(seed))
        np.testing.assert_allclose(out[0, 0, 0] / out[3, 0, 0], 0.5, rtol=1e-5)
        assert 50 <= out[3, 0, 0] <= 150
        out, _ = ColorJitter(0, 0.5, 0, 0)(image, np.zeros((4, 4)), np.random.default_rng(seed))
        np.testing.assert_allclose(out.mean(), 75, rtol=1e-5)


def test_saturation_of_five_channels_is_refused_with_the_fix():
    image, label = pair(channels=5)
    with pytest.raises(DataError, match="set both to 0"):
        ColorJitter()(image, label, np.random.default_rng(0))


def test_compose_uses_one_stream_of_chance():
    image, label = pair()
    both = Compose([RandomScale([0.5, 1.5]), RandomFlip()])
    rng = np.random.default_rng(3)
    step = RandomFlip()(*RandomScale([0.5, 1.5])(image, label, rng), rng)
    for one, other in zip(both(image, label, np.random.default_rng(3)), step):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("RandomScale", {"range": [2, 1]}),
        ("RandomScale", {"range": [0, 1]}),
        ("RandomScale", {"range": 1.5}),
        ("RandomScale", {"aspect": 0.5}),
        ("RandomCrop", {"size": [0, 5]}),
        ("RandomCrop", {"size": [5.5, 5]}),
        ("RandomCrop", {"size": [5, 5], "fill": []}),
        ("RandomFlip", {"horizontal": 1.5}),
        ("RandomRotation", {"degrees": 200}),
        ("RandomRotation", {"p": -1}),
        ("ColorJitter", {"hue": 0.7}),
        ("ColorJitter", {"brightness": "0.3"}),
        ("RandomBlur", {"sigma": [0, 1]}),
        ("RandomGamma", {"range": [1]}),
        ("RandomNoise", {"sigma": 2}),
        ("ElasticDeform", {"spacing": 1}),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(name, arguments):
    with pytest.raises(ValueError, match=f"{name} {next(reversed(arguments))}"):
        TRANSFORMS[name](**arguments)
