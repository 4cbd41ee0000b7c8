"""Puts the kernels under a network's layers and takes them out again.

Only `forward` of single layers changes: parameters, their names, the state dict, the optimizer's view and
what a checkpoint holds are the same with and without. A layer, or an image, that the kernels do not cover
runs as it always did.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlefcn.accelerator.joining import join
from paddlefcn.accelerator.kernels import Kernels, is_channels_last
from paddlefcn.accelerator.operators import (
    Block,
    Geometry,
    Norm,
    Window,
    add_relu,
    can_convolve,
    convolve,
    max_pool,
)
from paddlefcn.accelerator.transposed import Transposed, can_transpose, transposed_convolve
from paddlefcn.backbones.resnet import BasicBlock, Bottleneck
from paddlefcn.layers import CeilMaxPool, ConvBNReLU, Join, SeparableConvBNReLU, Upsample, crop_like

_BF16_WORTH = 8  # input channels; below, rounding costs more than it gains

# a layer's own class gives what `type(self).forward` is: the way without the kernels
Forward = Callable[[Any, paddle.Tensor], paddle.Tensor]


def put_under(model: nn.Layer, kernels: Kernels, *, bf16: bool = False) -> int:
    """Runs the layers of ``model`` that the kernels cover on them, in place.

    Returns how many convolutions those are.
    """
    make = _Maker(kernels, bf16)
    for layer in model.sublayers(include_self=True):
        forward = None if id(layer) in make.taken else make.forward(layer)
        if forward is not None:
            # a bound method, so that a deep copy of the network runs on its own parameters
            object.__setattr__(layer, "forward", types.MethodType(forward, layer))
    return make.convolutions


def take_out(model: nn.Layer) -> None:
    """Undoes `put_under`."""
    for layer in model.sublayers(include_self=True):
        layer.__dict__.pop("forward", None)


class _Maker:
    """Makes the forward functions; `taken` are layers that run within another's."""

    def __init__(self, kernels: Kernels, bf16: bool) -> None:
        self.kernels, self.bf16 = kernels, bf16
        self.taken: set[int] = set()
        self.convolutions = 0

    def forward(self, layer: Any) -> Forward | None:
        """What a layer's `forward` becomes; None where it stays."""
        if isinstance(layer, ConvBNReLU):
            return self._block(layer)
        if isinstance(layer, SeparableConvBNReLU):
            return self._separable(layer)
        if type(layer) in (BasicBlock, Bottleneck):
            return self._residual(layer)
        if type(layer) is nn.Sequential:
            return self._sequence(layer)
        if type(layer) is nn.Conv2D:
            return self._convolution(layer)
        if type(layer) in (nn.Conv2DTranspose, Upsample):
            return self._transposed(layer)
        if isinstance(layer, CeilMaxPool):
            window = Window((layer.kernel,) * 2, (layer.stride,) * 2, (0, 0, 0, 0), True)
            return _pool_forward(self.kernels, window)
        if isinstance(layer, Join):
            return _join_forward(self.kernels)
        return None

    def _unit(self, conv: Any, bn: Any, relu: bool) -> _Unit | None:
        """Convolution, BatchNorm (or an Identity) and perhaps ReLU as one; None if not covered."""
        geometry = _geometry(conv, self.bf16)
        normed = type(bn) is nn.BatchNorm2D and bn._data_format == "NCHW"
        if geometry is None or not (normed or isinstance(bn, nn.Identity)):
            return None
        if normed and conv.bias is not None:
            return None
        self.taken |= {id(conv), id(bn)}
        self.convolutions += 1
        return _Unit(self.kernels, geometry, relu)

    def _block(self, layer: Any) -> Forward | None:
        unit = self._unit(layer.conv, layer.bn, True)
        return None if unit is None else _block_forward(unit)

    def _separable(self, layer: Any) -> Forward | None:
        unit = self._unit(layer.depthwise, layer.bn, bool(layer.inner_relu))
        return None if unit is None else _separable_forward(unit)

    def _residual(self, layer: Any) -> Forward | None:
        numbers = (1, 2) if type(layer) is BasicBlock else (1, 2, 3)
        pairs = [(getattr(layer, f"conv{n}"), getattr(layer, f"bn{n}")) for n in numbers]
        if any(_geometry(conv, False) is None for conv, _ in pairs):
            return None
        units = [self._unit(conv, bn, n != numbers[-1]) for n, (conv, bn) in zip(numbers, pairs)]
        whole = [unit for unit in units if unit is not None]
        return _residual_forward(self.kernels, whole) if len(whole) == len(units) else None

    def _sequence(self, layer: Any) -> Forward | None:
        """Pairs of convolution and BatchNorm within a Sequential, ReLU behind them included."""
        parts = list(layer.children())
        steps: list[tuple[_Unit | None, int]] = []  # a unit or a layer, and how many layers it stands for
        at = 0
        while at < len(parts):
            pair = at + 1 < len(parts) and type(parts[at + 1]) is nn.BatchNorm2D
            relu = pair and at + 2 < len(parts) and type(parts[at + 2]) is nn.ReLU
            unit = self._unit(parts[at], parts[at + 1], relu) if pair else None
            steps.append((unit, 1 if unit is None else 2 + relu))
            at += steps[-1][1]
        return _sequence_forward(steps) if any(unit for unit, _ in steps) else None

    def _convolution(self, layer: Any) -> Forward | None:
        geometry = _geometry(layer, self.bf16)
        if geometry is None:
            return None
        self.convolutions += 1
        return _convolution_forward(_Unit(self.kernels, geometry, False))

    def _transposed(self, layer: Any) -> Forward | None:
        upsampling = isinstance(layer, Upsample)
        found = _upsampling(layer) if upsampling else _transposed_geometry(layer)
        if found is None:
            return None
        self.convolutions += 1
        return (_upsampling_forward if upsampling else _transposed_forward)(self.kernels, found)


