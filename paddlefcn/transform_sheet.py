"""One picture of a recipe's augmentation: each transform alone, and all of them together."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from paddlefcn.classes import Classes
from paddlefcn.data.transforms import Compose
from paddlefcn.data.transforms.base import DrawSample
from paddlefcn.visualize import displayable, gallery, tint

_CELL = 200  # pixels of a picture's longer side
_GAP = 6
_TOGETHER = 2  # columns of all transforms at once


def draw_sheet(
    transforms: Sequence[Any],
    samples: Sequence[tuple[str, np.ndarray, np.ndarray]],
    classes: Classes,
    draw: DrawSample,
    seed: int = 0,
) -> np.ndarray:
    """RGB uint8 [H, W, 3]: a row a sample; the image as read, after each transform alone, and after all.

    Each picture stands above itself tinted with its label. A transform's own probability counts where all
    are together; alone, it always happens.

    Args:
        samples: (name, image HxWxC, label HxW).
        draw: gives other samples to the transforms that need one, as `TrainLoader.draw_sample`.
    """
    columns = [("as read", Compose([]))]
    columns += [(_title(transform), Compose([_always(transform)])) for transform in transforms]
    columns += [("all together", Compose(transforms))] * (_TOGETHER if transforms else 0)
    rows = []
    for number, (name, image, label) in enumerate(samples):
        cells = []
        for place, (title, transform) in enumerate(columns):
            rng = np.random.default_rng([seed, number, place])
            out, ids = transform(image, label, rng, draw)
            size = f"  {ids.shape[0]}x{ids.shape[1]}" if place == 0 or ids.shape != label.shape else ""
            cells.append(_cell((title if place else name) + size, out, ids, classes))
        rows.append(_side_by_side(cells))
    return _under_each_other(rows)


def _title(transform: Any) -> str:
    probability = getattr(transform, "p", 1)
    name = type(transform).__name__
    return name if probability == 1 else f"{name} (p {probability:g})"


def _always(transform: Any) -> Any:
    """The transform without its own chance of doing nothing."""
    if not hasattr(transform, "p"):
        return transform
    certain = copy.copy(transform)
    certain.p = 1.0
    return certain


def _cell(caption: str, image: np.ndarray, label: np.ndarray, classes: Classes) -> np.ndarray:
    shown = displayable(image)
    factor = _CELL / max(label.shape)
    size = (max(1, round(label.shape[1] * factor)), max(1, round(label.shape[0] * factor)))
    mode = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    pictures = [
        cv2.resize(picture, size, interpolation=mode) for picture in (shown, tint(shown, label, classes))
    ]
    cell = gallery([(caption, _padded(pictures[0], size[1] + 2, _CELL))])
    return np.concatenate([cell, _padded(pictures[1], size[1], cell.shape[1])])


def _side_by_side(cells: Sequence[np.ndarray]) -> np.ndarray:
    height = max(cell.shape[0] for cell in cells)
    return np.concatenate([_padded(cell, height, cell.shape[1] + _GAP) for cell in cells], axis=1)


def _under_each_other(rows: Sequence[np.ndarray]) -> np.ndarray:
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_padded(row, row.shape[0] + _GAP, width) for row in rows])


def _padded(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """On white ground, at its top left."""
    below, right = max(0, height - picture.shape[0]), max(0, width - picture.shape[1])
    return np.pad(picture, ((0, below), (0, right), (0, 0)), constant_values=255)
