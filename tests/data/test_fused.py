"""RandomWarp: one warp of the pixels that are kept shows what the steps one after the other show."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddlefcn.data.images import read_image
from paddlefcn.data.transforms import RandomWarp
from paddlefcn.data.transforms.fused import resize_averaged, resize_ids


def photograph(seed=0, size=(300, 400), channels=3):
    """Noise of every size, as much of each as photographs have."""
    rng = np.random.default_rng(seed)
    image = np.zeros((*size, channels))
    for cells in (4, 8, 16, 32, 64, 128, 256):
        layer = rng.normal(0, 1 / cells, (cells, cells, channels))
        image += cv2.resize(layer, size[::-1], interpolation=cv2.INTER_CUBIC).reshape(image.shape)
    low, high = np.quantile(image, [0.01, 0.99])
    return np.clip(255 * (image - low) / (high - low), 0, 255).astype(np.uint8)


def over_areas(image, matrix, size, samples=8):
    """Every pixel of the result is the mean of the source pixels under it; bilinear where it grows."""
    inverse = np.linalg.inv(matrix)
    nearest = np.sqrt(abs(np.linalg.det(matrix[:2, :2]))) <= 1
    total = np.zeros((*size, image.shape[2]))
    rows, columns = np.indices(size)
    offsets = (np.arange(samples) + 0.5) / samples - 0.5 if nearest else [0.0]
    for down in offsets:
        for across in offsets:
            x, y, w = inverse @ np.stack(
                [(columns + across).ravel(), (rows + down).ravel(), np.ones(rows.size)]
            )
            mode = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
            total += cv2.remap(
                image.astype(np.float32),
                (x / w).reshape(size).astype(np.float32),
                (y / w).reshape(size).astype(np.float32),
                mode,
                borderMode=cv2.BORDER_REPLICATE,
            )
    return total / len(offsets) ** 2


def inside(void):
    """Away from the picture's edges, where a pixel mixes picture and ground."""
    return cv2.erode((void == 0).astype(np.uint8), np.ones((5, 5))).astype(bool)


@pytest.mark.parametrize("factor", [0.2, 0.3, 0.5, 0.55, 0.6, 0.7, 0.74, 0.76, 0.9, 1.0, 1.3, 2.0])
def test_a_resized_window_differs_from_the_areas_by_at_most_two(factor):
    image = photograph()
    size = (round(300 * factor), round(400 * factor))
    scale = np.diag([size[1] / 400, size[0] / 300, 1.0])
    scale[:2, 2] = (scale[0, 0] - 1) / 2, (scale[1, 1] - 1) / 2
    difference = np.abs(resize_averaged(image, size) - over_areas(image, scale, size))
    assert difference.mean() <= 2


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.6, 0.75, 0.89, 1.0, 1.6])
@pytest.mark.parametrize("bend", [{"degrees": 30}, {"shear": 10}, {"perspective": 0.3}], ids=str)
def test_a_warped_picture_differs_from_the_areas_by_at_most_two(factor, bend):
    image = photograph()
    label = np.zeros((300, 400), np.uint8)
    warp = RandomWarp([160, 200], scale=[factor, factor], horizontal=0.5, vertical=0.5, **bend)
    for seed in range(2):
        out, ids = warp(image, label, np.random.default_rng(seed))
        matrix = drawn_matrix(warp, label, seed)
        kept = inside(ids)
        assert kept.sum() > 1000
        assert np.abs(out - over_areas(image, matrix, (160, 200)))[kept].mean() <= 2


def drawn_matrix(warp, label, seed):
    drawn = []
    inner = warp._matrix
    warp._matrix = lambda *given: drawn.append(inner(*given)) or drawn[0]
    warp(np.zeros((*label.shape, 1), np.uint8), label, np.random.default_rng(seed))
    del warp._matrix
    return drawn[0]