class _Unit:
    """A convolution with what follows it; the layers are handed over with each call."""

    def __init__(self, kernels: Kernels, geometry: Geometry, relu: bool) -> None:
        self.kernels, self.geometry, self.relu = kernels, geometry, relu

    def __call__(self, conv: Any, bn: Any, x: paddle.Tensor) -> paddle.Tensor:
        normed = isinstance(bn, nn.BatchNorm2D)
        block = Block(self.kernels, self.geometry, _norm(bn) if normed else None, self.relu)
        gamma, beta = (bn.weight, bn.bias) if normed else (None, None)
        return convolve(block, x, conv.weight, conv.bias, gamma, beta)

    def either(self, conv: Any, bn: Any, x: paddle.Tensor) -> paddle.Tensor:
        """On the kernels, or else as ever."""
        if self.covers(bn, x):
            return self(conv, bn, x)
        y = bn(conv(x))
        return F.relu(y) if self.relu else y

    def covers(self, bn: Any, x: paddle.Tensor) -> bool:
        """Whether the kernels take this image."""
        if not _is_plain(x) or not can_convolve(self.kernels, self.geometry, tuple(x.shape)):
            return False
        rows, columns = self.geometry.output(*x.shape[2:])
        # BatchNorm over a single value: whoever wrote the layer decides what to say
        return not isinstance(bn, nn.BatchNorm2D) or x.shape[0] * rows * columns > 1


def _block_forward(unit: _Unit) -> Forward:
    def forward(self: Any, x: paddle.Tensor) -> paddle.Tensor:
        if not unit.covers(self.bn, x):
            return type(self).forward(self, x)
        return unit(self.conv, self.bn, x)

    return forward


def _separable_forward(unit: _Unit) -> Forward:
    def forward(self: Any, x: paddle.Tensor) -> paddle.Tensor:
        if not unit.covers(self.bn, x):
            return type(self).forward(self, x)
        return self.pointwise(unit(self.depthwise, self.bn, x))

    return forward


def _residual_forward(kernels: Kernels, units: Sequence[_Unit]) -> Forward:
    def forward(self: Any, x: paddle.Tensor) -> paddle.Tensor:
        if not _is_plain(x):
            return type(self).forward(self, x)
        y = x
        for number, unit in enumerate(units, start=1):
            y = unit.either(getattr(self, f"conv{number}"), getattr(self, f"bn{number}"), y)
        shortcut = x if self.downsample is None else self.downsample(x)
        if is_channels_last(y) and is_channels_last(shortcut) and y.shape == shortcut.shape:
            return add_relu(kernels, y, shortcut)
        return F.relu(y + shortcut)

    return forward


def _sequence_forward(steps: Sequence[tuple[_Unit | None, int]]) -> Forward:
    def forward(self: Any, x: paddle.Tensor) -> paddle.Tensor:
        parts, at = list(self.children()), 0
        for unit, count in steps:
            x = parts[at](x) if unit is None else unit.either(parts[at], parts[at + 1], x)
            at += count
        return x

    return forward


def _convolution_forward(unit: _Unit) -> Forward:
    def forward(self: Any, x: paddle.Tensor) -> paddle.Tensor:
        if not unit.covers(None, x):
            return type(self).forward(self, x)
        return unit(self, None, x)

    return forward


