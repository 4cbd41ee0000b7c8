"""The training loop."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle

from paddlefcn.engine.averaging import Average
from paddlefcn.engine.checkpoint import Checkpoints, State, model_arrays
from paddlefcn.engine.freezing import training_mode
from paddlefcn.engine.history import ends_early, scores_of
from paddlefcn.engine.interrupt import Interrupted, Interrupts
from paddlefcn.engine.progress import TrainingProgress
from paddlefcn.engine.records import LINES, Records
from paddlefcn.engine.step import StepResult, TrainStep
from paddlefcn.engine.validation import Validation
from paddlefcn.errors import RunError, UserError
from paddlefcn.metrics import SCORES, Scores
from paddlefcn.optim import Schedule, load_optimizer_state, optimizer_state
from paddlefcn.optim.schedules import Score

if TYPE_CHECKING:
    from paddlefcn.data.loader import TrainLoader
    from paddlefcn.engine.checkpoint import Checkpoint


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long and how often; durations in optimisation steps.

    A stage of a run goes on from iteration `start`, where the one before ended, to iteration `iters`; its
    learning rate is that of a run of its own. best/ is the last stage's (`keep_best`). After `early_stop`
    evaluations in a row without a better score it ends early.
    """

    iters: int
    eval_iters: int
    save_iters: int
    seed: int
    best: str
    allowed_skips: int
    start: int = 0
    keep_best: bool = True
    early_stop: int | None = None

    def due(self, iteration: int, every: int) -> bool:
        """Whether something that is done every so often is done after this iteration; the last one always."""
        return iteration > 0 and (iteration % every == 0 or iteration == self.iters)


