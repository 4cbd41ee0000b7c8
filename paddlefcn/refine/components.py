"""Connected components of label maps: small ones give way to what surrounds them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Components:
    """The connected components of a label map.

    `index` [H, W] int32 is the component of each pixel; `classes` and `areas` (pixels) are one a component,
    `boxes` [n, 4] their (left, top, width, height).
    """

    index: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray


_CORE, _MOST_MARGIN = 4096, 2048  # of the windows in which large maps are worked on


def remove_small_by_windows(labels: np.ndarray, out: np.ndarray, min_area: float, ignore_index: int) -> None:
    """`remove_small` of a map that need not fit into memory, into `out`; both may be numpy.memmap.

    A component that leaves its window of several thousand pixels counts as large.
    """
    margin = min(int(np.ceil(min_area)), _MOST_MARGIN)
    height, width = labels.shape
    for top in range(0, height, _CORE):
        for left in range(0, width, _CORE):
            upper, before = max(0, top - margin), max(0, left - margin)
            lower, behind = min(height, top + _CORE + margin), min(width, left + _CORE + margin)
            inner = (upper > 0, lower < height, before > 0, behind < width)
            part = np.asarray(labels[upper:lower, before:behind])
            part = remove_small(part, min_area, ignore_index, open_sides=inner)
            core = part[top - upper : top - upper + _CORE, left - before : left - before + _CORE]
            out[top : top + _CORE, left : left + _CORE] = core


def remove_small(
    labels: np.ndarray,
    min_area: float,
    ignore_index: int = 255,
    *,
    open_sides: tuple[bool, bool, bool, bool] = (False, False, False, False),
) -> np.ndarray:
    """Components of fewer than `min_area` pixels take the class that surrounds most of them.

    A component is a set of pixels of one class that touch at their sides. So specks go and holes are filled
    alike; of several small ones within each other the outermost is filled first. What lies between pixels
    of `ignore_index` or the edges of the image alone stays, and pixels of `ignore_index` stay.

    Args:
        labels: [H, W] class ids.
        min_area: pixels; up to 1 nothing is small.
        ignore_index: the id of pixels without a class.
        open_sides: whether the map goes on above, below, left and right of what is given; a component
            that touches such a side is not small.

    Returns:
        [H, W] of the same type; `labels` itself if nothing is small.
    """
    if min_area <= 1 or not labels.size:
        return labels
    found = components(labels)
    small = (found.areas < min_area) & (found.classes != ignore_index)
    index = found.index
    for goes_on, side in zip(open_sides, (index[0], index[-1], index[:, 0], index[:, -1])):
        if goes_on:
            small[side] = False
    if not small.any():
        return labels
    pairs, lengths = _shared_borders(index)
    result = found.classes.copy()
    while small.any():
        # how long a small component's border is with each class of components that are settled
        known = small[pairs[:, 0]] & ~small[pairs[:, 1]] & (result[pairs[:, 1]] != ignore_index)
        if not known.any():
            break
        whose, classes, length = pairs[known, 0], result[pairs[known, 1]], lengths[known]
        span = int(result.max()) + 1
        keys, inverse = np.unique(whose.astype(np.int64) * span + classes, return_inverse=True)
        sums = np.bincount(inverse.ravel(), length)
        # sorted by component, then the longest border, then the lowest class
        order = np.lexsort((keys % span, -sums, keys // span))
        owners = keys[order] // span
        first = np.flatnonzero(np.diff(owners, prepend=-1))
        result[owners[first]] = keys[order][first] % span
        small[owners[first]] = False
    return result[index].astype(labels.dtype)


def components(labels: np.ndarray) -> Components:
    """Pixels of one class that touch at their sides, of a label map [H, W]."""
    index = np.zeros(labels.shape, np.int32)
    classes, stats = [np.zeros(0, np.int64)], [np.zeros((0, 5), np.int64)]
    count = 0
    for label in np.unique(labels):
        mask = (labels == label).astype(np.uint8)
        found, own, rows, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        inside = own > 0
        index[inside] = own[inside] + (count - 1)
        classes.append(np.full(found - 1, label, np.int64))
        stats.append(rows[1:].astype(np.int64))
        count += found - 1
    table = np.concatenate(stats)
    return Components(index, np.concatenate(classes), table[:, cv2.CC_STAT_AREA], table[:, :4])


def _shared_borders(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of components that touch [P, 2], both ways round, and over how many pixel sides."""
    sides = []
    for first, second in ((index[1:], index[:-1]), (index[:, 1:], index[:, :-1])):
        apart = first != second
        sides += [np.stack([first[apart], second[apart]], axis=1)]
    both = np.concatenate([*sides, *(side[:, ::-1] for side in sides)]).astype(np.int64)
    span = int(index.max()) + 1
    keys, counts = np.unique(both[:, 0] * span + both[:, 1], return_counts=True)
    return np.stack([keys // span, keys % span], axis=1), counts
