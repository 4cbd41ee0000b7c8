"""The sum of a config's loss entries over a model's outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import paddle

Loss = Callable[[paddle.Tensor, paddle.Tensor], paddle.Tensor]


@dataclasses.dataclass(frozen=True)
class LossEntry:
    """One loss with a weight for each of the model's outputs, the main logits first."""

    loss: Loss
    weights: Sequence[float] = (1.0,)


class WeightedLosses:
    """(outputs, label) -> scalar: every entry's loss on every output, weighted and summed."""

    def __init__(self, entries: Sequence[LossEntry]) -> None:
        self.entries = tuple(entries)

    def __call__(self, outputs: Sequence[paddle.Tensor], label: paddle.Tensor) -> paddle.Tensor:
        """Outputs of [N, C, H, W] each, label [N, H, W]. In eval mode there is only the main output."""
        terms = [
            entry.loss(output, label) * weight
            for entry in self.entries
            for output, weight in zip(outputs, entry.weights)
            if weight
        ]
        return paddle.add_n(terms)
