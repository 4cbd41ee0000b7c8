"""Colours and grey levels. The label stays."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from paddlefcn.data.images import check_number
from paddlefcn.data.transforms.base import Fill, Pair, as_type, check_fill, ground_value, interval
from paddlefcn.errors import DataError


class ColorJitter:
    """Changes brightness, contrast, saturation and hue in the image's own range.

    A value v draws a factor of 1-v..1+v; `hue` is in turns (0.5 is half the colour circle, drawn from
    -hue..hue, as a rotation about the grey axis). Saturation and hue leave grey images as they are; for
    2 or more than 3 channels they must be 0.
    """

    def __init__(
        self, brightness: float = 0.3, contrast: float = 0.3, saturation: float = 0.3, hue: float = 0.0
    ) -> None:
        for name, value in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
            check_number(f"ColorJitter {name}", value, 0, 1)
        check_number("ColorJitter hue", hue, 0, 0.5)
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        spreads = (self.brightness, self.contrast, self.saturation)
        brightness, contrast, saturation = (1 + spread * rng.uniform(-1, 1) for spread in spreads)
        hue = self.hue * rng.uniform(-1, 1)
        channels = image.shape[2]
        if channels not in (1, 3) and (self.saturation or self.hue):
            raise DataError(
                f"ColorJitter: an image of {channels} channels has no saturation and hue; set both to 0 in "
                f"data.train_transforms"
            )
        # contrast is about the mean, so the whole is one affine map of the colours
        mean = _mean(image)
        gain, shift = brightness * contrast, brightness * mean * (1 - contrast)
        if channels != 3 or not (self.saturation or self.hue):
            return _affine(image, gain, shift), label
        matrix = np.empty((3, 4))
        matrix[:, :3] = gain * _color_matrix(saturation, hue)
        matrix[:, 3] = shift
        return cv2.transform(np.ascontiguousarray(image), matrix), label


class RandomGamma:
    """Raises grey levels to a power drawn from `range`; the ends of the range stay where they are.

    The range is that of the integer type, and of a float image the values it holds.
    """

    def __init__(self, range: Sequence[float] = (0.7, 1.4), p: float = 1.0) -> None:
        self.range = interval("RandomGamma range", range, 0.05, 20)
        check_number("RandomGamma p", p, 0, 1)
        self.p = p

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        chance, gamma = rng.random(), rng.uniform(*self.range)
        if chance >= self.p:
            return image, label
        if image.dtype == np.uint8:
            table = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
            return look_up(image, table), label
        integer = image.dtype.kind == "u"
        low, high = (0.0, 65535.0) if integer else (float(image.min()), float(image.max()))
        if high <= low:
            return image, label
        out = low + (high - low) * ((image.astype(np.float32) - low) / (high - low)) ** np.float32(gamma)
        return as_type(out, image.dtype), label


class CLAHE:
    """Evens out contrast in `tiles` x `tiles` parts of the picture (contrast limited; Zuiderveld 1994).

    Colours keep their differences from the luma, which alone is evened out; of other than 3 channels, each
    is. The range is that of the integer type, and of a float image the values it holds.

    Args:
        clip: [low, high] that the limit is drawn from; 1 changes next to nothing.
    """

    def __init__(self, clip: Sequence[float] = (1.0, 4.0), tiles: int = 8, p: float = 0.5) -> None:
        self.clip = interval("CLAHE clip", clip, 0.01, 100)
        check_number("CLAHE tiles", tiles, 1, 64, integer=True)
        check_number("CLAHE p", p, 0, 1)
        self.tiles, self.p = tiles, p

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        chance, limit = rng.random(), rng.uniform(*self.clip)
        if chance >= self.p:
            return image, label
        clahe = cv2.createCLAHE(limit, (self.tiles, self.tiles))
        if image.shape[2] != 3:
            planes = [_evened(image[:, :, channel], clahe) for channel in range(image.shape[2])]
            return as_type(np.stack(planes, axis=2), image.dtype), label
        luma = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        change = _evened(luma, clahe) - luma.astype(np.float32)
        return as_type(image.astype(np.float32) + change[:, :, None], image.dtype), label


class ChannelDrop:
    """Sets `count` channels, drawn at random, to `fill`, which normalises to 0: a band is missing.

    At least one channel stays.
    """

    def __init__(self, count: int = 1, p: float = 0.2, fill: Fill = 0.0) -> None:
        check_number("ChannelDrop count", count, 1, 1024, integer=True)
        check_number("ChannelDrop p", p, 0, 1)
        self.count, self.p, self.fill = count, p, check_fill("ChannelDrop", fill)

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        if rng.random() >= self.p:
            return image, label
        dropped = rng.permutation(image.shape[2])[: min(self.count, image.shape[2] - 1)]
        out = image.copy()
        out[:, :, dropped] = ground_value(self.fill, image)[dropped]
        return out, label


def _evened(plane: np.ndarray, clahe: cv2.CLAHE) -> np.ndarray:
    """float32 HxW in the plane's own range."""
    plane = np.ascontiguousarray(plane)
    if plane.dtype.kind == "u":
        return clahe.apply(plane).astype(np.float32)
    low, high = float(plane.min()), float(plane.max())
    if high <= low:
        return plane.astype(np.float32)
    steps = np.rint((plane - low) * np.float32(65535 / (high - low))).astype(np.uint16)
    return clahe.apply(steps).astype(np.float32) * np.float32((high - low) / 65535) + np.float32(low)


def _affine(image: np.ndarray, gain: float, shift: float) -> np.ndarray:
    if image.dtype == np.uint8:
        return look_up(image, as_type(np.arange(256) * gain + shift, image.dtype))
    return as_type(image.astype(np.float32) * np.float32(gain) + np.float32(shift), image.dtype)


def look_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """`table` [256] of uint8 at every byte of a uint8 image; several times as fast as `table[image]`."""
    return cv2.LUT(np.ascontiguousarray(image), table).reshape(image.shape)


def _mean(image: np.ndarray) -> float:
    """Of all values. Sums of integers are exact in float64: cv2 gives numpy's, at a tenth of the time."""
    if image.dtype.kind != "u":
        return float(image.mean(dtype=np.float64))
    flat = np.ascontiguousarray(image).reshape(image.shape[0], -1)
    return cv2.sumElems(flat)[0] / image.size


_IDENTITY = np.eye(3)
_TO_LUMA = np.outer(np.ones(3), [0.299, 0.587, 0.114])


def _color_matrix(saturation: float, hue: float) -> np.ndarray:
    """3x3: saturation about the luma (ITU-R 601), then a turn about the grey axis."""
    saturate = saturation * _IDENTITY + (1 - saturation) * _TO_LUMA
    if hue == 0:
        return saturate
    angle = 2 * np.pi * hue
    cosine, sine = np.cos(angle), np.sin(angle)
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotate = cosine * np.eye(3) + sine * cross + (1 - cosine) * np.outer(axis, axis)
    return rotate @ saturate