def _transposed_forward(kernels: Kernels, layer: Transposed) -> Forward:
    def forward(self: Any, x: paddle.Tensor, output_size: Any = None) -> paddle.Tensor:
        if output_size is not None:
            return type(self).forward(self, x, output_size)
        if not _is_plain(x) or not can_transpose(kernels, layer, tuple(x.shape)):
            return type(self).forward(self, x)
        return transposed_convolve(kernels, layer, x, self.weight, getattr(self, "bias", None))

    return forward


def _upsampling_forward(kernels: Kernels, layer: Transposed) -> Forward:
    def forward(self: Any, x: paddle.Tensor, like: paddle.Tensor | None = None) -> paddle.Tensor:
        if not _is_plain(x) or not can_transpose(kernels, layer, tuple(x.shape)):
            return type(self).forward(self, x, like)
        whole = transposed_convolve(kernels, layer, x, self.weight, None)
        return whole if like is None else crop_like(whole, like)

    return forward


def _pool_forward(kernels: Kernels, window: Window) -> Forward:
    def forward(self: Any, x: paddle.Tensor) -> paddle.Tensor:
        # behind anything else than a block of ours, changing the layout costs more than it gains
        if not _is_plain(x) or not is_channels_last(x) or min(window.output(*x.shape[2:])) < 1:
            return type(self).forward(self, x)
        return max_pool(kernels, window, x)

    return forward


def _join_forward(kernels: Kernels) -> Forward:
    def forward(self: Any, *maps: paddle.Tensor) -> paddle.Tensor:
        one_size = all(part.shape[2:] == maps[0].shape[2:] for part in maps)
        fits = one_size and all(_is_plain(part) and part.shape[0] == maps[0].shape[0] for part in maps)
        if not fits or not any(is_channels_last(part) for part in maps):
            return type(self).forward(self, *maps)
        return join(kernels, maps)

    return forward


def _geometry(conv: Any, bf16: bool) -> Geometry | None:
    """A layer's convolution, None where the kernels have no such thing."""
    if type(conv) is not nn.Conv2D or conv._data_format != "NCHW" or conv._padding_mode != "zeros":
        return None
    if conv._padding_algorithm != "EXPLICIT":
        return None
    pads = _pads(conv._updated_padding)
    if pads is None:
        return None
    worth = bf16 and conv._in_channels // conv._groups >= _BF16_WORTH
    kernel, stride, dilation = _pair(conv._kernel_size), _pair(conv._stride), _pair(conv._dilation)
    return Geometry(conv._out_channels, kernel, stride, pads, dilation, conv._groups, worth)


def _transposed_geometry(layer: Any) -> Transposed | None:
    """As `_geometry`, of a transposed convolution; always float32."""
    pads = _pads(layer._padding)
    if layer._data_format != "NCHW" or pads is None:
        return None
    kernel, stride, dilation = _pair(layer._kernel_size), _pair(layer._stride), _pair(layer._dilation)
    adjoint = Geometry(layer._in_channels, kernel, stride, pads, dilation, layer._groups)
    return Transposed(adjoint, layer._out_channels, _pair(layer.output_padding))


def _upsampling(layer: Upsample) -> Transposed | None:
    if layer.mode != "transposed":
        return None
    pads = (layer.padding,) * 4
    adjoint = Geometry(layer.channels, (layer.kernel,) * 2, (layer.factor,) * 2, pads, (1, 1), layer.groups)
    return Transposed(adjoint, layer.channels, (0, 0))


def _pads(given: Any) -> tuple[int, int, int, int] | None:
    """Paddle's padding as (top, left, bottom, right); None for the forms that the kernels have not."""
    if isinstance(given, str):
        return None
    pads = [given] * 2 if isinstance(given, int) else list(given)
    if len(pads) == 2:
        pads = [pads[0], pads[0], pads[1], pads[1]]
    if len(pads) != 4 or not all(isinstance(pad, int) and pad >= 0 for pad in pads):
        return None
    top, bottom, left, right = pads
    return top, left, bottom, right


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    one, two = [value] * 2 if isinstance(value, int) else value
    return int(one), int(two)


def _norm(bn: Any) -> Norm:
    given = bn._use_global_stats  # None: statistics of the batch in training mode, as Paddle decides
    batch = bn.training if given is None else not given
    return Norm(bn._mean, bn._variance, float(bn._epsilon), float(bn._momentum), bool(batch))


def _is_plain(x: paddle.Tensor) -> bool:
    return (
        paddle.in_dynamic_mode()
        and x.dtype == paddle.float32
        and x.place.is_cpu_place()
        and len(x.shape) == 4
        and min(x.shape) > 0
    )
