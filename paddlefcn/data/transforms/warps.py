"""Warps by a matrix: rotation, shear, perspective. What comes from outside becomes void."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from paddlefcn.data.images import check_number
from paddlefcn.data.transforms.base import Fill, Pair, check_fill, ground_value


class RandomRotation:
    """Turns about the centre by up to `degrees` either way, with probability `p`; corners become void."""

    def __init__(
        self, degrees: float = 10.0, p: float = 1.0, fill: Fill = 0.0, ignore_index: int = 255
    ) -> None:
        check_number("RandomRotation degrees", degrees, 0, 180)
        check_number("RandomRotation p", p, 0, 1)
        self.degrees, self.p = degrees, p
        self.fill, self.ignore_index = check_fill("RandomRotation", fill), ignore_index

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

        return warp_pair(image, label, warp, self.fill, self.ignore_index)


class RandomShear:
    """Slants both sides by up to `degrees` about the centre, with probability `p`; corners become void."""

    def __init__(
        self, degrees: float = 10.0, p: float = 1.0, fill: Fill = 0.0, ignore_index: int = 255
    ) -> None:
        check_number("RandomShear degrees", degrees, 0, 60)
        check_number("RandomShear p", p, 0, 1)
        self.degrees, self.p = degrees, p
        self.fill, self.ignore_index = check_fill("RandomShear", fill), ignore_index

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        chance, angles = rng.random(), rng.uniform(-self.degrees, self.degrees, 2)
        if chance >= self.p or not angles.any():
            return image, label
        matrix = _about_center(label.shape, shear_matrix(angles))
        return warp_by_matrix(image, label, matrix, label.shape, self.fill, self.ignore_index)


class RandomPerspective:
    """Moves each corner by up to `amount` of the sides either way, with probability `p`: a camera's tilt."""

    def __init__(
        self, amount: float = 0.2, p: float = 1.0, fill: Fill = 0.0, ignore_index: int = 255
    ) -> None:
        check_number("RandomPerspective amount", amount, 0, 0.9)
        check_number("RandomPerspective p", p, 0, 1)
        self.amount, self.p = amount, p
        self.fill, self.ignore_index = check_fill("RandomPerspective", fill), ignore_index

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        chance, moves = rng.random(), rng.uniform(-self.amount, self.amount, (4, 2))
        if chance >= self.p or not moves.any():
            return image, label
        matrix = _about_center(label.shape, perspective_matrix(label.shape[0], label.shape[1], moves))
        return warp_by_matrix(image, label, matrix, label.shape, self.fill, self.ignore_index)


def shear_matrix(degrees: np.ndarray) -> np.ndarray:
    """3x3 about the origin, area kept: the first angle slants along x, the second along y."""
    along, down = np.tan(np.deg2rad(degrees))
    upper = np.array([[1, along, 0], [0, 1, 0], [0, 0, 1.0]])
    return upper @ np.array([[1, 0, 0], [down, 1, 0], [0, 0, 1.0]])


def perspective_matrix(height: float, width: float, moves: np.ndarray) -> np.ndarray:
    """3x3 about the centre: the corner i of a picture moves by half of `moves` [4, 2] (x, y; in sides)."""
    if not moves.any():
        return np.eye(3)
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    sides = np.array([width, height])
    before, after = corners * sides, (corners + moves / 2) * sides
    return cv2.getPerspectiveTransform(before.astype(np.float32), after.astype(np.float32))


def _about_center(shape: tuple[int, ...], matrix: np.ndarray) -> np.ndarray:
    there, back = np.eye(3), np.eye(3)
    back[:2, 2] = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    there[:2, 2] = -back[:2, 2]
    return back @ matrix @ there


def warp_by_matrix(
    image: np.ndarray,
    label: np.ndarray,
    matrix: np.ndarray,
    size: tuple[int, ...],
    fill: np.ndarray,
    ignore_index: int,
    factor: float = 1.0,
) -> Pair:
    """Image and label in a new frame of `size` [height, width] by a 3x3 `matrix` (x, y, 1) -> (x', y').

    Where `factor`, the smaller of the scales, is below 1, four samples are averaged for each pixel; below
    1/2 the picture is halved over areas first.
    """
    small = image
    shrink = np.eye(3)
    while factor < 0.5 and min(small.shape[:2]) >= 4:
        small = _halved(small)
        factor *= 2
        shrink = _resizing(small.shape, image.shape)
    fine = 2 if factor < 0.9 else 1
    refine = _resizing((size[0] * fine, size[1] * fine), size)
    out = _warped(
        small,
        refine @ matrix @ np.linalg.inv(shrink),
        (size[0] * fine, size[1] * fine),
        cv2.INTER_LINEAR,
        ground_value(fill, image),
    )
    out = out if fine == 1 else _halved(out)
    plain = label if label.dtype == np.uint8 else label.astype(np.float64)  # cv2 warps no int32 everywhere
    void = np.array([float(ignore_index)])
    ids = _warped(plain[:, :, None], matrix, size, cv2.INTER_NEAREST, void)[:, :, 0]
    return out, ids.astype(label.dtype, copy=False)


def _resizing(target: tuple[int, ...], source: tuple[int, ...]) -> np.ndarray:
    """3x3 from the pixels of one grid to those of another over the same picture."""
    down, across = target[0] / source[0], target[1] / source[1]
    return np.array([[across, 0, across / 2 - 0.5], [0, down, down / 2 - 0.5], [0, 0, 1.0]])


def _halved(image: np.ndarray) -> np.ndarray:
    return resize_over_areas(image, image.shape[0] // 2, image.shape[1] // 2)


def resize_over_areas(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """HxWxC averaged over areas, four channels at a time: cv2 averages no more."""
    parts = []
    for start in range(0, image.shape[2], 4):
        part = np.ascontiguousarray(image[:, :, start : start + 4])
        done = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
        parts.append(done.reshape(height, width, -1))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def _warped(
    image: np.ndarray, matrix: np.ndarray, size: tuple[int, ...], flags: int, border: np.ndarray
) -> np.ndarray:
    """HxWxC warped, four channels at a time: cv2's border value has no more."""
    affine = not matrix[2, :2].any()
    warp, form = (cv2.warpAffine, matrix[:2]) if affine else (cv2.warpPerspective, matrix)
    parts = []
    for start in range(0, image.shape[2], 4):
        part = np.ascontiguousarray(image[:, :, start : start + 4])
        value = [float(number) for number in border[start : start + 4]]
        done = warp(
            part, form, (size[1], size[0]), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=value
        )
        parts.append(done.reshape(size[0], size[1], -1))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def warp_pair(
    image: np.ndarray, label: np.ndarray, warp: Callable[..., np.ndarray], fill: np.ndarray, ignore_index: int
) -> Pair:
    """Applies `warp(plane, flags, border)` to the image (bilinear) and to the label (nearest)."""
    ground = ground_value(fill, image)
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
