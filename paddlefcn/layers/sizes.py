"""Heights and widths of maps: read, and cropped to another's."""

from __future__ import annotations

import paddle


def spatial_size(x: paddle.Tensor) -> tuple[int, int]:
    """(height, width) of ``[N,C,H,W]``: numbers, or symbols while a dynamic graph is exported."""
    if paddle.in_dynamic_mode():
        return x.shape[2], x.shape[3]
    shape = paddle.shape(x)
    return shape[2], shape[3]


def crop_like(x: paddle.Tensor, like: paddle.Tensor, offset: int = 0) -> paddle.Tensor:
    """The window of ``x`` with the height and width of ``like`` that starts at (offset, offset)."""
    if paddle.in_dynamic_mode() and offset == 0 and x.shape[2:] == like.shape[2:]:
        return x  # a slice of everything would still cost a copy in the backward pass
    height, width = spatial_size(like)
    return x[:, :, offset : offset + height, offset : offset + width]
