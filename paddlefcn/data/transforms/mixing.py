"""Two samples in one picture.

A class with `needs_partner` is called with a fourth argument, `partner`, a second sample: of the same data
set, after the transforms that stand before the class in the recipe. Its index and all chance in it come
from the sample's own rng, so that a batch is the same for any number of workers and after a resume.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np

from paddlefcn.data.images import check_number
from paddlefcn.data.transforms.base import Fill, Pair, Partner, check_classes, check_fill, interval
from paddlefcn.data.transforms.crops import RandomCrop
from paddlefcn.data.transforms.erasing import random_window
from paddlefcn.errors import DataError


class _Mixing(abc.ABC):
    """What the classes below share: the chance of mixing, and a partner of the picture's own size."""

    needs_partner = True
    # a partner must hold one of these; None: any sample
    partner_classes: tuple[int, ...] | None = None

    def __init__(self, p: float, fill: Fill, ignore_index: int) -> None:
        name = type(self).__name__
        check_number(f"{name} p", p, 0, 1)
        self.p, self.ignore_index = p, ignore_index
        check_fill(name, fill)
        self._fill = fill

    def __call__(
        self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator, partner: Partner
    ) -> Pair:
        if rng.random() >= self.p:
            return image, label
        other, ids = partner(rng)
        if other.dtype != image.dtype:
            raise DataError(
                f"{type(self).__name__}: one sample is {image.dtype}, another {other.dtype}; convert the "
                f"images to one type"
            )
        if ids.shape != label.shape:
            other, ids = RandomCrop(label.shape, self._fill, self.ignore_index)(other, ids, rng)
        taken = self._taken(label, ids, rng)
        return np.where(taken[:, :, None], other, image), np.where(taken, ids, label)

    @abc.abstractmethod
    def _taken(self, label: np.ndarray, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """bool HxW: which pixels come from the partner, whose labels are `ids`."""


class CutMix(_Mixing):
    """A rectangle of another sample, with its label, in its own place (Yun et al. 2019; French et al. 2020).

    Args:
        area: [low, high] that the rectangle's share of the picture is drawn from.
    """

    def __init__(
        self, area: Sequence[float] = (0.1, 0.5), p: float = 0.5, fill: Fill = 0.0, ignore_index: int = 255
    ) -> None:
        super().__init__(p, fill, ignore_index)
        self.area = interval("CutMix area", area, 0.001, 1)

    def _taken(self, label: np.ndarray, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        share = rng.uniform(*self.area)
        height = rng.uniform(share, 1)
        taken = np.zeros(label.shape, bool)
        taken[random_window(label.shape, (height, share / height), rng)] = True
        return taken


class ClassMix(_Mixing):
    """The pixels of half the classes of another sample, cut out along their outlines (Olsson et al. 2021).

    Args:
        share: of the classes in the other sample, rounded up.
    """

    def __init__(self, share: float = 0.5, p: float = 0.5, fill: Fill = 0.0, ignore_index: int = 255) -> None:
        super().__init__(p, fill, ignore_index)
        check_number("ClassMix share", share, 0.01, 1)
        self.share = share

    def _taken(self, label: np.ndarray, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        present = np.unique(ids)
        present = present[present != self.ignore_index]
        count = int(np.ceil(len(present) * self.share))
        return np.isin(ids, rng.permutation(present)[:count])


class CopyPaste(_Mixing):
    """Everything of rare `classes` in another sample, pasted where it stands there (Ghiasi et al. 2021).

    The other sample is drawn among those that hold one of them, the class evenly first: so a class in ten
    images comes as often as one in a thousand. All masks are read once, when the loader is made. Put what
    moves and mirrors (`RandomWarp`, `RandomFlip`) before it, and both samples are changed on their own.

    Args:
        classes: ids of the classes to copy.
    """

    def __init__(
        self,
        classes: Sequence[int],
        p: float = 0.5,
        fill: Fill = 0.0,
        ignore_index: int = 255,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(p, fill, ignore_index)
        self.classes = self.partner_classes = check_classes("CopyPaste classes", classes, num_classes)

    def _taken(self, label: np.ndarray, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.isin(ids, self.classes)
