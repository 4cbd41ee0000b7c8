"""What lenses, sensors and files do to a picture. The label stays."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from paddlefcn.data.images import check_number
from paddlefcn.data.transforms.base import Pair, as_type, interval


class RandomBlur:
    """Gaussian blur with a sigma (in pixels) drawn from `sigma`, with probability `p`."""

    def __init__(self, sigma: Sequence[float] = (0.1, 1.5), p: float = 0.5) -> None:
        self.sigma = interval("RandomBlur sigma", sigma, 0.01, 100)
        check_number("RandomBlur p", p, 0, 1)
        self.p = p

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        chance, sigma = rng.random(), rng.uniform(*self.sigma)
        if chance >= self.p:
            return image, label
        out = cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), sigma)
        return out.reshape(image.shape), label


class RandomNoise:
    """Adds Gaussian noise; its standard deviation is drawn from 0..`sigma`, as a share of the range.

    The range is that of the integer type, and of a float image the values it holds.
    """

    def __init__(self, sigma: float = 0.03, p: float = 0.5) -> None:
        check_number("RandomNoise sigma", sigma, 0, 1)
        check_number("RandomNoise p", p, 0, 1)
        self.sigma, self.p = sigma, p

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        chance, share = rng.random(), rng.uniform(0, self.sigma)
        if chance >= self.p:
            return image, label
        width = np.iinfo(image.dtype).max if image.dtype.kind == "u" else float(np.ptp(image))
        noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(share * width)
        return as_type(image.astype(np.float32) + noise, image.dtype), label
