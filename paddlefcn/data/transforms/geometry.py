"""Sizes and turns that need no interpolation of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paddlefcn.data.images import check_number, resize_image, resize_label
from paddlefcn.data.transforms.base import Pair, interval


class RandomScale:
    """Scales both sides by a factor drawn evenly from `range`; `aspect` stretches by up to that factor more.

    `aspect` 1.25 makes an image up to 1.25 times wider or narrower at an equal area.
    """

    def __init__(self, range: Sequence[float] = (0.5, 2.0), aspect: float = 1.0) -> None:
        self.range = interval("RandomScale range", range, 0.01, 100)
        check_number("RandomScale aspect", aspect, 1, 10)
        self.aspect = aspect

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        factor = rng.uniform(*self.range)
        stretch = self.aspect ** rng.uniform(-0.5, 0.5)
        height = max(1, round(image.shape[0] * factor / stretch))
        width = max(1, round(image.shape[1] * factor * stretch))
        resized = resize_label(label, height, width)
        assert resized is not None
        return resize_image(image, height, width), resized


class RandomFlip:
    """Mirrors left to right with probability `horizontal`, upside down with `vertical`."""

    def __init__(self, horizontal: float = 0.5, vertical: float = 0.0) -> None:
        check_number("RandomFlip horizontal", horizontal, 0, 1)
        check_number("RandomFlip vertical", vertical, 0, 1)
        self.horizontal, self.vertical = horizontal, vertical

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        across, down = rng.random(2)
        if across < self.horizontal:
            image, label = image[:, ::-1], label[:, ::-1]
        if down < self.vertical:
            image, label = image[::-1], label[::-1]
        return image, label


class RandomRotate90:
    """Turns by 0, 90, 180 or 270 degrees, each as likely: for pictures without an up, as microscopy's."""

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        turns = int(rng.integers(0, 4))
        return np.rot90(image, turns), np.rot90(label, turns)
