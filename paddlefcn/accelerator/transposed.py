"""Transposed convolution with gradients: a convolution's three kernels, in other roles.

What a transposed convolution computes is the gradient of a convolution's image; its own gradients are that
convolution and the gradient of its weights. The weights lie alike: ``[in, out / groups, kh, kw]``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import paddle
from paddle.autograd import PyLayer

from paddlefcn.accelerator.kernels import GRADIENT, Kernels
from paddlefcn.accelerator.operators import (
    Geometry,
    address,
    arriving_address,
    can_convolve,
    convolution_numbers,
    inner_image,
)


@dataclasses.dataclass(frozen=True)
class Transposed:
    """A transposed convolution to `channels`; `adjoint` is the convolution whose image it computes."""

    adjoint: Geometry
    channels: int
    more: tuple[int, int]  # rows and columns added at the end: Paddle's output_padding

    def output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """[N, C, H, W] of the output."""
        n, _, *sizes = shape
        top, left, bottom, right = self.adjoint.pads
        facts = zip(sizes, self.adjoint.stride, self.adjoint.dilation, self.adjoint.kernel)
        spans = [(size - 1) * s + d * (k - 1) + 1 for size, s, d, k in facts]
        height, width = [span + more for span, more in zip(spans, self.more)]
        return n, self.channels, height - top - bottom, width - left - right


def can_transpose(kernels: Kernels, layer: Transposed, shape: tuple[int, ...]) -> bool:
    """Whether there are kernels for this transposed convolution of [N, C, H, W], gradients included."""
    return min(layer.output(shape)) > 0 and can_convolve(kernels, layer.adjoint, layer.output(shape))


def transposed_convolve(
    kernels: Kernels, layer: Transposed, x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor | None
) -> paddle.Tensor:
    """float32 [N, C, H, W] -> `layer.output` in channels-last storage, with gradients."""
    if paddle.is_grad_enabled():
        return _Transpose.apply(x, weight, bias, kernels, layer)
    return _forward(kernels, layer, x, weight, bias)[0]


def _forward(
    kernels: Kernels, layer: Transposed, x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor | None
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """The output, and the input as the kernels take it."""
    shape = layer.output(tuple(x.shape))
    numbers, _ = convolution_numbers(layer.adjoint, shape)
    image, output = inner_image(kernels, x, True), kernels.channels_last(shape)
    to = output.data_ptr()
    kernels.call("fcn_data_gradient", numbers, image.data_ptr(), weight.data_ptr(), to)
    if bias is not None:
        pixels = shape[0] * shape[2] * shape[3]
        kernels.call("fcn_add_bias", True, to, pixels, shape[1], bias.data_ptr(), False, to)
    return output, image


class _Transpose(PyLayer):
    @staticmethod
    def forward(
        ctx: Any,
        x: paddle.Tensor,
        weight: paddle.Tensor,
        bias: paddle.Tensor | None,
        kernels: Kernels,
        layer: Transposed,
    ) -> paddle.Tensor:
        output, ctx.image = _forward(kernels, layer, x, weight, bias)
        ctx.kernels, ctx.layer, ctx.weight, ctx.shape = kernels, layer, weight, x.shape
        ctx.given = [t is not None for t in (x, weight, bias)]
        ctx.wanted = [t is not None and not t.stop_gradient for t in (x, weight, bias)]
        return output

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> Any:
        kernels, image, ctx.image = ctx.kernels, ctx.image, None
        n, channels, height, width = dy.shape
        numbers, _ = convolution_numbers(ctx.layer.adjoint, (n, channels, height, width))
        arriving = arriving_address(kernels, dy)
        gradients: list[Any] = [None] * 3
        if ctx.wanted[2]:
            gradients[2] = kernels.empty([channels])
            copied = kernels.buffer(GRADIENT, n * height * width * channels * 4)
            kernels.call(
                "fcn_bias_gradient", True, arriving, arriving, n * height * width, channels, False, copied,
                address(gradients[2]),
            )  # fmt: skip
        if ctx.wanted[1]:
            gradients[1] = kernels.empty(ctx.weight.shape)
            to = gradients[1].data_ptr()
            kernels.call("fcn_weight_gradient", numbers, arriving, image.data_ptr(), to)
        if ctx.wanted[0]:
            gradients[0] = kernels.channels_last(ctx.shape)
            to = gradients[0].data_ptr()
            kernels.call("fcn_convolution", numbers, arriving, ctx.weight.data_ptr(), to)
        return tuple(gradient for gradient, given in zip(gradients, ctx.given) if given)
