"""Parts of the picture that are taken away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paddlefcn.data.images import check_number
from paddlefcn.data.transforms.base import Fill, Pair, check_fill, ground_value, interval


class CutOut:
    """Covers `count` rectangles with `fill`, with probability `p` (DeVries and Taylor 2017).

    Args:
        count: how many.
        size: [low, high] of each side, as a share of the picture's.
        void: what is covered is not trained on; else its label stays, to be told from what is around.
    """

    def __init__(
        self,
        count: int = 1,
        size: Sequence[float] = (0.1, 0.3),
        void: bool = True,
        p: float = 0.5,
        fill: Fill = 0.0,
        ignore_index: int = 255,
    ) -> None:
        check_number("CutOut count", count, 1, 1000, integer=True)
        self.size = interval("CutOut size", size, 0.001, 1)
        if not isinstance(void, bool):
            raise ValueError(f"CutOut void: expected true or false, got {void!r}")
        check_number("CutOut p", p, 0, 1)
        self.count, self.void, self.p = count, void, p
        self.fill, self.ignore_index = check_fill("CutOut", fill), ignore_index

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        if rng.random() >= self.p:
            return image, label
        image, label = image.copy(), label.copy()
        ground = ground_value(self.fill, image)
        for _ in range(self.count):
            window = random_window(label.shape, rng.uniform(*self.size, size=2), rng)
            image[window] = ground
            if self.void:
                label[window] = self.ignore_index
        return image, label


def random_window(
    shape: tuple[int, ...], shares: Sequence[float] | np.ndarray, rng: np.random.Generator
) -> tuple[slice, slice]:
    """A rectangle that has these shares of height and width (a pixel at least), anywhere inside."""
    slices = []
    for side, share in zip(shape, shares):
        length = min(side, max(1, round(side * share)))
        start = int(rng.integers(0, side - length + 1))
        slices.append(slice(start, start + length))
    return slices[0], slices[1]
