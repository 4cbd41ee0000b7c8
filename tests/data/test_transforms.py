"""Contract of every transform: sizes agree, dtype and range stay, chance comes from the rng alone."""

import inspect

import numpy as np
import pytest

from paddlefcn.data import TRANSFORMS
from paddlefcn.data.transforms import (
    CLAHE,
    ChannelDrop,
    ClassCrop,
    ClassMix,
    ColorJitter,
    Compose,
    CopyPaste,
    CutMix,
    CutOut,
    GridDistortion,
    JPEGArtefacts,
    MotionBlur,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomScale,
)
from paddlefcn.errors import DataError

# one that needs a file has tests of its own
NAMES = sorted(set(TRANSFORMS) - {"Albumentations"})
NEEDED = {
    "Resize": {"size": [21, 17]},
    "RandomCrop": {"size": [30, 50], "fill": 3.0},
    "RandomWarp": {"size": [30, 50], "degrees": 20, "shear": 5, "perspective": 0.2},
    "ClassCrop": {"size": [30, 50], "max_share": 0.5},
    "CopyPaste": {"classes": [3, 4]},
}
MANY = {"ColorJitter": {"saturation": 0}}


def pair(channels=3, dtype=np.uint8, size=(40, 33), seed=0):
    rng = np.random.default_rng(seed)
    top = 1.0 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    image = (rng.random((*size, channels)) * top).astype(dtype)
    return image, rng.integers(0, 20, size).astype(np.uint8)


def build(name, channels=3):
    """The transform as a call of (image, label, rng); it always happens, and its partner is another pair."""
    made = TRANSFORMS[name]
    extra = {} if channels in (1, 3) else MANY.get(name, {})
    always = {"p": 1.0} if "p" in inspect.signature(made).parameters else {}
    transform = Compose([made(**NEEDED.get(name, {}), **extra, **always)])
    return lambda image, label, rng: transform(
        image, label, rng, lambda chance, ids: pair(image.shape[2], image.dtype, (35, 44), seed=9)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_gives_one_result(name):
    image, label = pair()
    first, again = (build(name)(image, label, np.random.default_rng(5)) for _ in range(2))
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "name",
    [
        *("RandomFlip", "RandomRotate90", "RandomScale", "RandomCrop", "RandomRotation", "ElasticDeform"),
        *("RandomShear", "RandomPerspective", "RandomWarp", "GridDistortion", "ClassCrop"),
    ],
)
def test_image_and_label_stay_on_each_other(name):
    """The image shows the label, so it must after any geometric transform, void aside."""
    label = np.zeros((96, 80), np.uint8)
    label[20:60, 10:50] = 1
    label[50:90, 40:75] = 2
    image = np.repeat((label * 100)[:, :, None], 3, axis=2)
    arguments = {
        "RandomCrop": {"size": [120, 60]},
        "RandomWarp": {"size": [90, 100]},
        "ClassCrop": {"size": [50, 60], "p": 1.0},
        "GridDistortion": {"p": 1.0},
    }.get(name, {})
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
        ("RandomShear", {"degrees": 61}),
        ("RandomShear", {"p": 2}),
        ("RandomPerspective", {"amount": 1}),
        ("RandomPerspective", {"p": True}),
        ("RandomWarp", {"size": [5]}),
        ("RandomWarp", {"size": [5, 5], "scale": [0, 1]}),
        ("RandomWarp", {"size": [5, 5], "aspect": 0}),
        ("RandomWarp", {"size": [5, 5], "degrees": -1}),
        ("RandomWarp", {"size": [5, 5], "shear": 90}),
        ("RandomWarp", {"size": [5, 5], "perspective": 1}),
        ("RandomWarp", {"size": [5, 5], "horizontal": 1.1}),
        ("RandomWarp", {"size": [5, 5], "vertical": -1}),
        ("RandomWarp", {"size": [5, 5], "fill": []}),
        ("GridDistortion", {"cells": 1}),
        ("GridDistortion", {"amount": 0.5}),
        ("GridDistortion", {"p": "often"}),
        ("ClassCrop", {"size": [0, 1]}),
        ("ClassCrop", {"size": [5, 5], "classes": []}),
        ("ClassCrop", {"size": [5, 5], "num_classes": 3, "classes": [3]}),
        ("ClassCrop", {"size": [5, 5], "p": 3}),
        ("ClassCrop", {"size": [5, 5], "max_share": 0}),
        ("CLAHE", {"clip": [0, 2]}),
        ("CLAHE", {"tiles": 0}),
        ("CLAHE", {"p": -1}),
        ("ChannelDrop", {"count": 0}),
        ("ChannelDrop", {"p": 7}),
        ("MotionBlur", {"length": [1, 5]}),
        ("MotionBlur", {"length": [3, 5.5]}),
        ("MotionBlur", {"p": 2}),
        ("JPEGArtefacts", {"quality": [0, 50]}),
        ("JPEGArtefacts", {"quality": [30.5, 50]}),
        ("JPEGArtefacts", {"p": 2}),
        ("CutOut", {"count": 0}),
        ("CutOut", {"size": [0.5, 0.1]}),
        ("CutOut", {"void": 1}),
        ("CutOut", {"p": 2}),
        ("CutMix", {"area": [0, 0.5]}),
        ("CutMix", {"p": 2}),
        ("ClassMix", {"share": 0}),
        ("ClassMix", {"p": 2}),
        ("CopyPaste", {"num_classes": 5, "classes": [1, 5]}),
        ("CopyPaste", {"classes": [1.5]}),
        ("CopyPaste", {"classes": [1], "p": 2}),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(name, arguments):
    with pytest.raises(ValueError, match=f"{name} {next(reversed(arguments))}"):
        TRANSFORMS[name](**arguments)


