"""The best that any network of an output stride could reach: masks reduced and enlarged again.

Shelhamer, Long, Darrell, PAMI 2017, appendix A, "upper bounds on IU".
"""

from __future__ import annotations

import numpy as np

from paddlefcn.label_maps import label_map

METHODS = ("area", "nearest")
# published for PASCAL VOC (segval11), mean IoU in per cent
PUBLISHED = {128: 50.9, 64: 73.3, 32: 86.1, 16: 92.8, 8: 96.4, 4: 98.5}


def best_at_stride(
    label: np.ndarray, stride: int, ignore_index: int = 255, method: str = "area"
) -> np.ndarray:
    """What a perfect network of this output stride would predict for a label map.

    "area": each class's share of every cell of stride x stride pixels (from the top left; void has no
    share in any class), enlarged bilinearly, the highest share wins. "nearest": every pixel takes
    the class at its cell's centre, or, if that is void, the cell's most frequent class.

    Args:
        label: [H, W] class ids and ignore_index.
        stride: side of a cell in pixels, 1 or more.
        ignore_index: the void.
        method: one of METHODS.

    Returns:
        [H, W] class ids, of the label's type; never ignore_index unless everything is void.

    Raises:
        ValueError: a stride below 1 or an unknown method.
    """
    if stride < 1:
        raise ValueError(f"stride is {stride}; it must be at least 1")
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not one of {', '.join(METHODS)}")
    present = np.unique(label[label != ignore_index])
    if not len(present):
        return label.copy()
    shares = _cell_shares(label, stride, present)
    height, width = label.shape
    if method == "area":
        size = (shares.shape[1] * stride, shares.shape[2] * stride)
        return present[label_map(shares, size)[:height, :width]]
    rows = np.minimum(np.arange(shares.shape[1]) * stride + stride // 2, height - 1)
    columns = np.minimum(np.arange(shares.shape[2]) * stride + stride // 2, width - 1)
    cells = label[np.ix_(rows, columns)]
    cells = np.where(cells == ignore_index, present[label_map(shares)], cells)
    return cells.repeat(stride, axis=0).repeat(stride, axis=1)[:height, :width].astype(label.dtype)


def _cell_shares(label: np.ndarray, stride: int, present: np.ndarray) -> np.ndarray:
    """Of each cell the share of each present class: [len(present), ceil(H / s), ceil(W / s)]."""
    height, width = label.shape
    rows, columns = -(-height // stride), -(-width // stride)
    lookup = np.searchsorted(present, label).clip(max=len(present) - 1)
    known = present[lookup] == label
    cell = (np.arange(height) // stride)[:, None] * columns + np.arange(width) // stride
    index = (cell * len(present) + lookup)[known]
    counts = np.bincount(index, minlength=rows * columns * len(present))
    pixels = np.bincount(cell.ravel(), minlength=rows * columns)
    shares = counts.reshape(rows * columns, len(present)) / pixels[:, None]
    return np.ascontiguousarray(shares.T.reshape(len(present), rows, columns), dtype=np.float32)
