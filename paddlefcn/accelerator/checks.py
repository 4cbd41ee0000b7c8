"""Compares a build with Paddle's own operators: `python -m paddlefcn.accelerator.checks LIBRARY`.

Run in a process of its own before a build is used: a library that does not fit this machine may end it.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import paddle

    from paddlefcn.accelerator.kernels import Kernels

TOLERANCE = 1e-4
# bfloat16 has 8 bits; sums over many products stay within a few of its steps
TOLERANCE_BF16 = 3e-2

# (in, out, kernel, stride, padding, dilation, groups): what networks are made of, and odd sizes
CONVOLUTIONS = (
    (3, 16, 3, 1, 1, 1, 1),
    (16, 32, 3, 1, 1, 1, 1),
    (16, 32, 3, 2, 1, 1, 1),
    (7, 5, 3, 1, 1, 1, 1),
    (48, 40, 3, 1, 1, 1, 1),
    (30, 64, 3, 1, 3, 1, 1),
    (64, 80, 3, 1, 1, 1, 1),
    (3, 16, 3, 1, 100, 1, 1),
    (3, 16, 7, 2, 3, 1, 1),
    (3, 16, 11, 4, 100, 1, 1),
    (16, 24, 5, 1, 2, 1, 2),
    (16, 16, 3, 1, 2, 2, 1),
    (16, 16, 3, 1, 12, 12, 1),
    (32, 32, 3, 1, 1, 1, 32),
    (32, 32, 3, 2, 1, 1, 32),
    (32, 32, 3, 1, 2, 2, 32),
    (32, 21, 1, 1, 0, 1, 1),
    (32, 48, 1, 2, 0, 1, 1),
    (64, 80, 7, 1, 3, 1, 1),
    (32, 64, 7, 1, 0, 1, 1),
    (512, 2048, 2, 5, 0, 1, 1),
    (1024, 1030, 1, 1, 0, 1, 1),
)
# the same of transposed ones, and rows and columns added at the end
TRANSPOSED = (
    (21, 21, 4, 2, 1, 1, 21, 0),
    (11, 11, 16, 8, 4, 1, 11, 0),
    (5, 5, 4, 2, 0, 1, 1, 0),
    (32, 16, 2, 2, 0, 1, 1, 0),
    (32, 24, 3, 1, 1, 1, 1, 0),
    (8, 12, 3, 2, 1, 1, 2, 1),
    (6, 5, 3, 2, 2, 2, 1, 1),
)
POOLS = ((2, 2, 0, True), (3, 2, 0, True), (3, 2, 1, False), (2, 2, 0, False), (3, 1, 1, False))


def faults(kernels: Kernels) -> Iterator[str]:
    """One line for each operator whose result or gradient is not Paddle's."""
    import numpy as np

    rng = np.random.default_rng(0)
    precisions = (False, True) if kernels.says("fcn_bfloat_is_fast") else (False,)
    for numbers, kind, bf16 in itertools.product(CONVOLUTIONS, ("plain", "bias", "norm"), precisions):
        if bf16 and numbers[0] < 8:
            continue
        error = convolution_error(kernels, numbers, kind, bf16, rng)
        if error > (TOLERANCE_BF16 if bf16 else TOLERANCE):
            yield f"convolution {numbers} {kind}{' bf16' if bf16 else ''}: error {error:.1e}"
    for layer, has_bias in itertools.product(TRANSPOSED, (False, True)):
        error = transposed_error(kernels, layer, has_bias, rng)
        if error > TOLERANCE:
            yield f"transposed convolution {layer}{' bias' if has_bias else ''}: error {error:.1e}"
    for pool in POOLS:
        error = pool_error(kernels, pool, rng)
        if error > TOLERANCE:
            yield f"max pooling {pool}: error {error:.1e}"


