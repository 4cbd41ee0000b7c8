"""What every transform shares: the one after the other, values checked, ground outside the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Union

import cv2
import numpy as np

from paddlefcn.data.images import check_number
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


def interval(what: str, pair: Any, low: float, high: float) -> tuple[float, float]:
    """A [low, high] as a tuple; ValueError if it is none."""
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise ValueError(f"{what}: expected [low, high], got {pair!r}")
    for value in pair:
        check_number(what, value, low, high)
    if pair[0] > pair[1]:
        raise ValueError(f"{what}: {pair[0]} is above {pair[1]}; expected [low, high]")
    return float(pair[0]), float(pair[1])


def check_fill(what: str, fill: Any) -> np.ndarray:
    values = fill if isinstance(fill, (list, tuple)) else [fill]
    if not values:
        raise ValueError(f"{what} fill: expected a number, or one for each channel, got {fill!r}")
    for value in values:
        check_number(f"{what} fill", value, -1e30, 1e30)
    return np.array(values, np.float64)


def ground_value(fill: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The fill for every channel, in the image's dtype."""
    if len(fill) not in (1, image.shape[2]):
        raise DataError(f"fill has {len(fill)} values for an image of {image.shape[2]} channels; give one")
    return as_type(np.broadcast_to(fill, (image.shape[2],)), image.dtype)


def on_ground(
    array: np.ndarray, size: tuple[int, int], place: tuple[int, int], value: np.ndarray
) -> np.ndarray:
    """HxWxC on a larger ground of `size` [height, width], its corner at `place`; `value` for each channel."""
    top, left = place
    height, width, channels = array.shape
    if channels <= 4 and array.dtype != np.int64:
        border = (top, size[0] - top - height, left, size[1] - left - width)
        color = [float(number) for number in value]
        out = cv2.copyMakeBorder(np.ascontiguousarray(array), *border, cv2.BORDER_CONSTANT, value=color)
        return out.reshape(*size, channels)
    out = np.empty((*size, channels), array.dtype)
    out[:] = value
    out[top : top + height, left : left + width] = array
    return out


def as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Rounded and clipped to an integer type's range; floats are only converted."""
    if dtype.kind == "u":
        return np.clip(np.rint(values), 0, np.iinfo(dtype).max).astype(dtype)
    return values.astype(dtype)
