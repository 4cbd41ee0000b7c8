"""Activation recomputation: less memory for more arithmetic (Chen et al., 2016)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import paddle
from paddle import nn

from paddlefcn.layers import BATCH_NORMS


def recompute_blocks(backbone: nn.Layer) -> int:
    """Lets each block of a backbone keep its input alone and compute the rest again in backward.

    Weights, gradients and BatchNorm's running statistics are those of training without it. A block is a
    direct part of the backbone (of a list of parts: each of them). Returns how many there are.
    """
    from paddle.distributed.fleet.utils import recompute

    blocks = list(_blocks(backbone))
    for block in blocks:
        block.forward = _recomputed(block, block.forward, recompute)
    return len(blocks)


def _blocks(layer: nn.Layer) -> Iterator[nn.Layer]:
    for child in layer.children():
        if isinstance(child, (nn.LayerList, nn.Sequential)):
            yield from _blocks(child)
        elif any(True for _ in child.parameters()):
            yield child


def _recomputed(block: nn.Layer, forward: Callable, recompute: Callable) -> Callable:
    norms = [layer for layer in [block, *block.sublayers()] if isinstance(layer, BATCH_NORMS)]

    def run(x: paddle.Tensor) -> paddle.Tensor:
        # paddle's function keeps no graph for an input that no gradient reaches, such as the image
        if not block.training or x.stop_gradient or not paddle.is_grad_enabled():
            return forward(x)
        passes = 0

        def body(x: paddle.Tensor) -> paddle.Tensor:
            nonlocal passes
            passes += 1
            with _statistics_kept(norms) if passes > 1 else contextlib.nullcontext():
                return forward(x)

        return recompute(body, x)

    return run


@contextlib.contextmanager
def _statistics_kept(norms: list[nn.Layer]) -> Iterator[None]:
    """The second pass sees the same batch: its statistics must not count twice."""
    statistics = [norm.state_dict()[name] for norm in norms for name in ("_mean", "_variance")]
    kept = [(value, value.clone()) for value in statistics]
    try:
        yield
    finally:
        with paddle.no_grad():
            for value, before in kept:
                value.set_value(before)
