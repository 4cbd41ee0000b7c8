"""Smooth bending of the picture."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from paddlefcn.data.images import check_number
from paddlefcn.data.transforms.base import Fill, Pair, check_fill
from paddlefcn.data.transforms.warps import warp_pair


class ElasticDeform:
    """Bends the picture: shifts of `alpha` pixels (standard deviation) every `spacing` pixels.

    As in U-Net (Ronneberger et al. 2015, section 3.1: 10 pixels on a coarse grid); corners become void.
    """

    def __init__(
        self,
        alpha: float = 8.0,
        spacing: int = 96,
        p: float = 1.0,
        fill: Fill = 0.0,
        ignore_index: int = 255,
    ) -> None:
        check_number("ElasticDeform alpha", alpha, 0, 1000)
        check_number("ElasticDeform spacing", spacing, 4, 4096, integer=True)
        check_number("ElasticDeform p", p, 0, 1)
        self.alpha, self.spacing, self.p = alpha, spacing, p
        self.fill, self.ignore_index = check_fill("ElasticDeform", fill), ignore_index

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        if rng.random() >= self.p:
            return image, label
        height, width = label.shape
        cells = (height // self.spacing + 2, width // self.spacing + 2, 2)
        coarse = rng.normal(0, self.alpha, cells).astype(np.float32)
        shift = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        rows, columns = np.indices((height, width), dtype=np.float32)
        across, down = columns + shift[:, :, 0], rows + shift[:, :, 1]

        def warp(plane: np.ndarray, flags: int, border: Any) -> np.ndarray:
            return cv2.remap(plane, across, down, flags, borderMode=cv2.BORDER_CONSTANT, borderValue=border)

        return warp_pair(image, label, warp, self.fill, self.ignore_index)


class GridDistortion:
    """Moves the knots of a grid by up to `amount` of a cell each, and stretches what lies between.

    The picture's rim stays where it is, so nothing becomes void. `cells` along each side.
    """

    def __init__(self, cells: int = 5, amount: float = 0.3, p: float = 0.5) -> None:
        check_number("GridDistortion cells", cells, 2, 64, integer=True)
        # half a cell would let two knots meet, and the picture fold
        check_number("GridDistortion amount", amount, 0, 0.45)
        check_number("GridDistortion p", p, 0, 1)
        self.cells, self.amount, self.p = cells, amount, p

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        chance = rng.random()
        moves = rng.uniform(-self.amount, self.amount, (self.cells + 1, self.cells + 1, 2))
        if chance >= self.p:
            return image, label
        moves[[0, -1]] = moves[:, [0, -1]] = 0
        height, width = label.shape
        knots = moves * [(width - 1) / self.cells, (height - 1) / self.cells]
        rows, columns = np.indices((height, width), dtype=np.float32)
        # the knots' shifts at every pixel: the corners of grid and picture lie on each other
        shift = cv2.remap(
            knots.astype(np.float32),
            columns * np.float32(self.cells / max(1, width - 1)),
            rows * np.float32(self.cells / max(1, height - 1)),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        across, down = columns + shift[:, :, 0], rows + shift[:, :, 1]

        def warp(plane: np.ndarray, flags: int, border: Any) -> np.ndarray:
            return cv2.remap(plane, across, down, flags, borderMode=cv2.BORDER_REPLICATE)

        return warp_pair(image, label, warp, np.zeros(1), 0)