def test_a_fixed_grid_bends_nothing_and_the_rim_stays():
    image, label = pair(size=(60, 50))
    out, ids = GridDistortion(4, 0, p=1)(image, label, np.random.default_rng(0))
    np.testing.assert_array_equal(out, image)
    np.testing.assert_array_equal(ids, label)
    out, ids = GridDistortion(4, 0.45, p=1)(image, label, np.random.default_rng(0))
    assert (ids != label).mean() > 0.3
    for rim in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        # along a side only what lies inside it moves
        assert set(np.unique(ids[rim])) <= set(np.unique(label))
    np.testing.assert_array_equal(ids[[0, 0, -1, -1], [0, -1, 0, -1]], label[[0, 0, -1, -1], [0, -1, 0, -1]])


def test_class_crops_hold_the_class_however_small_it_is():
    image, label = np.zeros((200, 300, 1), np.uint8), np.zeros((200, 300), np.uint8)
    label[150, 20], label[:, 280:] = 1, 255
    rare, common = ClassCrop([32, 40], classes=[1], p=1.0), ClassCrop([32, 40], classes=[7], p=1.0)
    places = set()
    for seed in range(60):
        _, ids = rare(image, label, np.random.default_rng(seed))
        assert ids.shape == (32, 40)
        ((row, column),) = np.argwhere(ids == 1)
        places.add((int(row), int(column)))
        assert common(image, label, np.random.default_rng(seed))[1].shape == (32, 40)
    assert len(places) > 40  # anywhere in the crop
    every = ClassCrop([32, 40], p=1.0)
    share = np.mean([(every(image, label, np.random.default_rng(s))[1] == 1).any() for s in range(200)])
    assert 0.4 < share < 0.75  # one of two classes, and a void that is none


def test_class_crops_avoid_one_class_alone():
    label = np.zeros((100, 100), np.uint8)
    label[:, 50:] = 1
    crop = ClassCrop([20, 20], p=0.0, max_share=0.9)
    shares = [
        (crop(label[:, :, None], label, np.random.default_rng(seed))[1] == 1).mean() for seed in range(50)
    ]
    assert np.mean([0.1 <= share <= 0.9 for share in shares]) > 0.7


def test_a_cut_out_is_void_where_nothing_is_left():
    image, label = pair(size=(60, 50))
    out, ids = CutOut(2, [0.2, 0.3], p=1, fill=7.0, ignore_index=200)(image, label, np.random.default_rng(0))
    void = ids == 200
    assert 0.03 < void.mean() < 0.2
    assert (out[void] == 7).all()
    np.testing.assert_array_equal(out[~void], image[~void])
    kept = CutOut(2, [0.2, 0.3], void=False, p=1)(image, label, np.random.default_rng(0))[1]
    np.testing.assert_array_equal(kept, label)


