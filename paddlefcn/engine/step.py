"""One optimisation step: what the training loop repeats and what `benchmark` times."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import paddle

if TYPE_CHECKING:
    from paddle import nn
    from paddle.optimizer import Optimizer

    from paddlefcn.data.loader import Batch
    from paddlefcn.losses import WeightedLosses


@dataclasses.dataclass(frozen=True)
class StepResult:
    """The loss of a step (the mean over its batches) and the samples that were in it."""

    loss: float
    names: list[str]

    @property
    def is_finite(self) -> bool:
        """Whether the step was taken; a step whose loss is not finite leaves the network as it was."""
        return math.isfinite(self.loss)


class TrainStep:
    """Forward, losses and backward over the batches of one step, then the update.

    Args:
        model, losses, optimizer: built; `losses(outputs, label)` gives a scalar.
        accumulate: how many batches a step takes; the gradient is their mean.
        keeps_statistics: put BatchNorm's running values back after a step that was not taken.
        mark: called with "forward", "backward" and "update" as each is done, for whoever times them.
    """

    def __init__(
        self,
        model: nn.Layer,
        losses: WeightedLosses,
        optimizer: Optimizer,
        *,
        accumulate: int = 1,
        keeps_statistics: bool = False,
        mark: Callable[[str], None] = lambda phase: None,
    ) -> None:
        self.model, self.losses, self.optimizer = model, losses, optimizer
        self.accumulate, self.keeps_statistics, self.mark = accumulate, keeps_statistics, mark

    def __call__(self, batches: Iterable[Batch], learning_rate: float) -> StepResult:
        """Takes a step of `learning_rate` over `accumulate` batches, unless their loss is not finite."""
        self.optimizer.set_lr(learning_rate)
        statistics = self._statistics()
        total, names = 0.0, []
        for batch in batches:
            outputs = self.model(paddle.to_tensor(batch.image))
            loss = self.losses(outputs, paddle.to_tensor(batch.label)) / self.accumulate
            self.mark("forward")
            loss.backward()
            total += loss.item()
            names += batch.names
            self.mark("backward")
        result = StepResult(total, names)
        if result.is_finite:
            self.optimizer.step()
        else:
            for buffer, value in statistics:  # the forward pass has spoilt BatchNorm's running values
                buffer.set_value(value)
        self.optimizer.clear_grad(set_to_zero=False)  # zeroed gradients would be kept, and added to
        self.mark("update")
        return result

    def _statistics(self) -> list[tuple[Any, Any]]:
        if not self.keeps_statistics:
            return []
        # not `buffers()`: BatchNorm's running values are parameters that no gradient reaches
        return [(value, value.clone()) for value in self.model.state_dict().values() if value.stop_gradient]
