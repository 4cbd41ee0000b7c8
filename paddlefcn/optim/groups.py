"""Parameter groups: what of a network learns faster, and what decays."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import paddle
from paddle import nn

from paddlefcn.layers import NORMS


@dataclasses.dataclass(frozen=True)
class Groups:
    """How parameters differ in learning rate and decay.

    head_lr_factor: for everything outside `model.backbone` (a new head on pretrained layers).
    bias_lr_factor: for biases; the FCN paper uses 2.
    decay_bias, decay_norm: whether weight decay holds for biases, and for a normalisation's scale and shift.
    """

    head_lr_factor: float = 1.0
    bias_lr_factor: float = 1.0
    decay_bias: bool = False
    decay_norm: bool = False


def named_parameters(model: nn.Layer) -> list[tuple[str, paddle.Tensor]]:
    """The parameters by the network's own names, also where paddle.DataParallel is wrapped around it."""
    wrapped = isinstance(model, paddle.DataParallel)
    return [(name.removeprefix("_layers.") if wrapped else name, p) for name, p in model.named_parameters()]


def parameter_groups(model: nn.Layer, groups: Groups, weight_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters by learning-rate factor and decay, as paddle's optimizers take them."""
    for name, value in (
        ("weight_decay", weight_decay),
        ("head_lr_factor", groups.head_lr_factor),
        ("bias_lr_factor", groups.bias_lr_factor),
    ):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} {value}: expected 0 or more")
    weight_decay = float(weight_decay)  # paddle takes an integer for a regularizer and calls it
    norms = {
        id(parameter)
        for layer in model.sublayers(include_self=True)
        if isinstance(layer, NORMS)
        for parameter in layer.parameters(include_sublayers=False)
    }
    found: dict[tuple[float, float], list[paddle.Tensor]] = {}
    for name, parameter in named_parameters(model):
        if parameter.stop_gradient:
            continue
        factor = 1.0 if name.startswith("backbone.") else groups.head_lr_factor
        decay = weight_decay
        if id(parameter) in norms:
            decay = weight_decay if groups.decay_norm else 0.0
        elif name.endswith("bias"):
            factor *= groups.bias_lr_factor
            decay = weight_decay if groups.decay_bias else 0.0
        found.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": params, "learning_rate": factor, "weight_decay": decay}
        for (factor, decay), params in found.items()
    ]
