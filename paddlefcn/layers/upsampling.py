"""Upsampling by whole factors, in two forms: interpolation, and transposed convolution."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlefcn.layers.resizing import resize_by_products
from paddlefcn.layers.sizes import crop_like, spatial_size

UPSAMPLE_MODES = ("bilinear", "transposed")
# Paddle computes depthwise transposed convolutions on one thread; from this factor on, two products with
# matrices are faster: 21 channels to 376x504 by 8 in 7 ms instead of 20. Other runtimes gain nothing.
_PRODUCTS_FROM = 4


def bilinear_kernel(size: int) -> np.ndarray:
    """float32 ``[size,size]``: with it a transposed convolution interpolates bilinearly.

    The stride it belongs to is ``(size + 1) // 2``. As in the FCN authors' ``surgery.py``.
    """
    factor = (size + 1) // 2
    centre = (size - 1) / 2
    ramp = 1 - np.abs(np.arange(size) - centre) / factor
    return np.outer(ramp, ramp).astype("float32")


def _transposed_weight(channels: int, kernel: int, dense: bool) -> np.ndarray:
    """Bilinear kernels, ``[C,1,k,k]`` (depthwise) or on the diagonal of ``[C,C,k,k]`` (dense)."""
    weight = np.zeros((channels, channels if dense else 1, kernel, kernel), "float32")
    for channel in range(channels):
        weight[channel, channel if dense else 0] = bilinear_kernel(kernel)
    return weight


class Upsample(nn.Layer):
    """Upsampling by the integer ``factor``: ``[N,C,H,W] -> [N,C,factor*H,factor*W]``.

    ``bilinear`` interpolates. ``transposed`` is a transposed convolution without bias that starts
    as bilinear interpolation (equal to it away from the border, for ``align_corners=False``)
    and that can learn. With ``padded=False`` it is the published one: no padding, output
    ``(H-1)*factor + kernel``.
    """

    def __init__(
        self,
        channels: int,
        factor: int,
        *,
        mode: str = "bilinear",
        align_corners: bool = False,
        dense: bool = False,
        learn: bool = True,
        kernel: int | None = None,
        padded: bool = True,
    ) -> None:
        """``dense``: every channel sees every channel, else each its own (``transposed`` only).

        ``learn``: whether the kernel is trained. ``kernel``: 2*factor - factor % 2 if None.
        """
        super().__init__()
        if mode not in UPSAMPLE_MODES:
            raise ValueError(f"upsample: got {mode!r}, expected one of {', '.join(UPSAMPLE_MODES)}")
        if mode == "transposed" and align_corners:
            raise ValueError("align_corners: true has no transposed convolution; set upsample: bilinear")
        self.channels, self.factor, self.mode = channels, factor, mode
        self.align_corners = align_corners
        self.kernel = kernel or 2 * factor - factor % 2
        self.padding = (self.kernel - factor) // 2 if padded else 0
        self.groups = 1 if dense and mode == "transposed" else channels
        self.export_form: str | None = None
        if mode == "transposed":
            start = _transposed_weight(channels, self.kernel, dense)
            self.weight = self.create_parameter(
                list(start.shape),
                attr=paddle.ParamAttr(initializer=nn.initializer.Assign(start), trainable=learn),
            )

    def extra_repr(self) -> str:
        """What `print(model)` shows of the layer."""
        return f"{self.channels}, factor={self.factor}, mode={self.mode}, kernel={self.kernel}"

    def forward(self, x: paddle.Tensor, like: paddle.Tensor | None = None) -> paddle.Tensor:
        """All of it, or the window from the top left that has the height and width of ``like``."""
        if self._by_products:
            window = (None, None) if like is None else spatial_size(like)
            return resize_by_products(x, self._size(x), window=window)
        whole = self._whole(x)
        return whole if like is None else crop_like(whole, like)

    @property
    def _by_products(self) -> bool:
        return self.export_form == "paddle" and self.factor >= _PRODUCTS_FROM and not self.align_corners

    def _whole(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.mode == "transposed":
            return F.conv2d_transpose(
                x, self.weight, stride=self.factor, padding=self.padding, groups=self.groups
            )
        if self.export_form and not self.align_corners:
            return self._as_convolution(x)
        return F.interpolate(x, size=self._size(x), mode="bilinear", align_corners=self.align_corners)

    def _size(self, x: paddle.Tensor) -> list[int]:
        height, width = spatial_size(x)
        return [height * self.factor, width * self.factor]

    def _as_convolution(self, x: paddle.Tensor) -> paddle.Tensor:
        """The same numbers as bilinear interpolation, borders included, without interpolation.

        Interpolation repeats the border, a transposed convolution continues it with zeros: so the
        edges are repeated by one pixel first, and the factor's worth of output that this adds
        on each side is taken off again by the larger padding.
        """
        return F.conv2d_transpose(
            F.pad(x, [1, 1, 1, 1], mode="replicate"),
            self.export_kernel,
            stride=self.factor,
            padding=self.padding + self.factor,
            groups=self.channels,
        )

    def set_export_form(self, form: str | None) -> None:
        """Whether ``bilinear`` runs as a transposed convolution or as products (never with align_corners)."""
        self.export_form = form if self.mode == "bilinear" else None
        if self.export_form and not self._by_products and not hasattr(self, "export_kernel"):
            kernel = paddle.to_tensor(_transposed_weight(self.channels, self.kernel, False))
            # not persistable: it is a constant, and no checkpoint may come to depend on it
            self.register_buffer("export_kernel", kernel, persistable=False)
