"""Max pooling that remembers where its values came from, and the unpooling that puts them back."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlefcn.layers.sizes import crop_like, spatial_size

# Paddle 2's max pooling that rounds up names other places than those of its values
_MASKS_ARE_WRONG = paddle.__version__.startswith("2.")


def twice(x: paddle.Tensor) -> paddle.Tensor:
    """Every cell as 2x2 cells: ``[N,C,H,W] -> [N,C,2H,2W]``."""
    height, width = spatial_size(x)
    channels = x.shape[1]
    x = x.reshape([-1, channels, height, 1, width, 1]).expand([-1, -1, -1, 2, -1, 2])
    return x.reshape([-1, channels, 2 * height, 2 * width])


class Unpool(nn.Layer):
    """SegNet's unpooling (Badrinarayanan, Kendall and Cipolla, PAMI 2017, section 3, figure 3).

    ``(x, indices, like) -> [N,C,H,W]`` of ``like``'s size: each value at the place in its 2x2 window that
    ``indices`` (``[N,C,h,w]``, along the rows of that size) gives, zeros elsewhere.
    """

    def forward(self, x: paddle.Tensor, indices: paddle.Tensor, like: paddle.Tensor) -> paddle.Tensor:
        height, width = spatial_size(like)
        rows = paddle.arange(height).astype("int32").reshape([1, 1, -1, 1])
        columns = paddle.arange(width).astype("int32").reshape([1, 1, 1, -1])
        place = rows * width + columns
        # windows do not overlap, so a scatter is a comparison, which every engine runs
        chosen = crop_like(twice(indices), like) == place
        return crop_like(twice(x), like) * chosen.astype(x.dtype)


class IndexedMaxPool(nn.Layer):
    """2x2 max pooling that rounds up: ``[N,C,H,W] -> (pooled, indices)``, both ``[N,C,ceil(H/2),ceil(W/2)]``.

    ``indices`` (int32) are places along the rows of the input, the first of equal values.
    """

    def __init__(self) -> None:
        super().__init__()
        self.export_form = False

    def forward(self, x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        if not (self.export_form or _MASKS_ARE_WRONG):
            pooled, indices = F.max_pool2d(x, 2, 2, ceil_mode=True, return_mask=True)
            return pooled, indices.astype("int32")
        return self._as_comparison(x)

    def _as_comparison(self, x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Indices by arithmetic: engines number the places of a max pooling each in its own way."""
        height, width = spatial_size(x)
        pooled = F.max_pool2d(x, 2, 2, ceil_mode=True)
        rows = paddle.arange(height).astype("int32").reshape([1, 1, -1, 1])
        columns = paddle.arange(width).astype("int32").reshape([1, 1, 1, -1])
        place = (rows * width + columns).astype("float32")
        hit = (x == crop_like(twice(pooled), x)).astype("float32")
        # the first of equal values is the one with the smallest place, so the largest negative one;
        # float32 counts places exactly up to 2**24 cells
        far = -(2.0**25)
        candidates = hit * -place + (1 - hit) * far
        indices = -F.max_pool2d(candidates, 2, 2, ceil_mode=True)
        return pooled, indices.astype("int32")

    def set_export_form(self, form: str | None) -> None:
        """Whether indices are found by comparison."""
        self.export_form = form is not None
