"""Convolution blocks and pooling."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlefcn.errors import UserError

# every layer whose scale and shift are a normalisation's: what weight decay may leave alone
BATCH_NORMS = (nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D, nn.SyncBatchNorm)
NORMS = (
    *BATCH_NORMS,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.InstanceNorm1D,
    nn.InstanceNorm2D,
    nn.InstanceNorm3D,
)


def convolution(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
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
        dilation=dilation,
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
        dilation: int = 1,
        groups: int = 1,
        batch_norm: bool = True,
    ) -> None:
        """``padding``: pixels on every side; None keeps the size at stride 1 (odd kernels)."""
        super().__init__()
        padding = dilation * (kernel // 2) if padding is None else padding
        self.conv = convolution(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=not batch_norm,
        )
        self.bn = nn.BatchNorm2D(out_channels) if batch_norm else nn.Identity()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.conv(x)
        if self.training and isinstance(self.bn, nn.BatchNorm2D):
            _check_several(x)
        return F.relu(self.bn(x))


def _check_several(x: paddle.Tensor) -> None:
    """UserError for BatchNorm in training over a single value a channel, whose result is its shift alone."""
    if paddle.in_dynamic_mode() and x.shape[0] * x.shape[2] * x.shape[3] == 1:
        raise UserError(
            "BatchNorm in training sees a single value a channel (one image, reduced to one cell), "
            "and would learn from noise; set train.batch_size to 2 or more, or larger crops"
        )


class SeparableConvBNReLU(nn.Layer):
    """3x3 depthwise and 1x1 convolution, BatchNorm behind both: ``[N,in,H,W] -> [N,out,H,W]``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dilation: int = 1,
        inner_relu: bool = True,
        inner_norm: bool = True,
    ) -> None:
        """``inner_relu``: whether ReLU follows the depthwise convolution too, as in DeepLab's own code.

        ``inner_norm``: whether BatchNorm does.
        """
        super().__init__()
        self.depthwise = convolution(
            in_channels, in_channels, 3, padding=dilation, dilation=dilation, groups=in_channels, bias=False
        )
        self.bn = nn.BatchNorm2D(in_channels) if inner_norm else nn.Identity()
        self.pointwise = ConvBNReLU(in_channels, out_channels, 1)
        self.inner_relu = inner_relu

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.bn(self.depthwise(x))
        return self.pointwise(F.relu(x) if self.inner_relu else x)


class Join(nn.Layer):
    """Maps of one size, channels behind channels: ``[N,C1,H,W], [N,C2,H,W], ... -> [N,C1+C2+...,H,W]``."""

    def forward(self, *maps: paddle.Tensor) -> paddle.Tensor:
        return paddle.concat(list(maps), axis=1)


class CeilMaxPool(nn.Layer):
    """Max pooling that rounds up, as Caffe does: no pixel is dropped, and one pixel stays one."""

    def __init__(self, kernel: int = 2, stride: int = 2) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return F.max_pool2d(x, self.kernel, self.stride, ceil_mode=True)
