"""Resizing and averaging to sizes that are known only when the image is there.

Each has an export form made of matrices: rows of weights that depend on the sizes alone, so that any engine
can run it (oneDNN crashes on exported interpolation, ONNX has no adaptive pooling to bins of any image).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlefcn.layers.older_format import product
from paddlefcn.layers.sizes import spatial_size


class Resize(nn.Layer):
    """Bilinear resizing to another map's size: ``(x [N,C,h,w], like […,H,W]) -> [N,C,H,W]``."""

    def __init__(self, *, align_corners: bool = False) -> None:
        """``align_corners``: whether the outermost cells' centres, not their borders, stay in place."""
        super().__init__()
        self.align_corners = align_corners
        self.export_form = False

    def forward(self, x: paddle.Tensor, like: paddle.Tensor) -> paddle.Tensor:
        size = list(spatial_size(like))
        if self.export_form:
            return resize_by_products(x, size, align_corners=self.align_corners)
        return F.interpolate(x, size=size, mode="bilinear", align_corners=self.align_corners)

    def set_export_form(self, form: str | None) -> None:
        """Whether it runs as two products with matrices."""
        self.export_form = form is not None


def resize_by_products(
    x: paddle.Tensor,
    size: Sequence[Any],
    *,
    align_corners: bool = False,
    window: Sequence[Any] = (None, None),
) -> paddle.Tensor:
    """Bilinear resizing ``[N,C,h,w] -> [N,C,H,W]`` as two products with matrices.

    Args:
        x: the map.
        size: H and W.
        window: how much of both is wanted, from the top left; all of it if None.
    """
    height, width = spatial_size(x)
    rows = _interpolation(height, size[0], align_corners)[: window[0]]
    columns = _interpolation(width, size[1], align_corners)[: window[1]]
    return _weighted(x, rows, columns)


def add_resized(x: paddle.Tensor, resized: paddle.Tensor) -> paddle.Tensor:
    """The sum of a map and of what `Resize` gave, both ``[N,C,H,W]``.

    Exported, a plain sum would be fused into the product before it, and oneDNN (Paddle 3.3.1) has only its
    reference kernel for that: 245 of DDRNet's 340 ms.
    """
    return x + resized if paddle.in_dynamic_mode() else paddle.add_n([x, resized])


class AdaptiveMean(nn.Layer):
    """Means over ``bins x bins`` parts of a map of any size: ``[N,C,H,W] -> [N,C,bins,bins]``."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.export_form = False

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.bins == 1:
            return x.mean([2, 3], keepdim=True)
        if self.export_form:
            height, width = spatial_size(x)
            return _weighted(x, _bins(height, self.bins), _bins(width, self.bins))
        return F.adaptive_avg_pool2d(x, self.bins)

    def set_export_form(self, form: str | None) -> None:
        """Whether it runs as two products with matrices."""
        self.export_form = form is not None


class WindowMean(nn.Layer):
    """Means over windows; one larger than the map is the map: ``[N,C,H,W] -> [N,C,H',W']``."""

    def __init__(self, size: int, strides: tuple[int, int]) -> None:
        super().__init__()
        self.size, self.strides = size, strides

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        height, width = spatial_size(x)
        rows = _windows(height, self.size, self.strides[0])
        columns = _windows(width, self.size, self.strides[1])
        return _weighted(x, rows, columns)


def _weighted(x: paddle.Tensor, rows: paddle.Tensor, columns: paddle.Tensor) -> paddle.Tensor:
    """``rows [H',H] @ x [N,C,H,W] @ columns [W',W] transposed``."""
    if rows.dtype != x.dtype:
        rows, columns = rows.astype(x.dtype), columns.astype(x.dtype)
    # in this order: oneDNN's product of a 4-D map with a 2-D matrix behind it is wrong for a single cell
    x = product(columns, x.transpose([0, 1, 3, 2]))
    return product(rows, x.transpose([0, 1, 3, 2]))


def _positions(length: Any) -> paddle.Tensor:
    """0 to length - 1, float32."""
    return paddle.arange(length).astype("float32")


def _repeated(length: Any, count: Any) -> paddle.Tensor:
    """A length (of an image that is there, or of one that will be) as float32, ``count`` times."""
    if isinstance(length, int):
        return paddle.full([count], float(length))
    return length.astype("float32").reshape([1]).expand([count])


def _interpolation(length: Any, target: Any, align_corners: bool) -> paddle.Tensor:
    """``[target, length]``: how much of each cell every resized cell takes."""
    # both sizes repeated, and no clip or minimum: oneDNN (Paddle 3.3.1) broadcasts one value wrongly there
    size, goal = _repeated(length, target), _repeated(target, target)
    if align_corners:
        source = _positions(target) * ((size - 1) / (1 + F.relu(goal - 2)))  # one cell takes the first
    else:
        source = F.relu((_positions(target) + 0.5) * (size / goal) - 0.5)
        source = source - F.relu(source - (size - 1))
    offset = source.unsqueeze(1) - _positions(length).unsqueeze(0)
    # no abs: Paddle 3 cannot write it in the older format, which int8 takes
    return F.relu(1 - F.relu(offset) - F.relu(-offset))


def _bins(length: Any, bins: int) -> paddle.Tensor:
    """``[bins, length]``: means over floor(i * length / bins) to ceil((i + 1) * length / bins)."""
    # in whole numbers: a quotient that is whole must not come out a hair above
    size = paddle.to_tensor([length], "int64") if isinstance(length, int) else length.astype("int64")
    number = paddle.arange(bins).astype("int64") * size.reshape([1])
    start = (number // bins).astype("float32").unsqueeze(1)
    end = ((number + size + bins - 1) // bins).astype("float32").unsqueeze(1)
    return _means(start, end, length)


def _windows(length: Any, size: int, stride: int) -> paddle.Tensor:
    """``[(length - size) // stride + 1, length]``: means over size cells every stride cells."""
    if isinstance(length, int):
        size, count = min(size, length), max(0, length - size) // stride + 1
        start = _positions(count).unsqueeze(1) * stride
        return _means(start, start + size, length)
    count = F.relu((length.astype("int64") - size).astype("float32")).astype("int64") // stride + 1
    start, whole = _positions(count), _repeated(length, count)
    end = start * stride + whole - F.relu(whole - float(size))  # a window is no larger than the map
    return _means((start * stride).unsqueeze(1), end.unsqueeze(1), length)


def _means(start: paddle.Tensor, end: paddle.Tensor, length: Any) -> paddle.Tensor:
    """Rows of equal weights from ``start`` to below ``end``, both ``[n,1]``."""
    place = _positions(length).unsqueeze(0)
    inside = (place >= start).astype("float32") * (place < end).astype("float32")
    return inside / (end - start)
