"""Operators with gradients: convolution with BatchNorm or bias and ReLU, and max pooling.

What networks see between operators is always float32. With `bf16` the arithmetic of convolutions and what
they keep for the backward pass are bfloat16, sums and BatchNorm are float32, and so are the weights.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import paddle
from paddle.autograd import PyLayer

from paddlefcn.accelerator.kernels import (
    GRADIENT,
    TRANSPOSED,
    Kernels,
    is_channels_last,
    numbers,
)

# From this many weights on, changing their layout costs more than the convolution primitive gains
_PLAIN_WEIGHTS = 2**20
_PLAIN_COLUMNS = 2**28  # bytes that im2col may take
_MINIMAL_FILLED = 0.6  # share of the blocks of channels that is not padding
_PRIMITIVE, _PRODUCT, _MINIMAL = 0, 1, 2  # as in sources/shared.h


@dataclasses.dataclass(frozen=True)
class Geometry:
    """A convolution without its image; pads are (top, left, bottom, right)."""

    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    bf16: bool = False

    def output(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the output."""
        top, left, bottom, right = self.pads
        sizes = (height + top + bottom, width + left + right)
        spans = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel)]
        rows, columns = [(size - span) // s + 1 for size, span, s in zip(sizes, spans, self.stride)]
        return rows, columns


@functools.lru_cache(maxsize=4096)
def convolution_numbers(geometry: Geometry, shape: tuple[int, ...]) -> tuple[Any, tuple[int, int, int, int]]:
    """The kernels' description of a convolution of this image, and the output's shape."""
    n, c, h, w = shape
    oh, ow = geometry.output(h, w)
    (kh, kw), out = geometry.kernel, geometry.out_channels
    values = [n, c, h, w, out, kh, kw, *geometry.stride, *geometry.pads, *geometry.dilation]
    values += [geometry.groups, oh, ow, geometry.bf16, _method(geometry, shape)]
    return numbers(values), (n, out, oh, ow)


def _method(geometry: Geometry, shape: tuple[int, ...]) -> int:
    """Which kernels compute a convolution, by what was faster where it was measured."""
    n, c, h, w = shape
    oh, ow = geometry.output(h, w)
    (kh, kw), out = geometry.kernel, geometry.out_channels
    if geometry.groups > 1:
        return _PRIMITIVE
    if (kh, kw, *geometry.stride, *geometry.dilation) == (3, 3, 1, 1, 1, 1):
        # transforming the weights is worth it from so many tiles on; channels go in blocks of 16
        tiles, fewest, channels = n * -(-oh // 4) * -(-ow // 4), *((100, 64) if geometry.bf16 else (32, 16))
        filled = c * out / (-(-c // 16) * -(-out // 16) * 256)
        if tiles >= fewest and min(c, out) >= channels and filled >= _MINIMAL_FILLED:
            return _MINIMAL
    if (kh, kw, *geometry.stride, *geometry.dilation) == (7, 7, 1, 1, 1, 1):
        tiles = n * -(-oh // 2) * -(-ow // 2)
        whole = c % 16 == 0 and out % 16 == 0
        # the image's gradient is made in tiles of the image: too many without padding
        if tiles >= 12 and whole and h * w <= 1.3 * oh * ow and not geometry.bf16:
            return _MINIMAL
    pointwise = (kh, kw, *geometry.stride) == (1, 1, 1, 1) and not any(geometry.pads)
    columns = 0 if pointwise else n * oh * ow * c * kh * kw * 4
    plain = out * c * kh * kw >= _PLAIN_WEIGHTS * (1 if pointwise else 4)
    return _PRODUCT if plain and columns <= _PLAIN_COLUMNS else _PRIMITIVE


@functools.lru_cache(maxsize=4096)
def can_convolve(kernels: Kernels, geometry: Geometry, shape: tuple[int, ...]) -> bool:
    """Whether there are kernels for this convolution of [N, C, H, W], all three directions."""
    if min(shape) < 1 or min(geometry.output(*shape[2:])) < 1:
        return False
    return kernels.says("fcn_supported", convolution_numbers(geometry, shape)[0])


@dataclasses.dataclass(frozen=True)
class Norm:
    """BatchNorm's settings; running values are changed in place while `batch` statistics are used."""

    running_mean: paddle.Tensor
    running_variance: paddle.Tensor
    epsilon: float
    momentum: float
    batch: bool


@dataclasses.dataclass(frozen=True)
class Block:
    """What a block is made of: convolution, BatchNorm or none, ReLU or none."""

    kernels: Kernels
    geometry: Geometry
    norm: Norm | None
    relu: bool


def convolve(
    block: Block,
    x: paddle.Tensor,
    weight: paddle.Tensor,
    bias: paddle.Tensor | None,
    gamma: paddle.Tensor | None,
    beta: paddle.Tensor | None,
) -> paddle.Tensor:
    """float32 [N, C, H, W] -> [N, O, H', W'] in channels-last storage, with gradients.

    `bias` goes with blocks without BatchNorm; `gamma` and `beta` with those that have it.
    """
    if paddle.is_grad_enabled():
        return _Convolve.apply(x, weight, bias, gamma, beta, block)
    return _forward(block, x, weight, bias, gamma, beta)[0]


def _forward(
    block: Block,
    x: paddle.Tensor,
    weight: paddle.Tensor,
    bias: paddle.Tensor | None,
    gamma: paddle.Tensor | None,
    beta: paddle.Tensor | None,
) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
    """The output, and what the backward pass needs of it all."""
    kernels, wide = block.kernels, not block.geometry.bf16
    geometry, shape = convolution_numbers(block.geometry, tuple(x.shape))
    n, channels, height, width = shape
    pixels = n * height * width
    image = inner_image(kernels, x, wide)
    output = kernels.channels_last(shape)
    z = output.data_ptr()
    keeps = block.norm is not None  # BatchNorm's gradient needs the convolution's own result
    y = kernels.empty([pixels, channels], "float32" if wide else "int16") if keeps or not wide else output
    kernels.call("fcn_convolution", geometry, image.data_ptr(), weight.data_ptr(), y.data_ptr())
    saved = {"image": image}
    if block.norm is None:
        if bias is not None or block.relu or not wide:
            bias = paddle.zeros([channels]) if bias is None else bias
            kernels.call("fcn_add_bias", wide, y.data_ptr(), pixels, channels, bias.data_ptr(), block.relu, z)
        return output, saved
    norm = block.norm
    mean, variance = norm.running_mean, norm.running_variance
    if norm.batch:
        mean, variance = kernels.empty([channels]), kernels.empty([channels])
        kernels.call(
            "fcn_statistics", wide, y.data_ptr(), pixels, channels, mean.data_ptr(), variance.data_ptr()
        )
        for running, found in ((norm.running_mean, mean), (norm.running_variance, variance)):
            running.set_value(running * norm.momentum + found * (1 - norm.momentum))
    kernels.call(
        "fcn_normalize", wide, y.data_ptr(), pixels, channels, mean.data_ptr(), variance.data_ptr(),
        norm.epsilon, address(gamma), address(beta), block.relu, z,
    )  # fmt: skip
    return output, {**saved, "y": y, "mean": mean, "variance": variance}


class _Convolve(PyLayer):
    @staticmethod
    def forward(
        ctx: Any,
        x: paddle.Tensor,
        weight: paddle.Tensor,
        bias: paddle.Tensor | None,
        gamma: paddle.Tensor | None,
        beta: paddle.Tensor | None,
        block: Block,
    ) -> paddle.Tensor:
        output, ctx.saved = _forward(block, x, weight, bias, gamma, beta)
        ctx.block, ctx.shape = block, tuple(x.shape)
        ctx.wanted = [t is not None and not t.stop_gradient for t in (x, weight, bias, gamma, beta)]
        ctx.tensors = (weight, gamma, beta)
        ctx.given = [t is not None for t in (x, weight, bias, gamma, beta)]
        if block.norm is None and block.relu:
            ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, dz: paddle.Tensor) -> Any:
        saved, ctx.saved = ctx.saved, None  # freed layer by layer, not at the end of the pass
        dy, gradients = _before_norm(ctx, saved, dz)
        block, weight = ctx.block, ctx.tensors[0]
        geometry, _ = convolution_numbers(block.geometry, ctx.shape)
        if ctx.wanted[1]:
            gradients[1] = block.kernels.empty(weight.shape, "float32")
            block.kernels.call(
                "fcn_weight_gradient", geometry, saved["image"].data_ptr(), dy, gradients[1].data_ptr()
            )
        del saved
        if ctx.wanted[0]:
            gradients[0] = block.kernels.channels_last(ctx.shape)
            block.kernels.call("fcn_data_gradient", geometry, dy, weight.data_ptr(), gradients[0].data_ptr())
        return tuple(gradient for gradient, given in zip(gradients, ctx.given) if given)


def _before_norm(ctx: Any, saved: dict[str, paddle.Tensor], dz: paddle.Tensor) -> tuple[int, list[Any]]:
    """Address of the gradient at the convolution's own result; gradients of bias, gamma, beta."""
    block, (_, gamma, beta) = ctx.block, ctx.tensors
    kernels, wide = block.kernels, not block.geometry.bf16
    _, shape = convolution_numbers(block.geometry, ctx.shape)
    channels, pixels = shape[1], shape[0] * shape[2] * shape[3]
    arriving = arriving_address(kernels, dz)
    gradients: list[Any] = [None] * 5
    if block.norm is None and not block.relu and wide and not ctx.wanted[2]:
        return arriving, gradients
    dy = kernels.buffer(GRADIENT, pixels * channels * (4 if wide else 2))
    if block.norm is None:
        dbias = kernels.empty([channels]) if ctx.wanted[2] else None
        seen = ctx.saved_tensor()[0].data_ptr() if block.relu else arriving
        kernels.call(
            "fcn_bias_gradient", wide, arriving, seen, pixels, channels, block.relu, dy, address(dbias)
        )
        gradients[2] = dbias
        return dy, gradients
    norm = block.norm
    dgamma, dbeta = kernels.empty([channels]), kernels.empty([channels])
    kernels.call(
        "fcn_normalize_gradient", wide, arriving, saved["y"].data_ptr(), pixels, channels,
        saved["mean"].data_ptr(), saved["variance"].data_ptr(), norm.epsilon, address(gamma), address(beta),
        block.relu, norm.batch, dy, dgamma.data_ptr(), dbeta.data_ptr(),
    )  # fmt: skip
    gradients[3], gradients[4] = (dgamma if ctx.wanted[3] else None), (dbeta if ctx.wanted[4] else None)
    return dy, gradients


def add_relu(kernels: Kernels, a: paddle.Tensor, b: paddle.Tensor) -> paddle.Tensor:
    """ReLU of the sum of two float32 maps of one shape, both in channels-last storage, with gradients."""
    if paddle.is_grad_enabled():
        return _AddRelu.apply(a, b, kernels)
    return _added(kernels, a, b)


def _added(kernels: Kernels, a: paddle.Tensor, b: paddle.Tensor) -> paddle.Tensor:
    output = kernels.channels_last(a.shape)
    kernels.call("fcn_add_relu", a.data_ptr(), b.data_ptr(), math.prod(a.shape), output.data_ptr())
    return output


class _AddRelu(PyLayer):
    @staticmethod
    def forward(ctx: Any, a: paddle.Tensor, b: paddle.Tensor, kernels: Kernels) -> paddle.Tensor:
        ctx.kernels, ctx.given = kernels, (not a.stop_gradient, not b.stop_gradient)
        output = _added(kernels, a, b)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, dz: paddle.Tensor) -> Any:
        (output,) = ctx.saved_tensor()
        gradients = [ctx.kernels.channels_last(dz.shape) for _ in range(2)]
        da, db = [gradient.data_ptr() for gradient in gradients]
        arriving, count = arriving_address(ctx.kernels, dz), math.prod(dz.shape)
        ctx.kernels.call("fcn_add_relu_gradient", arriving, output.data_ptr(), count, da, db)
        return tuple(gradient if given else None for gradient, given in zip(gradients, ctx.given))


def inner_image(kernels: Kernels, x: paddle.Tensor, wide: bool) -> paddle.Tensor:
    """The image as the kernels take it: itself, or a copy in their layout and precision."""
    n, c, h, w = x.shape
    if is_channels_last(x):
        if wide:
            return x.detach()
        result = kernels.empty([n, h, w, c], "int16")
        kernels.call("fcn_narrow", x.data_ptr(), n * h * w * c, result.data_ptr())
        return result
    x = x.contiguous()
    result = kernels.empty([n, h, w, c], "float32" if wide else "int16")
    kernels.call("fcn_to_channels_last", wide, x.data_ptr(), n, c, h * w, result.data_ptr())
    return result


def arriving_address(kernels: Kernels, gradient: paddle.Tensor) -> int:
    """The address of a gradient in channels-last float32."""
    if is_channels_last(gradient):
        return int(gradient.data_ptr())
    n, c, h, w = gradient.shape
    gradient = gradient.contiguous()
    target = kernels.buffer(TRANSPOSED, n * c * h * w * 4)
    kernels.call("fcn_to_channels_last", True, gradient.data_ptr(), n, c, h * w, target)
    return target


def address(tensor: paddle.Tensor | None) -> int | None:
    """Of a tensor's numbers; None for None."""
    return None if tensor is None else int(tensor.data_ptr())


@dataclasses.dataclass(frozen=True)
class Window:
    """A pooling window; `pads` are (top, left, bottom, right)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    ceil_mode: bool

    def output(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the output, as Paddle counts."""
        top, left, bottom, right = self.pads
        sizes = (height + top + bottom, width + left + right)
        extra = [stride - 1 if self.ceil_mode else 0 for stride in self.stride]
        rows, columns = [
            (size - k + more) // s + 1 for size, k, more, s in zip(sizes, self.kernel, extra, self.stride)
        ]
        return rows, columns


def max_pool(kernels: Kernels, window: Window, x: paddle.Tensor) -> paddle.Tensor:
    """float32 [N, C, H, W] in channels-last storage -> its maxima, with gradient."""
    if paddle.is_grad_enabled():
        return _MaxPool.apply(x, kernels, window)
    return _pool(kernels, window, x)[0]


def _pool(kernels: Kernels, window: Window, x: paddle.Tensor) -> tuple[paddle.Tensor, Any, Any]:
    n, c, h, w = x.shape
    oh, ow = window.output(h, w)
    output, winner = kernels.channels_last([n, c, oh, ow]), kernels.empty([n, oh, ow, c], "uint8")
    values = numbers([n, c, h, w, *window.kernel, *window.stride, *window.pads[:2], oh, ow])
    kernels.call("fcn_max_pool", values, x.data_ptr(), output.data_ptr(), winner.data_ptr())
    return output, winner, values


class _MaxPool(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, kernels: Kernels, window: Window) -> paddle.Tensor:
        output, ctx.winner, ctx.values = _pool(kernels, window, x)
        ctx.kernels, ctx.shape = kernels, x.shape
        return output

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> paddle.Tensor:
        dx = ctx.kernels.channels_last(ctx.shape)
        arriving = arriving_address(ctx.kernels, dy)
        ctx.kernels.call("fcn_max_pool_gradient", ctx.values, arriving, ctx.winner.data_ptr(), dx.data_ptr())
        return dx