def convolution_error(kernels: Kernels, numbers: tuple[int, ...], kind: str, bf16: bool, rng: Any) -> float:
    """The largest deviation of result and gradients from Paddle's, as a share of the largest value.

    `kind`: plain, bias (and ReLU) or norm (BatchNorm and ReLU). With bfloat16 ReLU is left out: a value near
    zero may fall on either side of it.
    """
    import paddle
    import paddle.nn.functional as F

    from paddlefcn.accelerator.operators import Block, Geometry, Norm, can_convolve, convolve

    channels, out, k, stride, padding, dilation, groups = numbers
    pads = (padding,) * 4
    geometry = Geometry(out, (k, k), (stride, stride), pads, (dilation, dilation), groups, bf16)
    x = _random(rng, 2, channels, 13, 17)
    if not can_convolve(kernels, geometry, tuple(x.shape)):
        return 0.0  # such layers run on Paddle's own operator
    weight = _random(rng, out, channels // groups, k, k, scale=(channels // groups * k * k) ** -0.5)
    bias = _random(rng, out) if kind == "bias" else None
    gamma, beta = (_random(rng, out), _random(rng, out)) if kind == "norm" else (None, None)
    relu = kind != "plain" and not bf16
    ours, theirs = [[paddle.zeros([out]), paddle.ones([out])] for _ in range(2)]
    norm = Norm(ours[0], ours[1], 1e-5, 0.9, True) if kind == "norm" else None
    result = convolve(Block(kernels, geometry, norm, relu), x, weight, bias, gamma, beta)
    wanted = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if kind == "norm":
        wanted = F.batch_norm(wanted, theirs[0], theirs[1], gamma, beta, training=True, momentum=0.9)
    # a value that is zero but for rounding may fall on either side of ReLU's corner: no gradient from there
    clear = (wanted.abs() > TOLERANCE * wanted.abs().max()).astype("float32").detach() if relu else None
    wanted = F.relu(wanted) if relu else wanted
    inputs = [tensor for tensor in (x, weight, bias, gamma, beta) if tensor is not None]
    found = [result, *_gradients(result, inputs, clear), *(ours if norm else [])]
    right = [wanted, *_gradients(wanted, inputs, clear), *(theirs if norm else [])]
    return max(_deviation(one, other) for one, other in zip(found, right))


def transposed_error(kernels: Kernels, numbers: tuple[int, ...], has_bias: bool, rng: Any) -> float:
    """As `convolution_error`, of a transposed convolution."""
    import paddle.nn.functional as F

    from paddlefcn.accelerator.operators import Geometry
    from paddlefcn.accelerator.transposed import Transposed, can_transpose, transposed_convolve

    channels, out, k, stride, padding, dilation, groups, more = numbers
    adjoint = Geometry(channels, (k, k), (stride, stride), (padding,) * 4, (dilation, dilation), groups)
    layer = Transposed(adjoint, out, (more, more))
    x = _random(rng, 2, channels, 7, 9)
    if not can_transpose(kernels, layer, tuple(x.shape)):
        return 0.0  # such layers run on Paddle's own operator
    weight = _random(rng, channels, out // groups, k, k, scale=(channels // groups * k * k) ** -0.5)
    bias = _random(rng, out) if has_bias else None
    result = transposed_convolve(kernels, layer, x, weight, bias)
    settings = {"output_padding": more, "dilation": dilation, "groups": groups}
    wanted = F.conv2d_transpose(x, weight, bias, stride, padding, **settings)
    if result.shape != wanted.shape:
        return float("inf")
    inputs = [tensor for tensor in (x, weight, bias) if tensor is not None]
    found = [result, *_gradients(result, inputs)]
    right = [wanted, *_gradients(wanted, inputs)]
    return max(_deviation(one, other) for one, other in zip(found, right))


def pool_error(
    kernels: Kernels, pool: tuple[int, int, int, bool], rng: Any, size: tuple[int, int] = (13, 17)
) -> float:
    """As `convolution_error`, of max pooling: (kernel, stride, padding, ceil_mode)."""
    import paddle
    import paddle.nn.functional as F

    from paddlefcn.accelerator.operators import Window, max_pool

    k, stride, padding, ceil_mode = pool
    x = _random(rng, 2, 5, *size)
    stored = paddle.transpose(x.detach(), [0, 2, 3, 1]).contiguous().transpose([0, 3, 1, 2])
    stored.stop_gradient = False
    result = max_pool(kernels, Window((k, k), (stride, stride), (padding,) * 4, ceil_mode), stored)
    wanted = F.max_pool2d(x, k, stride, padding, ceil_mode=ceil_mode)
    if result.shape != wanted.shape:
        return float("inf")
    found = [result, *_gradients(result, [stored])]
    right = [wanted, *_gradients(wanted, [x])]
    return max(_deviation(one, other) for one, other in zip(found, right))


def _random(rng: Any, *shape: int, scale: float = 1.0) -> paddle.Tensor:
    import paddle

    values = (rng.standard_normal(shape) * scale).astype("float32")
    return paddle.to_tensor(values, stop_gradient=False)


def _gradients(
    result: paddle.Tensor, inputs: list[paddle.Tensor], share: paddle.Tensor | None = None
) -> list[paddle.Tensor]:
    import numpy as np
    import paddle

    # the same weights for both results
    weights = paddle.to_tensor(np.random.default_rng(1).standard_normal(result.shape).astype("float32"))
    weights = weights if share is None else weights * share
    return list(paddle.grad((result * weights).sum(), inputs))


def _deviation(found: paddle.Tensor, right: paddle.Tensor) -> float:
    difference = float((found - right).abs().max()) / max(float(right.abs().max()), 1e-6)
    return difference if difference == difference else float("inf")


def main(argv: list[str]) -> int:
    """Prints what is wrong with a library; 0 if nothing is."""
    from paddlefcn import runtime

    runtime.prepare()
    import paddle

    paddle.set_device("cpu")
    from paddlefcn.accelerator.kernels import Kernels

    found = list(faults(Kernels(Path(argv[0]))))
    for line in found:
        print(f"error: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