def test_mixed_pixels_come_with_their_labels():
    label = np.tile(np.repeat(np.arange(4, dtype=np.uint8), 10), (30, 1))
    other = label + 4
    other[:3] = 255
    image, second = (np.repeat(ids[:, :, None] * 9, 3, axis=2) for ids in (label, other))

    def mixed(step, seed):
        return Compose([step])(image, label, np.random.default_rng(seed), lambda rng, ids: (second, other))

    for step in (CutMix(p=1), ClassMix(0.5, p=1), CopyPaste([5, 6], p=1)):
        taken = []
        for seed in range(20):
            out, ids = mixed(step, seed)
            np.testing.assert_array_equal(out[:, :, 0], ids * 9)
            taken.append(ids >= 4)
            assert ((ids == label) | (ids == other)).all()
        assert 0.05 < np.mean(taken) < 0.6
    out, ids = mixed(ClassMix(0.5, p=1), 0)
    assert len(set(np.unique(ids)) - {0, 1, 2, 3}) == 2  # half of its four classes, and no void
    out, ids = mixed(CopyPaste([5, 6], p=1), 0)
    np.testing.assert_array_equal(ids, np.where((other == 5) | (other == 6), other, label))
    # without samples to draw from, a picture is itself
    np.testing.assert_array_equal(Compose([CutMix(p=1)])(image, label, np.random.default_rng(0))[1], label)


def test_a_motion_blur_keeps_the_brightness_and_smears_along_a_line():
    image = np.zeros((41, 41, 1), np.float32)
    image[20, 20] = 1
    for seed in range(5):
        out, _ = MotionBlur([9, 9], p=1)(image, np.zeros((41, 41)), np.random.default_rng(seed))
        np.testing.assert_allclose(out.sum(), 1, rtol=1e-5)
        points = np.argwhere(out[:, :, 0] > 0) - 20.0
        spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
        assert spread[0] > 4 * spread[1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_jpeg_artefacts_are_as_large_in_every_type(dtype):
    top = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    plain = np.random.default_rng(0).random((48, 48, 1))
    plain[0, 0], plain[0, 1] = 0, 1
    image = np.rint(plain * 255) / 255 * top
    out, _ = JPEGArtefacts([30, 30], p=1)(image.astype(dtype), np.zeros((48, 48)), np.random.default_rng(0))
    change = np.abs(out / top - image / top).mean()
    reference = JPEGArtefacts([30, 30], p=1)(
        np.rint(plain * 255).astype(np.uint8), np.zeros((48, 48)), np.random.default_rng(0)
    )[0]
    np.testing.assert_allclose(change, np.abs(reference / 255 - np.rint(plain * 255) / 255).mean(), rtol=0.02)


def test_evened_contrast_keeps_grey_grey_and_spreads_a_narrow_range():
    rng = np.random.default_rng(0)
    narrow = np.repeat(rng.integers(100, 120, (64, 64, 1)).astype(np.uint8), 3, axis=2)
    out, _ = CLAHE([4, 4], p=1)(narrow, np.zeros((64, 64)), rng)
    assert out.std() > 1.5 * narrow.std()
    assert (out[:, :, 0] == out[:, :, 1]).all()
    flat = np.full((16, 16, 2), 0.5, np.float32)
    np.testing.assert_array_equal(CLAHE(p=1)(flat, np.zeros((16, 16)), rng)[0], flat)


def test_dropped_channels_are_filled_and_one_always_stays():
    image, label = pair(channels=4)
    for seed in range(8):
        out, _ = ChannelDrop(2, p=1, fill=[1, 2, 3, 4])(image, label, np.random.default_rng(seed))
        dropped = [c for c in range(4) if (out[:, :, c] == c + 1).all()]
        assert len(dropped) == 2
        kept = [c for c in range(4) if c not in dropped]
        np.testing.assert_array_equal(out[:, :, kept], image[:, :, kept])
    image, label = pair(channels=1)
    np.testing.assert_array_equal(ChannelDrop(3, p=1)(image, label, np.random.default_rng(0))[0], image)
