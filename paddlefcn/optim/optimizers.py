"""The optimizers by name, over a network's parameter groups.

All take `clip_norm`: gradients are scaled down together so that the norm over all of them is at most that.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import paddle
from paddle import nn

from paddlefcn.optim.groups import Groups, parameter_groups


def sgd(
    model: nn.Layer, groups: Groups, weight_decay: float = 0.0, clip_norm: float | None = None
) -> paddle.optimizer.Optimizer:
    """Plain stochastic gradient descent."""
    decayed = parameter_groups(model, groups, weight_decay)
    return paddle.optimizer.SGD(1.0, parameters=decayed, grad_clip=clipping(clip_norm))


def momentum(
    model: nn.Layer,
    groups: Groups,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    nesterov: bool = False,
    clip_norm: float | None = None,
) -> paddle.optimizer.Optimizer:
    """SGD with momentum: v = momentum * v + gradient; parameter -= rate * v."""
    _check_fraction("momentum", momentum)
    return paddle.optimizer.Momentum(
        1.0,
        momentum,
        parameters=parameter_groups(model, groups, weight_decay),
        use_nesterov=nesterov,
        grad_clip=clipping(clip_norm),
    )


def adam(
    model: nn.Layer,
    groups: Groups,
    weight_decay: float = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    clip_norm: float | None = None,
) -> paddle.optimizer.Optimizer:
    """Adam (Kingma and Ba 2015); weight decay is added to the gradient."""
    _check_fraction("beta1", beta1)
    _check_fraction("beta2", beta2)
    decayed = parameter_groups(model, groups, weight_decay)
    return paddle.optimizer.Adam(
        1.0, beta1, beta2, epsilon, parameters=decayed, grad_clip=clipping(clip_norm)
    )


def adamw(
    model: nn.Layer,
    groups: Groups,
    weight_decay: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    clip_norm: float | None = None,
) -> paddle.optimizer.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
    _check_fraction("beta1", beta1)
    _check_fraction("beta2", beta2)
    decayed = parameter_groups(model, groups, weight_decay)
    return paddle.optimizer.AdamW(
        1.0, beta1, beta2, epsilon, parameters=decayed, grad_clip=clipping(clip_norm)
    )


OPTIMIZERS: dict[str, Callable[..., paddle.optimizer.Optimizer]] = {
    "SGD": sgd,
    "Momentum": momentum,
    "Adam": adam,
    "AdamW": adamw,
}
# a loss ten times as large makes their steps ten times as large; Adam divides that out again
LOSS_SCALED = ("SGD", "Momentum")


def clipping(norm: float | None) -> paddle.nn.ClipGradByGlobalNorm | None:
    """Paddle's clipping by the norm over all gradients (Pascanu et al., ICML 2013); None clips nothing."""
    if norm is None:
        return None
    if not 0 < norm < math.inf:
        raise ValueError(f"clip_norm {norm}: expected a number above 0")
    return nn.ClipGradByGlobalNorm(float(norm))


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} {value}: expected 0 or more and less than 1")
