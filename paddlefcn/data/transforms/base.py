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


# another sample (image, label), after the transforms before the one that asks for it
Partner = Callable[[np.random.Generator], Pair]
# any sample (image, label) of the data set as its files hold it; one that holds one of the classes, if given
DrawSample = Callable[[np.random.Generator, Union[tuple[int, ...], None]], Pair]  # noqa: UP007 - Python 3.9


class Compose:
    """One transform after the other."""

    def __init__(self, transforms: Sequence[Any]) -> None:
        self.transforms = list(transforms)

    @property
    def partner_classes(self) -> list[tuple[int, ...]]:
        """For each transform that draws samples by class: the classes."""
        groups = (getattr(step, "partner_classes", None) for step in self.transforms)
        return [group for group in groups if group]

    def __call__(
        self,
        image: np.ndarray,
        label: np.ndarray,
        rng: np.random.Generator,
        draw: DrawSample | None = None,
    ) -> Pair:
        """`draw` gives the transforms that need a second sample one; without it they are left out."""
        for number, transform in enumerate(self.transforms):
            if not getattr(transform, "needs_partner", False):
                image, label = transform(image, label, rng)
            elif draw is not None:
                image, label = transform(image, label, rng, self._partner(number, draw))
        return image, label

    def _partner(self, number: int, draw: DrawSample) -> Partner:
        classes = self.transforms[number].partner_classes
        before = [step for step in self.transforms[:number] if not getattr(step, "needs_partner", False)]
        return lambda rng: Compose(before)(*draw(rng, classes), rng)


def interval(what: str, pair: Any, low: float, high: float) -> tuple[float, float]:
    """A [low, high] as a tuple; ValueError if it is none."""
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise ValueError(f"{what}: expected [low, high], got {pair!r}")
    for value in pair:
        check_number(what, value, low, high)
    if pair[0] > pair[1]:
        raise ValueError(f"{what}: {pair[0]} is above {pair[1]}; expected [low, high]")
    return float(pair[0]), float(pair[1])


def check_classes(what: str, classes: Any, num_classes: int | None) -> tuple[int, ...]:
    """Class ids as a tuple; ValueError for anything else, and for ids beyond a known `num_classes`."""
    if not isinstance(classes, (list, tuple)) or not classes:
        raise ValueError(f"{what}: expected a list of class ids such as [1, 4], got {classes!r}")
    for value in classes:
        check_number(what, value, 0, 65535 if num_classes is None else num_classes - 1, integer=True)
    return tuple(classes)


def check_fill(what: str, fill: Any) -> np.ndarray:
    """The fill of an image as an array of one value, or one a channel; ValueError if it is none."""
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
