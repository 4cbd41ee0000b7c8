"""Optimizers, learning-rate schedules and parameter groups."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle
from paddle import nn

from paddlefcn.layers import NORMS


@dataclasses.dataclass(frozen=True)
class Groups:
    """How parameters differ in learning rate and decay.

    head_lr_factor: for everything outside `model.backbone` (a new head on pretrained layers).
    bias_lr_factor: for biases; the FCN paper uses 2.
    decay_bias, decay_norm: whether weight decay holds for biases, and for BatchNorm's scale and shift.
    """

    head_lr_factor: float = 1.0
    bias_lr_factor: float = 1.0
    decay_bias: bool = False
    decay_norm: bool = False


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
    for name, parameter in model.named_parameters():
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


def sgd(model: nn.Layer, groups: Groups, weight_decay: float = 0.0) -> paddle.optimizer.Optimizer:
    """Plain stochastic gradient descent."""
    return paddle.optimizer.SGD(1.0, parameters=parameter_groups(model, groups, weight_decay))


def momentum(
    model: nn.Layer,
    groups: Groups,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> paddle.optimizer.Optimizer:
    """SGD with momentum: v = momentum * v + gradient; parameter -= rate * v."""
    _check_fraction("momentum", momentum)
    return paddle.optimizer.Momentum(
        1.0,
        momentum,
        parameters=parameter_groups(model, groups, weight_decay),
        use_nesterov=nesterov,
    )


def adam(
    model: nn.Layer,
    groups: Groups,
    weight_decay: float = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> paddle.optimizer.Optimizer:
    """Adam (Kingma and Ba 2015); weight decay is added to the gradient."""
    _check_fraction("beta1", beta1)
    _check_fraction("beta2", beta2)
    decayed = parameter_groups(model, groups, weight_decay)
    return paddle.optimizer.Adam(1.0, beta1, beta2, epsilon, parameters=decayed)


def adamw(
    model: nn.Layer,
    groups: Groups,
    weight_decay: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> paddle.optimizer.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
    _check_fraction("beta1", beta1)
    _check_fraction("beta2", beta2)
    decayed = parameter_groups(model, groups, weight_decay)
    return paddle.optimizer.AdamW(1.0, beta1, beta2, epsilon, parameters=decayed)


OPTIMIZERS = {"SGD": sgd, "Momentum": momentum, "Adam": adam, "AdamW": adamw}
# a loss ten times as large makes their steps ten times as large; Adam divides that out again
LOSS_SCALED = ("SGD", "Momentum")


# The mean's learning rates that make sense: AlexNet's FCN was published with 1e-4, FCN-32s with what is
# 2.5e-5 over a 500x500 image; training in stages goes down to 2.5e-9, on top of a trained network.
_LARGEST, _SMALLEST, _SMALLEST_TRAINED = 1.0, 1e-7, 1e-9


def rate_warning(learning_rate: float, *, reduction: str, pixels: int, trained: bool = False) -> str | None:
    """One line if a learning rate is wrong by orders of magnitude for the loss's reduction, else None.

    With gradient descent, a mean over `pixels` pixels at rate r is their sum at rate r / pixels. A rate
    that was published for one of them does nothing, or diverges at once, with the other.

    Args:
        learning_rate: of an optimizer in LOSS_SCALED.
        reduction: "mean" or "sum".
        pixels: labelled pixels a batch.
        trained: whether the network starts from one trained for the same task, as in stages.
    """
    summed = reduction == "sum"
    smallest = _SMALLEST_TRAINED if trained else _SMALLEST
    as_mean = learning_rate * pixels if summed else learning_rate
    if smallest <= as_mean <= _LARGEST:
        return None
    effect = f" (what {as_mean:.2g} is with a mean)" if summed else ""
    found = (
        f"learning rate {learning_rate:.3g} is too {'small' if as_mean < smallest else 'large'} by orders of "
        f"magnitude for a loss with reduction: {reduction} over {pixels:,} pixels a batch{effect}"
    )
    other, as_other = ("mean", learning_rate) if summed else ("sum", learning_rate * pixels)
    if smallest <= as_other <= _LARGEST:
        equivalent = learning_rate / pixels if summed else as_other
        return (
            f"{found}; it is one for reduction: {other}, and {equivalent:.2g} is its equivalent for "
            f"reduction: {reduction}"
        )
    scale = pixels if summed else 1
    return f"{found}; usual are {smallest / scale:.0e} to {_LARGEST / scale:.0e}"


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} {value}: expected 0 or more and less than 1")


def optimizer_state(optimizer: paddle.optimizer.Optimizer, model: nn.Layer) -> dict[str, np.ndarray]:
    """Momenta and the like by structured parameter name ("fc6.conv.weight/velocity_0").

    Paddle's own keys are auto-generated names, which differ for the second model of a process.
    """
    structured = {parameter.name: name for name, parameter in model.named_parameters()}
    by_length = sorted(structured, key=len, reverse=True)
    state = {}
    for key, value in optimizer.state_dict().items():
        owner = next((name for name in by_length if key.startswith(f"{name}_")), None)
        if owner is not None and isinstance(value, paddle.Tensor):
            state[f"{structured[owner]}/{key[len(owner) + 1 :]}"] = value.numpy()
    return state


def load_optimizer_state(
    optimizer: paddle.optimizer.Optimizer, model: nn.Layer, state: Mapping[str, np.ndarray]
) -> None:
    """Puts back what `optimizer_state` gave; must come before the first step.

    Raises:
        ValueError: the state names a parameter that the model does not have.
    """
    generated = {name: parameter.name for name, parameter in model.named_parameters()}
    renamed = {}
    for key, value in state.items():
        name, _, slot = key.rpartition("/")
        if name not in generated:
            raise ValueError(f"optimizer state for {name!r}, which is no parameter of this model")
        renamed[f"{generated[name]}_{slot}"] = paddle.to_tensor(value)
        renamed[f"{generated[name]}_{slot}"].name = f"{generated[name]}_{slot}"
    optimizer.set_state_dict(renamed)


class _Schedule:
    """A learning rate as a pure function of the iteration (1, 2, …), so that a resume has no state."""

    def __init__(self, learning_rate: float, total: int, warmup_iters: int, warmup_ratio: float) -> None:
        if not learning_rate > 0 or not math.isfinite(learning_rate):
            raise ValueError(f"learning_rate {learning_rate}: expected a number above 0")
        if warmup_iters < 0:
            raise ValueError(f"warmup_iters {warmup_iters}: expected 0 or more")
        if not 0 <= warmup_ratio <= 1:
            raise ValueError(f"warmup_ratio {warmup_ratio}: expected 0 to 1")
        self.learning_rate, self.total = learning_rate, total
        self.warmup_iters, self.warmup_ratio = warmup_iters, warmup_ratio

    def __call__(self, iteration: int) -> float:
        """The rate of this iteration; during warm-up a straight line up to the schedule's rate."""
        rate = self.decayed(iteration - 1)
        if iteration <= self.warmup_iters:
            share = iteration / (self.warmup_iters + 1)
            rate *= self.warmup_ratio + (1 - self.warmup_ratio) * share
        return rate

    def decayed(self, done: int) -> float:
        """The rate after `done` iterations, without warm-up."""
        return self.learning_rate

    def longer_than_the_run(self) -> str | None:
        """What part of the schedule does not fit into the run, in words."""
        if self.warmup_iters >= self.total:
            return f"warm-up of {self.warmup_iters} iterations in a run of {self.total}"
        return None


