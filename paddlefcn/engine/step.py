"""One optimisation step: what the training loop repeats and what `benchmark` times."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import paddle

from paddlefcn.engine.distillation import Guide, no_guide
from paddlefcn.engine.precision import Precision
from paddlefcn.engine.ranks import ALONE, Ranks
from paddlefcn.layers import BATCH_NORMS

if TYPE_CHECKING:
    from paddle import nn
    from paddle.optimizer import Optimizer

    from paddlefcn.data.loader import Batch
    from paddlefcn.losses import WeightedLosses


@dataclasses.dataclass(frozen=True)
class StepResult:
    """The loss of a step (over all its batches and ranks) and the samples that were in it here.

    `overflows`: the loss may be finite, its gradients are not.
    """

    loss: float
    names: list[str]
    overflows: bool = False

    @property
    def is_finite(self) -> bool:
        """Whether the step was taken; one whose loss or gradients are not finite leaves all as it was."""
        return math.isfinite(self.loss) and not self.overflows


class TrainStep:
    """Forward, losses and backward over the batches of one step, then the update.

    Args:
        model, losses, optimizer: built; `losses(outputs, label, whole)` gives a scalar.
        accumulate: how many batches a step takes; its loss is that of one batch of all their images.
        precision: of the forward pass.
        guide: adds a teacher's part to the loss of a batch.
        ranks: the processes that take the step together, each with batches of its own.
        mark: called with "forward", "backward" and "update" as each is done, for whoever times them.
    """

    def __init__(
        self,
        model: nn.Layer,
        losses: WeightedLosses,
        optimizer: Optimizer,
        *,
        accumulate: int = 1,
        precision: Precision | None = None,
        guide: Guide = no_guide,
        ranks: Ranks = ALONE,
        mark: Callable[[str], None] = lambda phase: None,
    ) -> None:
        self.model, self.losses, self.optimizer = model, losses, optimizer
        self.accumulate, self.mark = accumulate, mark
        self.precision, self.ranks = precision or Precision(), ranks
        self.guide = guide
        self._parallel = ranks.wrap(model, uses_all=losses.uses_all_outputs)
        self._trained = [value for value in model.parameters() if not value.stop_gradient]
        norms = [layer for layer in model.sublayers() if isinstance(layer, BATCH_NORMS)]
        # running values, which every forward pass changes
        self._running = [layer.state_dict()[key] for layer in norms for key in ("_mean", "_variance")]

    def __call__(self, batches: Iterable[Batch], learning_rate: float) -> StepResult:
        """Takes a step of `learning_rate` over `accumulate` batches, if loss and gradients are finite."""
        self.optimizer.set_lr(learning_rate)
        statistics = [value.clone() for value in self._running]
        # what the losses divide by is counted over the whole step before its first backward pass
        parts = [(batch, paddle.to_tensor(batch.label)) for batch in batches]
        own = [self.losses.divisors(label) for _, label in parts]
        images = float(sum(len(batch.names) for batch, _ in parts))
        images, *whole = self.ranks.sum([images, *(sum(column) for column in zip(*own))])
        total, names = 0.0, []
        for number, (batch, label) in enumerate(parts, start=1):
            with self.ranks.apart(self._parallel, hold=number < len(parts)):
                image = paddle.to_tensor(batch.image)
                with self.precision.forward():
                    outputs = self._parallel(image)
                loss = self.losses(outputs, label, whole)
                loss = self.guide(loss, image, outputs, int(images))
                self.mark("forward")
                # over several ranks gradients are averaged, and the loss is a sum of their shares
                self.precision.scaled(loss * self.ranks.size).backward()
            total += loss.item()
            names += batch.names
            self.mark("backward")
        total, overflows = self.ranks.sum([total, float(self._overflow())])
        result = StepResult(total, names, overflows > 0)
        if result.is_finite:
            self.precision.update(self.optimizer)
        else:
            for value, before in zip(self._running, statistics):
                value.set_value(before)
        self.optimizer.clear_grad(set_to_zero=False)  # zeroed gradients would be kept, and added to
        self.mark("update")
        return result

    @paddle.no_grad()
    def _overflow(self) -> bool:
        """Whether a gradient is not finite, which would spoil the weights for good."""
        if self.precision.leaves_out_overflows:
            return False
        gradients = [value.grad for value in self._trained if value.grad is not None]
        # a sum shows what is not finite at a fraction of the price; it can be too large itself
        if not gradients or math.isfinite(paddle.add_n([value.sum() for value in gradients]).item()):
            return False
        return not all(bool(paddle.isfinite(value).all()) for value in gradients)
