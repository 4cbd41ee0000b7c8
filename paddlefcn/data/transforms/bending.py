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
