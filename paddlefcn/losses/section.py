"""The `loss` section of a recipe: its entries checked, and made into losses with a weight for each output."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paddlefcn.arguments import Component, accepts, describe, is_number
from paddlefcn.errors import ConfigError
from paddlefcn.losses import LOSSES, LossEntry, WeightedLosses
from paddlefcn.losses.class_weights import ClassCounts, check_rule, weights_by_rule

if TYPE_CHECKING:
    from paddle import nn

    from paddlefcn.classes import Classes


def make_losses(
    entries: Sequence[Component], model: nn.Layer, classes: Classes, counts: ClassCounts | None = None
) -> WeightedLosses:
    """The entries as losses; what they leave open is the model's own weights and the data's `ignore_index`.

    Args:
        counts: what `class_weights: {from: data, …}` becomes numbers by; none without them.

    Raises:
        ConfigError: an argument that cannot be right, another number of weights than the model has outputs
            or classes, or a main output that nothing weighs.
    """
    losses = []
    for entry in entries:
        loss, weights = _read(entry)
        weights = weights or list(model.output_weights)
        if len(weights) != model.num_outputs:
            raise ConfigError(
                f"{loss.where}.weights: {len(weights)} weights, but {type(model).__name__} has "
                f"{model.num_outputs} output{'s' * (model.num_outputs > 1)} in training, the main one first"
            )
        given: dict[str, Any] = {}
        factors = loss.args.get("class_weights")
        if isinstance(factors, Mapping):
            where = f"{loss.where}.class_weights"
            given["class_weights"] = counts and weights_by_rule(factors, counts, where)
        elif factors is not None and len(factors) != len(classes):
            raise ConfigError(
                f"{loss.where}.class_weights: {len(factors)} factors for {len(classes)} classes"
            )
        if accepts(LOSSES[loss.type], "ignore_index") and "ignore_index" not in loss.args:
            given["ignore_index"] = classes.ignore_index
        own = {key: value for key, value in loss.args.items() if key not in given}
        losses.append(LossEntry(dataclasses.replace(loss, args=own).make(LOSSES, **given), weights))
    # the main output is what is evaluated and used, and in eval mode it is the only one there is
    if not any(entry.weights[0] for entry in losses):
        raise ConfigError(
            f"{entries[0].where}.weights: the first weight is the main output's and must be above 0, "
            f"got {describe(losses[0].weights)}"
        )
    return WeightedLosses(losses)


def _read(entry: Component) -> tuple[Component, list[float] | None]:
    """The loss with its own arguments, checked, and the weight of each output if the entry gives them."""
    loss = dataclasses.replace(entry, args={k: v for k, v in entry.args.items() if k != "weights"})
    rule, plain = loss.args.get("class_weights"), dict(loss.args)
    if isinstance(rule, Mapping) and accepts(loss.look_up(LOSSES), "class_weights"):
        check_rule(rule, f"{loss.where}.class_weights")
        del plain["class_weights"]
    dataclasses.replace(loss, args=plain).check(LOSSES, names=("weights",))
    weights = entry.args.get("weights")
    if weights is None:
        return loss, None
    numbers = isinstance(weights, list) and weights and all(is_number(weight) for weight in weights)
    if not numbers or min(weights) < 0 or not any(weights):
        raise ConfigError(
            f"{entry.where}.weights: expected one factor an output, such as [1.0, 0.4], "
            f"got {describe(weights)}"
        )
    return loss, [float(weight) for weight in weights]
