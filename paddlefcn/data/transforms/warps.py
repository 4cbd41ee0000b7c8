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
