"""Puts the kernels under a network's layers and takes them out again.

Only `forward` of single layers changes: parameters, their names, the state dict, the optimizer's view and
what a checkpoint holds are the same with and without. A layer, or an image, that the kernels do not cover
runs as it always did.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import paddle
from paddle import nn

from paddlefcn.accelerator.kernels import Kernels, is_channels_last
from paddlefcn.accelerator.operators import Block, Geometry, Norm, Window, can_convolve, convolve, max_pool
from paddlefcn.layers import CeilMaxPool, ConvBNReLU

Forward = Callable[[nn.Layer, paddle.Tensor], paddle.Tensor]
_BF16_WORTH = 8  # input channels; below, rounding costs more than it gains


def put_under(model: nn.Layer, kernels: Kernels, *, bf16: bool = False) -> int:
    """Runs the layers of ``model`` that the kernels cover on them, in place; returns how many those are."""
    taken: set[int] = set()
    count = 0
    for layer in model.sublayers(include_self=True):
        forward = None if id(layer) in taken else _forward_of(layer, kernels, bf16)
        if forward is not None:
            # a bound method, so that a deep copy of the network runs on its own parameters
            object.__setattr__(layer, "forward", types.MethodType(forward, layer))
            taken.update(id(part) for part in layer.sublayers())
            count += 1
    return count


def take_out(model: nn.Layer) -> None:
    """Undoes `put_under`."""
    for layer in model.sublayers(include_self=True):
        layer.__dict__.pop("forward", None)


def _forward_of(layer: nn.Layer, kernels: Kernels, bf16: bool) -> Forward | None:
    if isinstance(layer, ConvBNReLU):
        return _block(layer, kernels, bf16)
    if type(layer) is nn.Conv2D:
        return _convolution(layer, kernels, bf16)
    if isinstance(layer, CeilMaxPool):
        return _pool(Window((layer.kernel,) * 2, (layer.stride,) * 2, (0, 0, 0, 0), True), kernels)
    return None


def _block(layer: nn.Layer, kernels: Kernels, bf16: bool) -> Forward | None:
    geometry, norm = _geometry(layer.conv, bf16), layer.bn
    normed = type(norm) is nn.BatchNorm2D and norm._data_format == "NCHW"
    if geometry is None or not (normed or isinstance(norm, nn.Identity)):
        return None

    def forward(self: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
        conv, bn = self.conv, self.bn
        if not _covers(kernels, geometry, x):
            return type(self).forward(self, x)
        settings = _norm(bn) if normed else None
        gamma, beta = (bn.weight, bn.bias) if normed else (None, None)
        return convolve(Block(kernels, geometry, settings, True), x, conv.weight, conv.bias, gamma, beta)

    return forward if not (normed and layer.conv.bias is not None) else None


def _convolution(layer: nn.Layer, kernels: Kernels, bf16: bool) -> Forward | None:
    geometry = _geometry(layer, bf16)
    if geometry is None:
        return None

    def forward(self: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
        if not _covers(kernels, geometry, x):
            return type(self).forward(self, x)
        return convolve(Block(kernels, geometry, None, False), x, self.weight, self.bias, None, None)

    return forward


def _pool(window: Window, kernels: Kernels) -> Forward:
    def forward(self: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
        # behind anything else than a block of ours, changing the layout costs more than it gains
        if not _is_plain(x) or not is_channels_last(x) or min(window.output(*x.shape[2:])) < 1:
            return type(self).forward(self, x)
        return max_pool(kernels, window, x)

    return forward


def _geometry(conv: Any, bf16: bool) -> Geometry | None:
    """A layer's convolution, None where the kernels have no such thing."""
    if type(conv) is not nn.Conv2D or conv._data_format != "NCHW" or conv._padding_mode != "zeros":
        return None
    if conv._padding_algorithm != "EXPLICIT":
        return None
    padding = conv._updated_padding
    pads = [padding] * 2 if isinstance(padding, int) else list(padding)
    if len(pads) == 2:
        pads = [pads[0], pads[0], pads[1], pads[1]]
    if len(pads) != 4 or not all(isinstance(pad, int) and pad >= 0 for pad in pads):
        return None
    top, bottom, left, right = pads
    stride, dilation = _pair(conv._stride), _pair(conv._dilation)
    kernel = _pair(conv._kernel_size)
    worth = bf16 and conv._in_channels // conv._groups >= _BF16_WORTH
    return Geometry(
        conv._out_channels, kernel, stride, (top, left, bottom, right), dilation, conv._groups, worth
    )


def _pair(value: Any) -> tuple[int, int]:
    one, two = [value] * 2 if isinstance(value, int) else value
    return int(one), int(two)


def _norm(bn: Any) -> Norm:
    # as Paddle decides: statistics of the batch in training mode, unless the layer was told otherwise
    batch = bn.training and not bn._use_global_stats if bn._use_global_stats is not None else bn.training
    return Norm(bn._mean, bn._variance, float(bn._epsilon), float(bn._momentum), bool(batch))


def _is_plain(x: paddle.Tensor) -> bool:
    return (
        paddle.in_dynamic_mode()
        and x.dtype == paddle.float32
        and x.place.is_cpu_place()
        and len(x.shape) == 4
        and min(x.shape) > 0
    )


def _covers(kernels: Kernels, geometry: Geometry, x: paddle.Tensor) -> bool:
    return _is_plain(x) and can_convolve(kernels, geometry, tuple(x.shape))
