"""The sum of a config's loss entries over a model's outputs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import paddle

Loss = Callable[[paddle.Tensor, paddle.Tensor], paddle.Tensor]


@dataclasses.dataclass(frozen=True)
class LossEntry:
    """One loss with a weight for each of the model's outputs, the main logits first."""

    loss: Loss
    weights: Sequence[float] = (1.0,)

    @property
    def name(self) -> str:
        """What a log calls the loss."""
        return getattr(self.loss, "__name__", type(self.loss).__name__)

    def divisor(self, label: paddle.Tensor) -> float:
        """What the loss divides by over these labels; of a function that does not say, the images."""
        own = getattr(self.loss, "divisor", None)
        return float(label.shape[0]) if own is None else own(label)


class WeightedLosses:
    """(outputs, label) -> scalar: every entry's loss on every output, weighted and summed.

    A step over several batches or devices gives every part the same `whole`, the parts' `divisors` added
    up. Its parts then sum to the loss of one batch of all their images, also where void is spread
    unevenly over them.
    """

    def __init__(self, entries: Sequence[LossEntry]) -> None:
        self.entries = tuple(entries)

    def __call__(
        self,
        outputs: Sequence[paddle.Tensor],
        label: paddle.Tensor,
        whole: Sequence[float] | None = None,
    ) -> paddle.Tensor:
        """Outputs of [N, C, H, W] each, label [N, H, W]. In eval mode there is only the main output.

        `whole` holds one divisor an entry; without it these images are all of the step.
        """
        shares = [1.0] * len(self.entries) if whole is None else self._parts_in(whole, label)
        # a common part divides the sum: n equal parts then give, to the bit, the loss divided by n
        common = shares[0] if len(set(shares)) == 1 else None
        terms = [
            entry.loss(output, label) * weight / (1.0 if common is not None else share)
            for entry, share in zip(self.entries, shares)
            for output, weight in zip(outputs, entry.weights)
            if weight
        ]
        total = paddle.add_n(terms)
        return total if common is None else total / common

    def divisors(self, label: paddle.Tensor) -> list[float]:
        """What each entry's mean over the label [N, H, W] divides by."""
        return [entry.divisor(label) for entry in self.entries]

    @property
    def uses_all_outputs(self) -> bool:
        """Whether every output has a weight in some entry."""
        return all(any(column) for column in zip(*(entry.weights for entry in self.entries)))

    def uneven(self) -> list[str]:
        """The losses that are not the mean of their parts, by name."""
        return [entry.name for entry in self.entries if not getattr(entry.loss, "splits", False)]

    def _parts_in(self, whole: Sequence[float], label: paddle.Tensor) -> list[float]:
        """Into how many parts like this one each entry's `whole` would go; infinite where it has none."""
        return [
            1.0 if getattr(entry.loss, "reduction", "mean") == "sum" else total / own if own else math.inf
            for entry, own, total in zip(self.entries, self.divisors(label), whole)
        ]