@pytest.mark.real_data
def test_photographs_differ_from_the_areas_by_at_most_two():
    folder = Path(os.environ["PADDLEFCN_DATA"]) / "VOCdevkit" / "VOC2012" / "JPEGImages"
    images = [read_image(path, 3) for path in sorted(folder.glob("*.jpg"))[:8]]
    rng = np.random.default_rng(0)
    plain, turned = [], []
    for image in images:
        factor = rng.uniform(0.5, 2)
        size = tuple(max(1, round(side * factor)) for side in image.shape[:2])
        scale = np.diag([size[1] / image.shape[1], size[0] / image.shape[0], 1.0])
        scale[:2, 2] = (scale[0, 0] - 1) / 2, (scale[1, 1] - 1) / 2
        plain.append(np.abs(resize_averaged(image, size) - over_areas(image, scale, size)).mean())
        label = np.zeros(image.shape[:2], np.uint8)
        warp = RandomWarp([320, 320], scale=[factor, factor], degrees=15)
        out, ids = warp(image, label, np.random.default_rng(1))
        reference = over_areas(image, drawn_matrix(warp, label, 1), (320, 320))
        turned.append(np.abs(out - reference)[inside(ids)].mean())
    assert np.mean(plain) <= 2
    assert np.mean(turned) <= 2


def test_without_any_change_the_picture_stays():
    image, label = photograph(size=(40, 50)), np.arange(2000).reshape(40, 50).astype(np.int32)
    out, ids = RandomWarp([40, 50], scale=[1, 1], horizontal=0)(image, label, np.random.default_rng(0))
    np.testing.assert_array_equal(out, image)
    np.testing.assert_array_equal(ids, label)
    out, ids = RandomWarp([40, 50], scale=[1, 1], horizontal=1, vertical=1)(
        image, label, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(out, image[::-1, ::-1])
    np.testing.assert_array_equal(ids, label[::-1, ::-1])
    # the way over a matrix is the same to the pixel
    turned = RandomWarp([40, 50], scale=[1, 1], horizontal=1, vertical=1, degrees=1e-9)
    out, ids = turned(image, label, np.random.default_rng(0))
    assert np.abs(out.astype(int) - image[::-1, ::-1]).max() <= 1
    np.testing.assert_array_equal(ids, label[::-1, ::-1])


def test_crops_reach_every_corner_and_small_pictures_stand_anywhere():
    label = np.arange(16, dtype=np.uint8).reshape(4, 4)
    image = label[:, :, None]
    crop = RandomWarp([3, 3], scale=[1, 1], horizontal=0)
    firsts = {int(crop(image, label, np.random.default_rng(seed))[1][0, 0]) for seed in range(60)}
    assert firsts == {0, 1, 4, 5}
    wide = RandomWarp([6, 6], scale=[1, 1], horizontal=0, fill=9.0, ignore_index=200)
    places = set()
    for seed in range(200):
        out, ids = wide(image, label, np.random.default_rng(seed))
        (row,), (column,) = np.nonzero(ids == 0)
        places.add((int(row), int(column)))
        assert (out[:, :, 0][ids == 200] == 9).all()
    assert places == {(row, column) for row in range(3) for column in range(3)}


def test_ids_are_placed_as_the_image_is():
    rng = np.random.default_rng(0)
    for have, want in (((30, 41), (47, 19)), ((7, 5), (64, 64)), ((64, 64), (9, 11))):
        centers = [(np.arange(count) + 0.5) * side / count for side, count in zip(have, want)]
        # a centre that falls between two pixels may take either
        clear = [np.abs(line - np.rint(line)) > 1e-6 for line in centers]
        rows, columns = (line.astype(int) for line in centers)
        for dtype in (np.uint8, np.int32):
            label = rng.integers(0, 200, have).astype(dtype)
            placed = resize_ids(label, want)
            assert placed.dtype == dtype
            expected = label[rows[:, None], columns]
            np.testing.assert_array_equal(placed[np.ix_(*clear)], expected[np.ix_(*clear)])
