"""The training loop."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paddle

from paddlefcn.engine.averaging import Average
from paddlefcn.engine.checkpoint import Checkpoints, State, model_arrays
from paddlefcn.engine.interrupt import Interrupts
from paddlefcn.engine.progress import TrainingProgress
from paddlefcn.engine.records import Records
from paddlefcn.errors import RunError
from paddlefcn.optim import load_optimizer_state, optimizer_state

if TYPE_CHECKING:
    from paddle import nn
    from paddle.optimizer import Optimizer

    from paddlefcn.data.loader import Batch, TrainLoader
    from paddlefcn.engine.checkpoint import Checkpoint
    from paddlefcn.engine.evaluate import Evaluation
    from paddlefcn.losses import WeightedLosses


Evaluate = Callable[[int, Callable[[], bool]], "Evaluation"]


class Interrupted(Exception):  # noqa: N818 - no error: the user asked for it
    """Raised by an evaluation that was stopped by a signal."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long and how often; durations in optimisation steps.

    A stage of a run goes on from iteration `start`, where the one before ended, to iteration `iters`; its
    learning rate is that of a run of its own. best/ is the last stage's (`keep_best`).
    """

    iters: int
    eval_iters: int
    accumulate: int
    seed: int
    best: str
    skip_nan: int
    save_iters: int
    start: int = 0
    keep_best: bool = True


class Trainer:
    """Everything a run needs, built; `run` is the loop.

    `evaluate(iteration, interrupted)` scores the validation split; it raises Interrupted as soon as
    `interrupted()` says so.
    """

    def __init__(
        self,
        *,
        model: nn.Layer,
        losses: WeightedLosses,
        optimizer: Optimizer,
        schedule: Callable[[int], float],
        loader: TrainLoader,
        evaluate: Evaluate,
        checkpoints: Checkpoints,
        plan: Plan,
        average: Average,
    ) -> None:
        self.model, self.losses, self.optimizer, self.schedule = model, losses, optimizer, schedule
        self.loader, self.evaluate, self.checkpoints = loader, evaluate, checkpoints
        self.plan, self.average = plan, average
        self.state = State()
        self.last_saved: Path | None = None
        self._slots: dict[str, Any] | None = None  # as loaded, until the first step

    def weights(self) -> dict[str, Any]:
        """The network's weights as they are used: averaged, if there is an average."""
        return model_arrays(self.model, self.average)[0]

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint: weights, optimizer, averages, best score."""
        training = checkpoint.training
        raw = {name[4:]: value for name, value in training.items() if name.startswith("raw/")}
        self.model.set_state_dict({k: paddle.to_tensor(v) for k, v in (raw or checkpoint.weights).items()})
        self.average.load(checkpoint.weights)
        slots = {name[6:]: value for name, value in training.items() if name.startswith("optim/")}
        load_optimizer_state(self.optimizer, self.model, slots)
        self._slots = slots
        self.state, self.last_saved = checkpoint.state, checkpoint.folder
        self.checkpoints.settle(checkpoint.state.iteration)

    def run(self, records: Records, progress: TrainingProgress) -> int:
        """Trains to the end of the plan; returns 0, or 130 / 143 when a signal stopped it.

        Raises:
            RunError: the loss is not finite, or a file could not be written.
            DataError: an image or mask that stops the run.
        """
        plan, state = self.plan, self.state
        batches = self.loader.batches(start=state.iteration * plan.accumulate)
        self.model.train()
        with Interrupts() as interrupts:
            if self._due(state.iteration, plan.eval_iters) and state.evaluated != state.iteration:
                self._evaluate(records, progress, interrupts)
                if state.evaluated == state.iteration:  # the checkpoint learns the score it went without
                    self._save(records, progress)
            while state.iteration < plan.iters and not interrupts.code:
                iteration = state.iteration + 1
                learning_rate = self.schedule(iteration - plan.start)
                self.optimizer.set_lr(learning_rate)
                paddle.seed(_seed(plan.seed, iteration))  # dropout follows from the iteration alone
                loss = self._step(batches, progress, iteration, learning_rate)
                self.average.update(iteration - plan.start)
                state.iteration = iteration
                records.write({"iter": iteration, "loss": loss, "learning_rate": learning_rate})
                clock = progress.step(iteration, loss, learning_rate)
                if clock:
                    records.write_timing({"iter": iteration, **clock})
                if self._due(iteration, plan.eval_iters) and not interrupts.code:
                    self._evaluate(records, progress, interrupts)
                if self._due(iteration, plan.save_iters) or interrupts.code:
                    self._save(records, progress)
        return interrupts.code

    def _due(self, iteration: int, every: int) -> bool:
        return iteration > 0 and (iteration % every == 0 or iteration == self.plan.iters)

    def _step(
        self, batches: Iterator[Batch], progress: TrainingProgress, iteration: int, learning_rate: float
    ) -> float | None:
        """One optimisation step over `accumulate` batches; None where its loss was not finite."""
        statistics = self._statistics()
        total, names = 0.0, []
        for _ in range(self.plan.accumulate):
            batch = progress.waited(batches)
            outputs = self.model(paddle.to_tensor(batch.image))
            loss = self.losses(outputs, paddle.to_tensor(batch.label)) / self.plan.accumulate
            loss.backward()
            total += loss.item()
            names += batch.names
        if not math.isfinite(total):
            self.optimizer.clear_grad()
            for buffer, value in statistics:  # the forward pass has spoilt BatchNorm's running values
                buffer.set_value(value)
            self._not_finite(total, names, iteration, learning_rate, progress)
            return None
        self.optimizer.step()
        self._slots = None
        self.optimizer.clear_grad()
        return total

    def _statistics(self) -> list[tuple[Any, Any]]:
        if not self.plan.skip_nan:
            return []
        # not `buffers()`: BatchNorm's running values are parameters that no gradient reaches
        return [(value, value.clone()) for value in self.model.state_dict().values() if value.stop_gradient]

    def _not_finite(
        self,
        loss: float,
        names: list[str],
        iteration: int,
        learning_rate: float,
        progress: TrainingProgress,
    ) -> None:
        facts = f"learning rate {learning_rate:.3g}, batch: {', '.join(names)}"
        where = f"loss is {loss} at iteration {iteration} ({facts})"
        self.state.skipped += 1
        if self.state.skipped <= self.plan.skip_nan:
            progress.say(f"{where}; step left out ({self.state.skipped} of {self.plan.skip_nan} allowed)")
            return
        raise RunError(f"{where}; {self._last_good()}; lower schedule.learning_rate or look at these files")

    def _last_good(self) -> str:
        return f"last good checkpoint: {self.last_saved}" if self.last_saved else "no checkpoint yet"

    def _check_weights(self) -> None:
        """A step can spoil the weights while its own loss was finite: such weights are no checkpoint."""
        for name, value in self.model.state_dict().items():
            if not bool(paddle.isfinite(value).all()):
                raise RunError(
                    f"{name} is not finite after iteration {self.state.iteration} (learning rate "
                    f"{self.optimizer.get_lr():.3g}); {self._last_good()}; lower schedule.learning_rate"
                )

    def _evaluate(self, records: Records, progress: TrainingProgress, interrupts: Interrupts) -> None:
        """Scores the validation split, writes it down, and keeps the weights if they are the best."""
        state = self.state
        self._check_weights()
        try:
            with self.average.applied():
                result = progress.aside(lambda: self.evaluate(state.iteration, lambda: interrupts.code != 0))
        except Interrupted:
            return
        scores = result.scores.to_dict()
        names = ("mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "mean_dice")
        state.evaluated = state.iteration
        loss = result.loss if result.loss is not None and math.isfinite(result.loss) else None
        records.write({"iter": state.iteration, "val_loss": loss, **{name: scores[name] for name in names}})
        score = scores[self.plan.best]
        is_best = score is not None and (state.best_score is None or score > state.best_score)
        if is_best:
            state.best_score, state.best_iteration = score, state.iteration
            if self.plan.keep_best:
                progress.aside(lambda: self.checkpoints.save_best(state, *self._arrays()))
        loss_text = "" if loss is None else f"val loss {loss:.4f}  "
        progress.say(
            f"eval at {state.iteration}: {loss_text}mean IoU {_shown(scores['mean_iou'])}  pixel accuracy "
            f"{_shown(scores['pixel_accuracy'])}{'  (best so far)' if is_best else ''}"
        )

    def _save(self, records: Records, progress: TrainingProgress) -> None:
        records.sync()
        progress.aside(self.save)

    def save(self) -> None:
        """Writes a checkpoint of the state as it is.

        Raises:
            RunError: a weight is not finite, or the disk is full.
        """
        self._check_weights()
        self.last_saved = self.checkpoints.save(self.state, *self._arrays())

    def _arrays(self) -> tuple[dict[str, Any], dict[str, Any]]:
        weights, raw = model_arrays(self.model, self.average)
        # Paddle 2 takes loaded momenta in with the first step, and until then says it has none
        slots = optimizer_state(self.optimizer, self.model) if self._slots is None else self._slots
        return weights, {**raw, **{f"optim/{name}": value for name, value in slots.items()}}


def _seed(seed: int, iteration: int) -> int:
    # spreads neighbouring iterations over the whole range, so that their streams have nothing in common
    return (seed * 1_000_003 + iteration * 2_654_435_761) % 2**31


def _shown(score: float | None) -> str:
    return "none" if score is None else f"{score:.4f}"
