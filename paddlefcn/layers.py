"""Layers that every network here is made of: convolution blocks, upsampling, crops; their sizes."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

UPSAMPLE_MODES = ("bilinear", "transposed")


def convolution(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    bias: bool = True,
    zero_start: bool = False,
) -> nn.Conv2D:
    """A convolution that starts He normal (fan in) or from zero; its bias starts from zero."""
    start = nn.initializer.Constant(0.0) if zero_start else nn.initializer.KaimingNormal()
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=padding,
        groups=groups,
        weight_attr=paddle.ParamAttr(initializer=start),
        bias_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(0.0)) if bias else False,
    )


class ConvBNReLU(nn.Layer):
    """Convolution, BatchNorm or else a bias, ReLU: ``[N,in,H,W] -> [N,out,H',W']``.

    BatchNorm takes the mean away, and a bias with it; adding one anyway would cost a fifth of a narrow
    network's training step. Foreign weights that have both are folded: their bias moves into the mean.
    Paddle's BatchNorm momentum 0.9 is PyTorch's 0.1; its running variance is the biased one, PyTorch's
    the unbiased, so the two drift apart in training (not in what they load) on small maps.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        batch_norm: bool = True,
    ) -> None:
        """``padding``: pixels on every side; None keeps the size at stride 1 (odd kernels)."""
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = convolution(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=padding,
            groups=groups,
            bias=not batch_norm,
        )
        self.bn = nn.BatchNorm2D(out_channels) if batch_norm else nn.Identity()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return F.relu(self.bn(self.conv(x)))

    def output_size(self, size: int) -> int:
        """Height (or width) of the output for an input of height (or width) ``size``."""
        return (size + 2 * self.padding - self.kernel) // self.stride + 1


class CeilMaxPool(nn.Layer):
    """Max pooling that rounds up, as Caffe does: no pixel is dropped, and one pixel stays one."""

    def __init__(self, kernel: int = 2, stride: int = 2) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return F.max_pool2d(x, self.kernel, self.stride, ceil_mode=True)

    def output_size(self, size: int) -> int:
        """Height (or width) of the output for an input of height (or width) ``size``."""
        return max(0, -((self.kernel - size) // self.stride)) + 1


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
        self.export_form = False
        if mode == "transposed":
            start = _transposed_weight(channels, self.kernel, dense)
            self.weight = self.create_parameter(
                list(start.shape),
                attr=paddle.ParamAttr(initializer=nn.initializer.Assign(start), trainable=learn),
            )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.mode == "transposed":
            return F.conv2d_transpose(
                x, self.weight, stride=self.factor, padding=self.padding, groups=self.groups
            )
        if self.export_form and not self.align_corners:
            return self._as_convolution(x)
        height, width = spatial_size(x)
        return F.interpolate(
            x,
            size=[height * self.factor, width * self.factor],
            mode="bilinear",
            align_corners=self.align_corners,
        )

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

    def set_export_form(self, on: bool) -> None:
        """Whether ``bilinear`` runs as a transposed convolution (no effect with align_corners)."""
        self.export_form = on and self.mode == "bilinear"
        if self.export_form and not hasattr(self, "export_kernel"):
            kernel = paddle.to_tensor(_transposed_weight(self.channels, self.kernel, False))
            # not persistable: it is a constant, and no checkpoint may come to depend on it
            self.register_buffer("export_kernel", kernel, persistable=False)

    def output_size(self, size: int) -> int:
        """Height (or width) of the output for an input of height (or width) ``size``."""
        return (size - 1) * self.factor + self.kernel - 2 * self.padding


def use_export_form(model: nn.Layer, on: bool = True) -> None:
    """Switch every bilinear `Upsample` of ``model`` to its convolution form (or back), in place.

    Inference engines fuse and thread that form better, and oneDNN crashes on exported interpolation
    (Paddle issues 77340, 79749). The numbers stay the same; ``align_corners=True`` has no such form
    and stays interpolation.
    """
    for layer in model.sublayers(include_self=True):
        if isinstance(layer, Upsample):
            layer.set_export_form(on)


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


def cropped_size(size: int, like: int, offset: int = 0) -> int:
    """What `crop_like` does to a height (or width); ValueError if the window does not fit."""
    if offset + like > size:
        raise ValueError(f"crop: {like} cells from offset {offset} on do not fit into a map of {size}")
    return like
