"""Cutting out a size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paddlefcn.data.images import check_number, check_size
from paddlefcn.data.transforms.base import Fill, Pair, check_classes, check_fill, ground_value, on_ground


class RandomCrop:
    """Cuts out `size` [height, width] at random; a smaller image is placed at random on void ground."""

    def __init__(self, size: Sequence[int], fill: Fill = 0.0, ignore_index: int = 255) -> None:
        self.size = check_size("RandomCrop size", size)
        self.fill = check_fill("RandomCrop", fill)
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
        place = (target[0].start, target[1].start)
        ground, void = ground_value(self.fill, image), np.array([self.ignore_index])
        return (
            on_ground(image[source[0], source[1]], self.size, place, ground),
            on_ground(label[source[0], source[1]][:, :, None], self.size, place, void)[:, :, 0],
        )


class ClassCrop:
    """`RandomCrop` that with probability `p` holds a pixel of a class drawn evenly among those present.

    So a class is seen in about as many crops whether it fills a tenth of the pixels or a thousandth.

    Args:
        size: [height, width] of the crop; a smaller image stands on void ground.
        classes: the class ids to draw from; all by default.
        max_share: up to 10 crops are drawn until no class has a larger share of the labelled pixels.
    """

    def __init__(
        self,
        size: Sequence[int],
        classes: Sequence[int] | None = None,
        p: float = 0.5,
        max_share: float = 1.0,
        fill: Fill = 0.0,
        ignore_index: int = 255,
        num_classes: int | None = None,
    ) -> None:
        self.size = check_size("ClassCrop size", size)
        self.classes = None if classes is None else check_classes("ClassCrop classes", classes, num_classes)
        check_number("ClassCrop p", p, 0, 1)
        check_number("ClassCrop max_share", max_share, 0.01, 1)
        self.p, self.max_share = p, max_share
        self.fill, self.ignore_index = check_fill("ClassCrop", fill), ignore_index
        self._anywhere = RandomCrop(size, fill, ignore_index)

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        pixel = self._pixel(label, rng) if rng.random() < self.p else None
        if pixel is None and self.max_share >= 1:
            return self._anywhere(image, label, rng)
        for _ in range(10):
            starts = [
                _start(have, want, None if pixel is None else pixel[axis], rng)
                for axis, (have, want) in enumerate(zip(label.shape, self.size))
            ]
            window = tuple(slice(start, start + want) for start, want in zip(starts, self.size))
            if self.max_share >= 1 or self._largest_share(label[window]) <= self.max_share:
                break
        # in the window alone, which a larger picture fills: only a smaller one is left to chance
        return self._anywhere(image[window], label[window], rng)

    def _pixel(self, label: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
        """A pixel of a class, each of them as likely, however small; None if there is none."""
        present = set(np.unique(label).tolist()) - {self.ignore_index}
        wanted = sorted(present if self.classes is None else present & set(self.classes))
        if not wanted:
            return None
        places = np.flatnonzero(label == wanted[int(rng.integers(len(wanted)))])
        row, column = divmod(int(places[rng.integers(len(places))]), label.shape[1])
        return row, column

    def _largest_share(self, label: np.ndarray) -> float:
        counts = np.unique(label[label != self.ignore_index], return_counts=True)[1]
        return float(counts.max() / counts.sum()) if len(counts) else 1.0


def _start(have: int, want: int, pixel: int | None, rng: np.random.Generator) -> int:
    """Where a crop of `want` pixels begins along a side of `have`, around `pixel` if there is one."""
    last = max(0, have - want)
    first = 0 if pixel is None else min(last, max(0, pixel - want + 1))
    last = last if pixel is None else min(last, pixel)
    return int(rng.integers(first, last + 1))
