"""Maps joined along their channels, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle.autograd import PyLayer

from paddlefcn.accelerator.kernels import Kernels
from paddlefcn.accelerator.operators import arriving_address, inner_image


def join(kernels: Kernels, maps: Sequence[paddle.Tensor]) -> paddle.Tensor:
    """float32 [N, C1, H, W], [N, C2, H, W], ... -> [N, C1 + C2 + ..., H, W] in channels-last storage."""
    if paddle.is_grad_enabled():
        return _Join.apply(kernels, *maps)
    return _joined(kernels, maps)


def _joined(kernels: Kernels, maps: Sequence[paddle.Tensor]) -> paddle.Tensor:
    n, _, h, w = maps[0].shape
    channels = sum(part.shape[1] for part in maps)
    output = kernels.channels_last([n, channels, h, w])
    to = output.data_ptr()
    for part in maps:
        image, count = inner_image(kernels, part, True), part.shape[1]
        kernels.call("fcn_copy_channels", image.data_ptr(), count, to, channels, count, n * h * w)
        to += count * 4
    return output


class _Join(PyLayer):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, *maps: paddle.Tensor) -> paddle.Tensor:
        ctx.kernels, ctx.counts = kernels, [part.shape[1] for part in maps]
        ctx.wanted = [not part.stop_gradient for part in maps]
        return _joined(kernels, maps)

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> Any:
        n, channels, h, w = dy.shape
        start, gradients = arriving_address(ctx.kernels, dy), []
        for count, wanted in zip(ctx.counts, ctx.wanted):
            gradient = ctx.kernels.channels_last([n, count, h, w]) if wanted else None
            if gradient is not None:
                to = gradient.data_ptr()
                ctx.kernels.call("fcn_copy_channels", start, channels, to, count, count, n * h * w)
            gradients.append(gradient)
            start += count * 4
        return tuple(gradients)
