"""Scale, rotation, shear, perspective, crop and flip as one warp of the pixels that are kept.

Growing is bilinear. Shrinking averages over areas: a bilinear sample alone would skip pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from paddlefcn.data.images import check_number, check_size, resize_label
from paddlefcn.data.transforms.base import Fill, Pair, check_fill, ground_value, interval, on_ground
from paddlefcn.data.transforms.warps import (
    perspective_matrix,
    resize_over_areas,
    shear_matrix,
    warp_by_matrix,
)

# below this factor a bilinear sample is further than 2/255 from the area's average on some photographs
_BILINEAR_FROM = 0.75


@dataclasses.dataclass(frozen=True)
class _Span:
    """A side: `length` source pixels from `start` become `size` pixels of the result from `place`."""

    start: int
    length: int
    place: int
    size: int


class RandomWarp:
    """`RandomScale`, rotation, shear, perspective, `RandomCrop` and `RandomFlip` in one warp.

    Args:
        size: [height, width] of the result; what lies outside the picture is void.
        scale: the factor's range, drawn evenly; `aspect` stretches by up to that factor more.
        degrees: rotation of up to this either way; `shear` in degrees, along both sides.
        perspective: how far the corners move, as a share of the sides.
        horizontal, vertical: probabilities of a flip.
    """

    def __init__(
        self,
        size: Sequence[int],
        scale: Sequence[float] = (0.5, 2.0),
        aspect: float = 1.0,
        degrees: float = 0.0,
        shear: float = 0.0,
        perspective: float = 0.0,
        horizontal: float = 0.5,
        vertical: float = 0.0,
        fill: Fill = 0.0,
        ignore_index: int = 255,
    ) -> None:
        self.size = check_size("RandomWarp size", size)
        self.scale = interval("RandomWarp scale", scale, 0.01, 100)
        check_number("RandomWarp aspect", aspect, 1, 10)
        check_number("RandomWarp degrees", degrees, 0, 180)
        check_number("RandomWarp shear", shear, 0, 60)
        check_number("RandomWarp perspective", perspective, 0, 0.9)
        check_number("RandomWarp horizontal", horizontal, 0, 1)
        check_number("RandomWarp vertical", vertical, 0, 1)
        self.aspect, self.degrees, self.shear, self.perspective = aspect, degrees, shear, perspective
        self.horizontal, self.vertical = horizontal, vertical
        self.fill, self.ignore_index = check_fill("RandomWarp", fill), ignore_index

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        factor, stretch = rng.uniform(*self.scale), self.aspect ** rng.uniform(-0.5, 0.5)
        across, down = rng.random(2)
        mirror = (down < self.vertical, across < self.horizontal)
        place = rng.random(2)
        factors = (factor / stretch, factor * stretch)  # of height and width
        if not (self.degrees or self.shear or self.perspective):
            image, label = self._window(image, label, factors, place)
            return _mirrored(image, label, mirror)
        matrix = self._matrix(label.shape[:2], factors, mirror, place, rng)
        return warp_by_matrix(
            image, label, matrix, self.size, self.fill, self.ignore_index, factor=min(factors)
        )

    def _window(
        self, image: np.ndarray, label: np.ndarray, factors: tuple[float, float], place: np.ndarray
    ) -> Pair:
        """Cuts out the window of whole source pixels that fills the crop, and resizes only that."""
        rows, columns = (
            _span(have, want, factor, share)
            for have, want, factor, share in zip(label.shape, self.size, factors, place)
        )
        source = np.s_[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length]
        size = (rows.size, columns.size)
        image, label = resize_averaged(image[source], size), resize_ids(label[source], size)
        if size == self.size:
            return image, label
        place_at = (rows.place, columns.place)
        return (
            on_ground(image, self.size, place_at, ground_value(self.fill, image)),
            on_ground(label[:, :, None], self.size, place_at, np.array([self.ignore_index]))[:, :, 0],
        )

    def _matrix(
        self,
        shape: tuple[int, ...],
        factors: tuple[float, float],
        mirror: tuple[bool, bool],
        place: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """3x3, source (x, y, 1) -> result: scaled, bent and turned about the centre, mirrored, cropped."""
        height, width = (max(1.0, side * factor) for side, factor in zip(shape, factors))
        # pixel centres are whole numbers, so a side runs from -0.5
        scale = np.diag([factors[1], factors[0], 1.0])
        scale[:2, 2] = scale[0, 0] / 2 - 0.5, scale[1, 1] / 2 - 0.5
        turn = np.deg2rad(rng.uniform(-self.degrees, self.degrees))
        cosine, sine = np.cos(turn), np.sin(turn)
        rotate = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
        bend = rotate @ shear_matrix(rng.uniform(-self.shear, self.shear, 2))
        moves = rng.uniform(-self.perspective, self.perspective, (4, 2))
        bend = perspective_matrix(height, width, moves) @ bend
        flip = np.diag([-1.0 if mirror[1] else 1.0, -1.0 if mirror[0] else 1.0, 1.0])
        to_center, back = np.eye(3), np.eye(3)
        to_center[:2, 2] = -(width - 1) / 2, -(height - 1) / 2
        # the crop's corner, as RandomCrop draws it: anywhere inside, or the picture anywhere in the crop
        top, left = ((side - want) * share for side, want, share in zip((height, width), self.size, place))
        back[:2, 2] = (width - 1) / 2 - left, (height - 1) / 2 - top
        return back @ flip @ bend @ to_center @ scale


def _span(have: int, want: int, factor: float, share: float) -> _Span:
    """Where along one side of `have` pixels a crop of `want` scaled pixels lies; `share` 0..1 is chance."""
    length = max(1, round(want / factor))
    if length <= have:
        return _Span(int(share * (have - length + 1)), length, 0, want)
    size = min(want, max(1, round(have * factor)))
    return _Span(0, have, int(share * (want - size + 1)), size)


def _mirrored(image: np.ndarray, label: np.ndarray, mirror: tuple[bool, bool]) -> Pair:
    for axis, flipped in enumerate(mirror):
        if flipped:
            # a copy: whoever comes next would make one of a view with negative steps, and more slowly
            image, label = flipped_copy(image, axis), flipped_copy(label, axis)
    return image, label


def resize_averaged(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """HxWxC to `size`: bilinear; averaged where both sides shrink by more than a quarter.

    Down to 1/2 four bilinear samples make a pixel, which takes half the time of exact areas and differs from
    them by less than 2/255 in the mean; below, areas are exact.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    factor = max(height / image.shape[0], width / image.shape[1])
    if factor < 0.5:
        return resize_over_areas(image, height, width)
    fine = 2 if factor < _BILINEAR_FROM else 1
    size = (width * fine, height * fine)
    resized = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    resized = resized.reshape(height * fine, width * fine, image.shape[2])
    return resized if fine == 1 else resize_over_areas(resized, height, width)


def resize_ids(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest by pixel centres, as `resize_averaged` places the image."""
    if label.shape == size:
        return label
    if label.dtype == np.uint8:  # of cv2's two nearests the one by pixel centres
        return cv2.resize(label, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    resized = resize_label(label, *size)
    assert resized is not None
    return resized


def flipped_copy(array: np.ndarray, axis: int) -> np.ndarray:
    """The array [H, W, C] or [H, W] mirrored along an axis, as a new one."""
    return cv2.flip(array, 1 - axis).reshape(array.shape)
