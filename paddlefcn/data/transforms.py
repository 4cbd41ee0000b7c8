"""Augmentation: (image HxWxC, label HxW, rng) -> (image, label).

Images are uint8, uint16 or float32 with any number of channels, and keep dtype and range. All chance
comes from `rng`, so that a sample is the same whichever worker makes it. `fill` (the value that
normalises to 0) and `ignore_index` are what stands outside the picture; the config provides them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Union

import cv2
import numpy as np

from paddlefcn.data.images import check_number, check_size, resize_image, resize_label
from paddlefcn.errors import DataError

Fill = Union[float, Sequence[float]]  # noqa: UP007 - evaluated on Python 3.9
Pair = tuple[np.ndarray, np.ndarray]
Transform = Callable[[np.ndarray, np.ndarray, np.random.Generator], Pair]


class Compose:
    """One transform after the other."""

    def __init__(self, transforms: Sequence[Any]) -> None:
        self.transforms = list(transforms)

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        for transform in self.transforms:
            image, label = transform(image, label, rng)
        return image, label


class RandomScale:
    """Scales both sides by a factor drawn evenly from `range`; `aspect` stretches by up to that factor more.

    `aspect` 1.25 makes an image up to 1.25 times wider or narrower at an equal area.
    """

    def __init__(self, range: Sequence[float] = (0.5, 2.0), aspect: float = 1.0) -> None:
        self.range = _interval("RandomScale range", range, 0.01, 100)
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


class RandomCrop:
    """Cuts out `size` [height, width] at random; a smaller image is placed at random on void ground."""

    def __init__(self, size: Sequence[int], fill: Fill = 0.0, ignore_index: int = 255) -> None:
        self.size = check_size("RandomCrop size", size)
        self.fill = _fill("RandomCrop", fill)
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
        ground = np.empty((*self.size, image.shape[2]), image.dtype)
        ground[:] = _ground(self.fill, image)
        void = np.full(self.size, self.ignore_index, label.dtype)
        ground[target[0], target[1]] = image[source[0], source[1]]
        void[target[0], target[1]] = label[source[0], source[1]]
        return ground, void


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


class RandomRotation:
    """Turns about the centre by up to `degrees` either way, with probability `p`; corners become void."""

    def __init__(
        self, degrees: float = 10.0, p: float = 1.0, fill: Fill = 0.0, ignore_index: int = 255
    ) -> None:
        check_number("RandomRotation degrees", degrees, 0, 180)
        check_number("RandomRotation p", p, 0, 1)
        self.degrees, self.p = degrees, p
        self.fill, self.ignore_index = _fill("RandomRotation", fill), ignore_index

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        chance, turn = rng.random(), rng.uniform(-self.degrees, self.degrees)
        if chance >= self.p or turn == 0:
            return image, label
        height, width = label.shape
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, 1.0)

        def warp(plane: np.ndarray, flags: int, border: Any) -> np.ndarray:
            return cv2.warpAffine(
                plane,
                matrix,
                (width, height),
                flags=flags,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=border,
            )

        return _warp(image, label, warp, self.fill, self.ignore_index)


class RandomRotate90:
    """Turns by 0, 90, 180 or 270 degrees, each as likely: for pictures without an up, as microscopy's."""

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        turns = int(rng.integers(0, 4))
        return np.rot90(image, turns), np.rot90(label, turns)


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
        self.fill, self.ignore_index = _fill("ElasticDeform", fill), ignore_index

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

        return _warp(image, label, warp, self.fill, self.ignore_index)


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
        mean = float(image.mean(dtype=np.float64))
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
        self.range = _interval("RandomGamma range", range, 0.05, 20)
        check_number("RandomGamma p", p, 0, 1)
        self.p = p

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        chance, gamma = rng.random(), rng.uniform(*self.range)
        if chance >= self.p:
            return image, label
        if image.dtype == np.uint8:
            table = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
            return table[image], label
        integer = image.dtype.kind == "u"
        low, high = (0.0, 65535.0) if integer else (float(image.min()), float(image.max()))
        if high <= low:
            return image, label
        out = low + (high - low) * ((image.astype(np.float32) - low) / (high - low)) ** np.float32(gamma)
        return _as_type(out, image.dtype), label


