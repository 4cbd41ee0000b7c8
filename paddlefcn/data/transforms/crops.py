"""Cutting out a size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paddlefcn.data.images import check_size
from paddlefcn.data.transforms.base import Fill, Pair, check_fill, ground_value, on_ground


class RandomCrop:
    """Cuts out `size` [height, width] at random; a smaller image is placed at random on void ground."""

    def __init__(self, size: Sequence[int], fill: Fill = 0.0, ignore_index: int = 255) -> None:
        self.size = check_size("RandomCrop size", size)
        self.fill = check_fill("RandomCrop", fill)
        self.ignore_index = ignore_index

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        tops = []
        for have, want in zip(image.shape[:2], self.size):
            tops.append(int(rng.integers(0, abs(have - want) + 1)))
        source, target = [], []
        for have, want, start in zip(image.shape[:2], self.size, tops):
            length = min(have, want)
            source.append(slice(start, start + length) if have > want else slice(0, length))
            target.append(slice(start, start + length) if have < want else slice(0, length))
        if image.shape[0] >= self.size[0] and image.shape[1] >= self.size[1]:
            return image[source[0], source[1]], label[source[0], source[1]]
        place = (target[0].start, target[1].start)
        ground, void = ground_value(self.fill, image), np.array([self.ignore_index])
        return (
            on_ground(image[source[0], source[1]], self.size, place, ground),
            on_ground(label[source[0], source[1]][:, :, None], self.size, place, void)[:, :, 0],
        )
