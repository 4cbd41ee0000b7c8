"""Pictures in disguise between two splits are found, and different ones are not."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddlefcn.data.datasets import VOC, Sample, SegmentationDataset
from paddlefcn.data.images import read_image
from paddlefcn.data.labels import LabelReader
from paddlefcn.data.near_duplicates import find_near_duplicates, small_copy
from paddlefcn.data.report import check
from paddlefcn.data.shapes import draw


def disguised(image, kind, rng):
    """The image mirrored, encoded anew, scaled, or cropped to 80 % of its area."""
    height, width = image.shape[:2]
    if "crop" in kind:
        down = rng.uniform(0.8, 1)
        tall, wide = int(np.ceil(height * down)), int(np.ceil(width * 0.8 / down))
        top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
        image = image[top : top + tall, left : left + wide]
    if "mirror" in kind:
        image = image[:, ::-1]
    if "upside" in kind:
        image = image[::-1]
    if "jpeg" in kind:
        image = cv2.imdecode(cv2.imencode(".jpg", image, [1, int(rng.integers(30, 60))])[1], 1)
    if "half" in kind:
        image = cv2.resize(np.ascontiguousarray(image), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image)


KINDS = ["mirror", "upside", "jpeg", "half", "crop", "crop mirror", "crop jpeg half"]


def copies(images):
    return np.stack([small_copy(image) for image in images])


@pytest.mark.parametrize("swapped", [False, True])
def test_every_disguise_is_found_and_nothing_else(swapped):
    rng = np.random.default_rng(0)
    pictures = [draw((180, 240), np.random.default_rng(seed))[0] for seed in range(24)]
    others = [draw((180, 240), np.random.default_rng(1000 + seed))[0] for seed in range(10)]
    planted = [disguised(pictures[i], KINDS[i % len(KINDS)], rng) for i in range(14)]
    first, second = copies(pictures), copies([*planted, *others])
    found = find_near_duplicates(second, first) if swapped else find_near_duplicates(first, second)
    pairs = {(like.second, like.first) if swapped else (like.first, like.second) for like in found}
    assert pairs == {(i, i) for i in range(14)}
    for like in found:
        place = like.first if swapped else like.second
        assert like.mirrored == any(word in KINDS[place % 7] for word in ("mirror", "upside"))
        assert ("cropped" in like.words()) == ("crop" in KINDS[place % 7])


def test_pictures_without_contrast_are_not_compared():
    flat = np.full((3, 40, 40, 3), 90, np.uint8)
    assert find_near_duplicates(copies(flat), copies(flat + 1)) == []
    slope = np.tile(np.linspace(0, 255, 64), (64, 1)).astype(np.uint8)[:, :, None]
    assert small_copy(slope.astype(np.float32) / 255).max() == 255


class Pictures:
    """A source of pictures in memory."""

    def __init__(self, name, images):
        self.images = images
        self.samples = [Sample(f"{name}{index}", None, None) for index in range(len(images))]

    def read_raw(self, index, channels, labels):
        return self.images[index], np.full(self.images[index].shape[:2], index % 2, np.uint8)


def test_the_check_reports_them_between_splits_alone():
    rng = np.random.default_rng(0)
    pictures = [draw((90, 120), np.random.default_rng(seed))[0] for seed in range(6)]
    train = [*pictures, disguised(pictures[2], "mirror", rng)]
    val = [disguised(pictures[4], "crop", rng), draw((90, 120), np.random.default_rng(99))[0], pictures[0]]
    datasets = {
        name: SegmentationDataset(Pictures(name, images), LabelReader(2))
        for name, images in (("train", train), ("val", val))
    }
    faults = check(datasets, ["a", "b"]).faults
    assert len(faults) == 2, faults
    assert any("val0: is nearly the same picture as train4 of train (cropped to" in line for line in faults)
    assert any("val2: is the same picture as train0" in line for line in faults)


@pytest.mark.real_data
@pytest.mark.slow
def test_no_two_of_the_668_voc_images_are_taken_for_one_and_planted_ones_are_found():
    root = Path(os.environ["PADDLEFCN_DATA"])
    images = {s: [read_image(x.image, 3) for x in VOC(root, s).samples] for s in ("train", "val")}
    small = {split: copies(pictures) for split, pictures in images.items()}
    assert find_near_duplicates(small["train"], small["val"]) == []
    rng = np.random.default_rng(0)
    planted = copies([disguised(images["train"][i], KINDS[i % len(KINDS)], rng) for i in range(140)])
    found = find_near_duplicates(small["train"], planted)
    assert {(like.first, like.second) for like in found} == {(i, i) for i in range(140)}