class RandomBlur:
    """Gaussian blur with a sigma (in pixels) drawn from `sigma`, with probability `p`."""

    def __init__(self, sigma: Sequence[float] = (0.1, 1.5), p: float = 0.5) -> None:
        self.sigma = _interval("RandomBlur sigma", sigma, 0.01, 100)
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
        return _as_type(image.astype(np.float32) + noise, image.dtype), label


def _interval(what: str, pair: Any, low: float, high: float) -> tuple[float, float]:
    """A [low, high] as a tuple; ValueError if it is none."""
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise ValueError(f"{what}: expected [low, high], got {pair!r}")
    for value in pair:
        check_number(what, value, low, high)
    if pair[0] > pair[1]:
        raise ValueError(f"{what}: {pair[0]} is above {pair[1]}; expected [low, high]")
    return float(pair[0]), float(pair[1])


def _fill(what: str, fill: Any) -> np.ndarray:
    values = fill if isinstance(fill, (list, tuple)) else [fill]
    if not values:
        raise ValueError(f"{what} fill: expected a number, or one for each channel, got {fill!r}")
    for value in values:
        check_number(f"{what} fill", value, -1e30, 1e30)
    return np.array(values, np.float64)


def _ground(fill: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The fill for every channel, in the image's dtype."""
    if len(fill) not in (1, image.shape[2]):
        raise DataError(f"fill has {len(fill)} values for an image of {image.shape[2]} channels; give one")
    return _as_type(np.broadcast_to(fill, (image.shape[2],)), image.dtype)


def _as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Rounded and clipped to an integer type's range; floats are only converted."""
    if dtype.kind == "u":
        return np.clip(np.rint(values), 0, np.iinfo(dtype).max).astype(dtype)
    return values.astype(dtype)


def _affine(image: np.ndarray, gain: float, shift: float) -> np.ndarray:
    if image.dtype == np.uint8:
        return _as_type(np.arange(256) * gain + shift, image.dtype)[image]
    return _as_type(image.astype(np.float32) * np.float32(gain) + np.float32(shift), image.dtype)


def _color_matrix(saturation: float, hue: float) -> np.ndarray:
    """3x3: saturation about the luma (ITU-R 601), then a turn about the grey axis."""
    luma = np.array([0.299, 0.587, 0.114])
    saturate = saturation * np.eye(3) + (1 - saturation) * np.outer(np.ones(3), luma)
    angle = 2 * np.pi * hue
    cosine, sine = np.cos(angle), np.sin(angle)
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotate = cosine * np.eye(3) + sine * cross + (1 - cosine) * np.outer(axis, axis)
    return rotate @ saturate


def _warp(
    image: np.ndarray, label: np.ndarray, warp: Callable[..., np.ndarray], fill: np.ndarray, ignore_index: int
) -> Pair:
    """Applies `warp(plane, flags, border)` to the image (bilinear) and to the label (nearest)."""
    ground = _ground(fill, image)
    parts = []
    for start in range(0, image.shape[2], 4):  # cv2's border value has 4 channels
        plane = np.ascontiguousarray(image[:, :, start : start + 4])
        border = [float(value) for value in ground[start : start + 4]]
        parts.append(warp(plane, cv2.INTER_LINEAR, border).reshape(plane.shape))
    out = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
    # cv2 warps no int32 everywhere; float64 holds every id exactly
    plain = np.ascontiguousarray(label if label.dtype == np.uint8 else label.astype(np.float64))
    turned = warp(plain, cv2.INTER_NEAREST, float(ignore_index)).astype(label.dtype)
    return out, turned
