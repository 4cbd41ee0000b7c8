"""`train`: what the command, a notebook and everything that trains on the way call."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paddle

from paddlefcn import build, runtime
from paddlefcn.data.checks import quick_look
from paddlefcn.engine.checkpoint import Checkpoints, State
from paddlefcn.engine.progress import TrainingProgress
from paddlefcn.engine.records import Records, TextLog, read_records
from paddlefcn.errors import RunError, UserError
from paddlefcn.files import write_json, write_text
from paddlefcn.plots import plot_curves
from paddlefcn.training import folder as folders
from paddlefcn.training.report import closing_lines, hparams, opening_lines
from paddlefcn.training.stages import (
    Stage,
    build_loop,
    build_network,
    check_fit,
    plan_stages,
    stage_of,
    transplant,
    try_stages,
)

if TYPE_CHECKING:
    from paddle import nn

    from paddlefcn.config import Config
    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.engine.loop import Loop


@dataclasses.dataclass(frozen=True)
class Run:
    """What a training left.

    Attributes:
        folder: the run's folder; `best/` in it holds the best weights.
        scores: the evaluation that `best/` comes from, as a line of metrics.jsonl; None before the first.
        best_iteration: when that was; 0 before the first.
        exit_code: 0 finished, 130 / 143 stopped by SIGINT / SIGTERM after a checkpoint.
    """

    folder: Path
    scores: Mapping[str, Any] | None
    best_iteration: int
    exit_code: int


def train(
    config: Config,
    resume: str | Path | bool | None = None,
    overwrite: bool = False,
    *,
    device: str | None = None,
) -> Run:
    """Trains a recipe, evaluates on schedule, keeps the best and the last.

    Args:
        config: a recipe, of `load_config`; with `stages`, one network is trained after the other.
        resume: a run's folder to go on with, to the same result as if it had not been stopped; True for
            the newest run of the recipe's `save_dir` (none there: a new one starts).
        overwrite: replace the run that stands in `save_dir`; else a new run takes the next free sibling.
        device: "cpu", "gpu" or "gpu:N"; a GPU if there is one when not given.

    Raises:
        UserError: a recipe, data, weights or a folder that cannot be used; nothing was changed.
        RunError: the run's own trouble: a loss that is not finite, a full disk, a dead worker.
    """
    settings = runtime.prepare()
    build.validate(config)
    place = runtime.select_device(device)
    train_set, remarks = _checked_split(config, "train")
    val_set, more = _checked_split(config, "val")
    stages = plan_stages(config, train_set)
    existing = folders.to_resume(config.train.save_dir, resume)
    # what cannot be built leaves no folder behind
    network = None if existing else try_stages(stages)
    claim = folders.claim(config.train.save_dir, existing, overwrite)
    notes = [f"set {name}={value} (unless you set it yourself)" for name, value in settings.items()]
    with contextlib.closing(claim):
        session = _Session(config, claim.folder, stages, train_set, val_set)
        return session.run(network, place, [*notes, *remarks, *more])


def _checked_split(config: Config, split: str) -> tuple[SegmentationDataset, list[str]]:
    """The split, refused now if its masks do not fit."""
    dataset = build.build_dataset(config, split)
    notes = quick_look(dataset, config.data.classes, skip=config.data.on_bad_image == "skip")
    return dataset, [f"{split}: {line}" for line in notes]


class _Session:
    """One start of a run: from its newest checkpoint, or from nothing, to its end or to a signal."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        stages: list[Stage],
        train_set: SegmentationDataset,
        val_set: SegmentationDataset,
    ) -> None:
        self.config, self.folder, self.stages = config, folder, stages
        self.train_set, self.val_set = train_set, val_set
        self.state, self.stage = State(), stages[0]
        self._bad: dict[str, str] = {}  # every image that was left out

    def run(self, network: nn.Layer | None, device: str, notes: list[str]) -> Run:
        """Trains; `network` is the first stage's, of a run that starts here."""
        checkpoint = None
        if network is None:
            checkpoint, found = Checkpoints(self.folder, keep=1, metadata={}).newest()
            notes = [*notes, *found]
        if checkpoint is not None:
            self.state, self.stage = checkpoint.state, stage_of(checkpoint, self.stages)
            if self._is_finished():
                return self._finished()
            notes.append(f"going on from {checkpoint.folder}")
        elif network is None:
            notes.append(f"{self.folder} has no checkpoint yet; starting from the beginning")
        network = network or build_network(self.stage.config)
        if checkpoint is not None:
            check_fit(network, checkpoint, self.config.file)
        # config.yml first: it makes this folder a run that can be resumed
        write_text(self.folder / "config.yml", self.config.to_yaml())
        write_json(self.folder / "environment.json", runtime.environment(device))
        with self._recorded() as (records, progress):
            loop = self._loop(network, records, progress)
            if checkpoint is not None:
                loop.restore(checkpoint)
            opening = opening_lines(self.config, self.stages, loop, self.train_set, self.val_set)
            start = f"paddlefcn on paddle {paddle.__version__}, {device} ({runtime.processor_details()})"
            for line in [f"{start}; run folder {self.folder}", *opening, *notes]:
                progress.say(line)
            for line in loop.loader.prepare():
                progress.say(line)
            records.write_texts({"config": self.config.to_yaml()}, hparams(self.config, self.stages))
            return self._train(loop)

    @contextlib.contextmanager
    def _recorded(self) -> Iterator[tuple[Records, TrainingProgress]]:
        """The run's records, log and progress; what stops the run is the log's last line."""
        log_iters = self.config.train.log_iters
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(contextlib.closing(TextLog(self.folder / "train.log")))
            evaluated = self.state.evaluated == self.state.iteration
            records = Records(
                self.folder, upto=self.state.iteration, evaluated=evaluated, log_iters=log_iters
            )
            stack.enter_context(contextlib.closing(records))
            total = self.stages[-1].end
            progress = TrainingProgress(done=self.state.iteration, total=total, log_iters=log_iters, log=log)
            stack.enter_context(contextlib.closing(progress))
            try:
                yield records, progress
            except (UserError, RunError) as error:
                log.last_words(f"stopped: {error}")
                if not any((self.folder / "checkpoints").glob("iter_*")):
                    raise
                raise type(error)(f"{error}; once mended, go on with --resume {self.folder}") from error
            except BaseException as error:
                log.last_words(f"stopped: {error!r}")
                raise

    def _loop(self, network: nn.Layer, records: Records, progress: TrainingProgress) -> Loop:
        """What trains the present stage; checkpoints that end a stage stay for good."""
        train = self.stage.config.train
        progress.images, records.stage = train.batch_size * train.accumulate, self.stage.name
        always = [stage.end for stage in self.stages[:-1]]
        checkpoints = Checkpoints(self.folder, train.keep, self.stage.metadata(), always)
        return build_loop(self.stage, network, self.train_set, self.val_set, checkpoints, records, progress)

    def _train(self, loop: Loop) -> Run:
        """Stage after stage, to the end or to a signal."""
        while True:
            code = loop.run()
            self.state = loop.state
            self._bad |= {**loop.loader.bad, **loop.validation.bad}
            if code or self.stage.is_last:
                break
            loop = self._next_stage(loop)
        records = loop.records
        plot_curves(records.metrics, self.folder / "curves.png", records.class_scores)
        for line in closing_lines(self.folder, self.stages, loop, self._bad, code):
            loop.progress.say(line)
        return self._result(records.metrics, code)

    def _next_stage(self, loop: Loop) -> Loop:
        """Puts the next stage's network in the place of the one that ended, started from its weights."""
        weights, saved, skipped = loop.weights(), loop.last_saved, loop.state.skipped
        records, progress = loop.records, loop.progress
        del loop  # two networks with their momenta may be more than fits
        self.stage = self.stages[self.stage.number]
        network = build_network(self.stage.config)
        progress.say(transplant(network, weights, self.stage))
        following = self._loop(network, records, progress)
        following.last_saved = saved
        # the score to beat is this network's own: its best weights go to best/, not the stage's before
        start = self.stage.start
        following.state = State(iteration=start, evaluated=start, skipped=skipped, stage=self.stage.number)
        return following

    def _is_finished(self) -> bool:
        return self.stage.is_last and min(self.state.iteration, self.state.evaluated) >= self.stages[-1].end

    def _finished(self) -> Run:
        """Of a run that has nothing left to do but, after a kill, its curves."""
        curves, metrics = self.folder / "curves.png", self.folder / "metrics.jsonl"
        records = read_records(metrics)
        if not curves.exists() or curves.stat().st_mtime_ns < metrics.stat().st_mtime_ns:
            plot_curves(records, curves, read_records(self.folder / "class_scores.jsonl"))
        done, total = self.state.iteration, self.stages[-1].end
        print(f"{self.folder} is finished ({done} of {total} iterations)", flush=True)
        return self._result(records, 0)

    def _result(self, metrics: Sequence[Mapping[str, Any]], code: int) -> Run:
        best = self.state.best_iteration
        lines = (line for line in metrics if line["iter"] == best and "mean_iou" in line)
        return Run(self.folder, next(lines, None), best, code)