class Loop:
    """Trains one network to the end of its plan: `run` is the loop, `restore` goes on from a checkpoint."""

    def __init__(
        self,
        *,
        step: TrainStep,
        schedule: Schedule,
        loader: TrainLoader,
        validation: Validation,
        checkpoints: Checkpoints,
        average: Average,
        plan: Plan,
        records: Records,
        progress: TrainingProgress,
    ) -> None:
        self.step, self.schedule, self.loader, self.validation = step, schedule, loader, validation
        self.checkpoints, self.average, self.plan = checkpoints, average, plan
        self.records, self.progress = records, progress
        self.model = step.model
        self.state = State()
        self.last_saved: Path | None = None
        self.last_scores: Scores | None = None  # of the last evaluation of this start
        self._slots: dict[str, Any] | None = None  # as loaded, until the first step

    def weights(self) -> dict[str, Any]:
        """The network's weights as they are used: averaged, if there is an average."""
        return model_arrays(self.model, self.average)[0]

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint: weights, optimizer, averages, best score."""
        training = checkpoint.training
        raw = {name[4:]: value for name, value in training.items() if name.startswith("raw/")}
        self.model.set_state_dict({k: paddle.to_tensor(v) for k, v in (raw or checkpoint.weights).items()})
        if raw:
            self.average.load(checkpoint.weights)
        slots = {name[6:]: value for name, value in training.items() if name.startswith("optim/")}
        load_optimizer_state(self.step.optimizer, self.model, slots)
        self._slots = slots
        scale = {name[4:]: value for name, value in training.items() if name.startswith("amp/")}
        self.step.precision.load(scale)
        self.state, self.last_saved = checkpoint.state, checkpoint.folder
        self.checkpoints.settle(checkpoint.state.iteration)

    def run(self) -> int:
        """Trains to the end of the plan; returns 0, or 130 / 143 when a signal stopped it.

        Raises:
            RunError: a loss or gradient is not finite, or a file could not be written.
            DataError: an image or mask that stops the run.
        """
        plan, state, ranks = self.plan, self.state, self.step.ranks
        batches = self.loader.batches(start=state.iteration * self.step.accumulate)
        training_mode(self.model)
        with Interrupts(patient=ranks.size > 1) as interrupts:
            if plan.due(state.iteration, plan.eval_iters) and state.evaluated != state.iteration:
                self._evaluate(interrupts)
            # a signal reaches the ranks at different times: they agree on it after every step
            code = ranks.highest(interrupts.code)
            while state.iteration < plan.iters and not code and not self.ends_early():
                iteration = state.iteration + 1
                learning_rate = self.schedule(iteration - plan.start, self.scores())
                paddle.seed(_seed(plan.seed, iteration))  # dropout follows from the iteration alone
                taken = (self.progress.waited(batches) for _ in range(self.step.accumulate))
                try:
                    result = self.step(taken, learning_rate)
                except (UserError, RunError):  # batches come before everything else: nothing has changed
                    if ranks.size == 1:
                        self._keep_iterations()
                    raise
                self._note(result, iteration, learning_rate)
                self.average.update(iteration - plan.start)
                state.iteration = iteration
                code = ranks.highest(interrupts.code)
                if plan.due(iteration, plan.eval_iters) and not code:
                    self.save()  # before scoring, which can fail or be killed
                    self._evaluate(interrupts)
                    code = ranks.highest(interrupts.code)
                elif plan.due(iteration, plan.save_iters) or code:
                    self.save()
        if self.ends_early() and state.iteration < plan.iters and not code:
            self.progress.say(
                f"stopped early after iteration {state.iteration} of {plan.iters}: no better {plan.best} in "
                f"{plan.early_stop} evaluations"
            )
        return code

    def scores(self) -> list[Score]:
        """(iteration in this stage, score) of every evaluation of it so far."""
        return scores_of(self.records.evaluations, self.plan.best, self.plan.start)

    def ends_early(self) -> bool:
        """Whether the scores have stood still for as long as the plan waits."""
        return ends_early(self.scores(), self.plan.early_stop)

    def _note(self, result: StepResult, iteration: int, learning_rate: float) -> None:
        """Writes a step down; one that was not taken counts against the allowed ones."""
        loss = result.loss if result.is_finite else None
        if loss is None:
            self._skip(result, iteration, learning_rate)
        else:
            self._slots = None
        self.records.write({"iter": iteration, "loss": loss, "learning_rate": learning_rate})
        self.progress.images = len(result.names) * self.step.ranks.size
        clock = self.progress.step(iteration, loss, learning_rate)
        if clock:
            self.records.write_timing({"iter": iteration, **clock})

    def _skip(self, result: StepResult, iteration: int, learning_rate: float) -> None:
        facts = f"learning rate {learning_rate:.3g}, batch: {', '.join(result.names)}"
        what = "a gradient is not finite" if math.isfinite(result.loss) else f"loss is {result.loss}"
        where = f"{what} at iteration {iteration} ({facts})"
        if self.state.skipped >= self.plan.allowed_skips:
            self._keep_iterations()
            mend = (
                "look at these files, allow train.on_nan, or start a new run with a lower "
                "schedule.learning_rate"
            )
            raise RunError(f"{where}; {self._last_good()}; {mend}")
        self.state.skipped += 1
        allowed = f"{self.state.skipped} of {self.plan.allowed_skips} allowed"
        self.progress.say(f"{where}; step left out ({allowed})")

    def _keep_iterations(self) -> None:
        """A checkpoint of the last whole iteration, before a step that could not be taken stops the run."""
        name = f"iter_{self.state.iteration}"
        if self.state.iteration > self.plan.start and (not self.last_saved or self.last_saved.name != name):
            self.save()

    def _last_good(self) -> str:
        return f"last good checkpoint: {self.last_saved}" if self.last_saved else "no checkpoint yet"

    def _check_finite(self, arrays: Mapping[str, np.ndarray]) -> None:
        """A step can spoil weights or momenta while its own loss was finite: that is no checkpoint."""
        for name, value in arrays.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise RunError(
                    f"{name} is not finite after iteration {self.state.iteration} (learning rate "
                    f"{self.step.optimizer.get_lr():.3g}); {self._last_good()}; start a new run with a lower "
                    "schedule.learning_rate"
                )

    def _evaluate(self, interrupts: Interrupts) -> None:
        """Scores the validation split, writes it down, and keeps the weights if they are the best."""
        state = self.state
        try:
            with self.progress.paused(), self.average.applied():
                result = self.validation(self.model, interrupts.check)
        except Interrupted:
            return
        for number, picture in enumerate(self.validation.pictures()):
            self.records.write_preview(number, picture, state.iteration)
        scores = result.scores.to_dict()
        state.evaluated = state.iteration
        loss = result.loss if result.loss is not None and math.isfinite(result.loss) else None
        self.records.write(
            {"iter": state.iteration, "val_loss": loss, **{name: scores[name] for name in SCORES}}
        )
        self.last_scores = result.scores
        self.records.write_class_scores(
            state.iteration, {row.name: row.iou for row in result.scores.per_class}
        )
        score = scores[self.plan.best]
        self._note_records()
        is_best = score is not None and (state.best_score is None or score > state.best_score)
        if is_best:
            state.best_score, state.best_iteration = score, state.iteration
            if self.plan.keep_best:
                with self.progress.paused():
                    self.checkpoints.save_best(state, *self._arrays())
        self.checkpoints.restate(state)
        loss_text = "" if loss is None else f"val loss {loss:.4f}  "
        self.progress.say(
            f"eval at {state.iteration}: {loss_text}mean IoU {_four_digits(scores['mean_iou'])}  pixel "
            f"accuracy {_four_digits(scores['pixel_accuracy'])}{'  (best so far)' if is_best else ''}"
        )

    def save(self) -> None:
        """Writes a checkpoint of the state as it is.

        Raises:
            RunError: a value is not finite, or the disk is full.
        """
        self._note_records()
        with self.progress.paused():
            weights, training = self._arrays()
            self._check_finite({**weights, **training})
            self.last_saved = self.checkpoints.save(self.state, weights, training)

    def _note_records(self) -> None:
        """The state says which lines of metrics.jsonl belong to it; they outlive what it outlives."""
        self.records.sync()
        self.state.lines, self.state.lines_sha256 = self.records.extent()

    def _arrays(self) -> tuple[dict[str, Any], dict[str, Any]]:
        weights, raw = model_arrays(self.model, self.average)
        # Paddle 2 takes loaded momenta in with the first step, and until then says it has none
        slots = optimizer_state(self.step.optimizer, self.model) if self._slots is None else self._slots
        scale = {f"amp/{name}": value for name, value in self.step.precision.arrays().items()}
        slots = {f"optim/{name}": value for name, value in slots.items()}
        return weights, {**raw, **slots, **scale, LINES: self.records.line_sums()}


def _seed(seed: int, iteration: int) -> int:
    # spreads neighbouring iterations over the whole range, so that their streams have nothing in common
    return (seed * 1_000_003 + iteration * 2_654_435_761) % 2**31


def _four_digits(score: float | None) -> str:
    return "none" if score is None else f"{score:.4f}"