class Constant(_Schedule):
    """One rate throughout, after the warm-up."""

    def __init__(
        self, learning_rate: float, total: int, warmup_iters: int = 0, warmup_ratio: float = 0.0
    ) -> None:
        super().__init__(learning_rate, total, warmup_iters, warmup_ratio)


class Poly(_Schedule):
    """learning_rate * (1 - done / total) ** power, not below `end` (DeepLab, section 4.1)."""

    def __init__(
        self,
        learning_rate: float,
        total: int,
        power: float = 0.9,
        end: float = 0.0,
        warmup_iters: int = 0,
        warmup_ratio: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, total, warmup_iters, warmup_ratio)
        if power <= 0:
            raise ValueError(f"power {power}: expected a number above 0")
        self.power, self.end = power, end

    def decayed(self, done: int) -> float:
        left = max(0.0, 1.0 - done / self.total)
        return (self.learning_rate - self.end) * left**self.power + self.end


class Step(_Schedule):
    """The rate times `gamma` at every iteration of `milestones`."""

    def __init__(
        self,
        learning_rate: float,
        total: int,
        milestones: Sequence[int] = (),
        gamma: float = 0.1,
        warmup_iters: int = 0,
        warmup_ratio: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, total, warmup_iters, warmup_ratio)
        if not milestones or list(milestones) != sorted(set(milestones)) or milestones[0] < 1:
            raise ValueError(f"milestones {list(milestones)}: expected rising iterations, such as [300, 600]")
        if gamma <= 0:
            raise ValueError(f"gamma {gamma}: expected a number above 0")
        self.milestones, self.gamma = tuple(milestones), gamma

    def decayed(self, done: int) -> float:
        return self.learning_rate * self.gamma ** sum(done >= mark for mark in self.milestones)

    def longer_than_the_run(self) -> str | None:
        if self.milestones[-1] >= self.total:
            return f"a step at iteration {self.milestones[-1]} in a run of {self.total}"
        return super().longer_than_the_run()


SCHEDULES = {"Constant": Constant, "Poly": Poly, "Step": Step}
