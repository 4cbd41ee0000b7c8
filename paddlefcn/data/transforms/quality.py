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


class MotionBlur:
    """Smears along a line of `length` pixels (drawn from [low, high]) at any angle, with probability `p`."""

    def __init__(self, length: Sequence[int] = (3, 9), p: float = 0.3) -> None:
        low, high = interval("MotionBlur length", length, 2, 999)
        for value in length:
            check_number("MotionBlur length", value, 2, 999, integer=True)
        check_number("MotionBlur p", p, 0, 1)
        self.length, self.p = (int(low), int(high)), p

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        chance, angle = rng.random(), rng.uniform(0, np.pi)
        length = int(rng.integers(self.length[0], self.length[1] + 1))
        if chance >= self.p:
            return image, label
        side = length | 1  # odd: the line runs through the middle of the kernel
        half = (length - 1) / 2
        across, down = half * np.cos(angle), half * np.sin(angle)
        kernel = np.zeros((side, side), np.float32)
        for share in np.linspace(-1, 1, 4 * side):
            kernel[round(side // 2 + share * down), round(side // 2 + share * across)] += 1
        kernel /= kernel.sum()
        out = cv2.filter2D(np.ascontiguousarray(image), -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        return out.reshape(image.shape), label


class JPEGArtefacts:
    """Adds what a JPEG file of a `quality` drawn from [low, high] would do to the picture.

    Images of 16 bits, floats and other than 1 or 3 channels get the change that JPEG makes to their 8-bit
    version (of a float image: of the range it holds), channel by channel.
    """

    def __init__(self, quality: Sequence[int] = (30, 90), p: float = 0.3) -> None:
        low, high = interval("JPEGArtefacts quality", quality, 1, 100)
        for value in quality:
            check_number("JPEGArtefacts quality", value, 1, 100, integer=True)
        check_number("JPEGArtefacts p", p, 0, 1)
        self.quality, self.p = (int(low), int(high)), p

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        chance, quality = rng.random(), int(rng.integers(self.quality[0], self.quality[1] + 1))
        if chance >= self.p:
            return image, label
        if image.dtype == np.uint8:
            return _through_jpeg(image, quality), label
        low = 0.0 if image.dtype.kind == "u" else float(image.min())
        step = (65535 if image.dtype.kind == "u" else float(image.max()) - low) / 255
        if step <= 0:
            return image, label
        plain = image.astype(np.float32)
        bytes_ = as_type((plain - np.float32(low)) / np.float32(step), np.dtype(np.uint8))
        change = _through_jpeg(bytes_, quality).astype(np.float32) - bytes_
        return as_type(plain + change * np.float32(step), image.dtype), label


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """uint8 HxWxC written and read again; three channels are taken for red, green and blue."""
    height, width, channels = image.shape
    if channels not in (1, 3):
        planes = [_through_jpeg(image[:, :, channel : channel + 1], quality) for channel in range(channels)]
        return np.concatenate(planes, axis=2)
    order = image[:, :, ::-1] if channels == 3 else image
    _, content = cv2.imencode(".jpg", np.ascontiguousarray(order), [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded: np.ndarray = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)  # type: ignore[assignment]
    decoded = decoded.reshape(height, width, channels)
    return np.ascontiguousarray(decoded[:, :, ::-1]) if channels == 3 else decoded
