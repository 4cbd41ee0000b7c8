"""`train`: what the command, a notebook and everything that trains on the way call."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paddle

from paddlefcn import build, ownership, runtime
from paddlefcn.class_weights import find_counts, write_counts
from paddlefcn.data.checks import quick_look
from paddlefcn.engine.checkpoint import Checkpoints, State
from paddlefcn.engine.interrupt import Interrupts
from paddlefcn.engine.progress import TrainingProgress
from paddlefcn.engine.ranks import Ranks, join_ranks, stopping_together
from paddlefcn.engine.records import Nothing, Records, TextLog, check_lines, read_records
from paddlefcn.errors import RunError, UserError
from paddlefcn.files import write_json, write_text
from paddlefcn.plots import plot_curves
from paddlefcn.training import folder as folders
from paddlefcn.training.acceleration import RECORD, choose_accelerator
from paddlefcn.training.report import closing_lines, hparams, opening_lines
from paddlefcn.training.resume import find_run, keep_split, write_split
from paddlefcn.training.stages import (
    Shared,
    Stage,
    build_loop,
    build_network,
    check_fit,
    plan_stages,
    stage_of,
    start_first,
    transplant,
)
from paddlefcn.training.teachers import Teachers

if TYPE_CHECKING:
    from paddle import nn

    from paddlefcn.config import Config
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
    ranks = join_ranks()
    with stopping_together(ranks):
        return _trained(config, resume, overwrite, place, settings, ranks)


def _trained(
    config: Config,
    resume: str | Path | bool | None,
    overwrite: bool,
    place: str,
    settings: Mapping[str, str],
    ranks: Ranks,
) -> Run:
    """`train` on a device that is selected; of several ranks the first decides on the folder."""
    data, train = config.data, config.train
    existing = ranks.from_first(find_run(config, resume) if ranks.is_first else None)
    train_set, val_set = (build.build_dataset(config, split) for split in ("train", "val"))
    remarks = keep_split(existing, train_set, val_set) if existing else []
    for split, dataset in (("train", train_set), ("val", val_set)):
        seen = quick_look(dataset, data.classes, skip=data.on_bad_image == "skip")
        remarks += [f"{split}: {line}" for line in seen]
    counts = find_counts(config, train_set, existing)
    accelerated, words = choose_accelerator(config.runtime.cpu_accelerator, place, existing)
    stages = plan_stages(config, len(train_set), ranks.size)
    teachers = Teachers(config.file, config.classes, data.normalize)
    # what cannot be built leaves no folder behind
    network = None if existing else start_first(stages, teachers, remarks.append)
    inputs: list[str | Path] = [config.file, data.root]
    claim = folders.claim(train.save_dir, existing, overwrite, inputs) if ranks.is_first else None
    folder = ranks.from_first(claim and claim.folder)
    notes = [f"set {name}={value} (unless you set it yourself)" for name, value in settings.items()]
    if ranks.size > 1:
        notes.append(f"{ranks.size} ranks, each with batches of {train.batch_size}")
    with contextlib.closing(claim) if claim else contextlib.nullcontext():
        if counts is not None and ranks.is_first:
            notes += write_counts(folder, config, counts)
        ends = [stage.end for stage in stages[:-1]]
        shared = Shared(folder, train_set, val_set, ends, counts, teachers, accelerated, ranks)
        session = _Session(config, stages, shared)
        return session.run(network, place, [*notes, *remarks, *words])


class _Session:
    """One start of a run: from its newest checkpoint, or from nothing, to its end or to a signal."""

    def __init__(self, config: Config, stages: list[Stage], shared: Shared) -> None:
        self.config, self.stages, self.shared = config, stages, shared
        self.folder, self.ranks = shared.folder, shared.ranks
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
            notes += check_lines(self.folder / "metrics.jsonl", checkpoint)
            lines = read_records(self.folder / "metrics.jsonl")
            finished = self.stage.is_finished(self.state, lines)
            self.ranks.gather(None)  # all have read the folder before the first writes there
            if finished:
                return self._finished(lines)
            notes.append(f"going on from {checkpoint.folder}")
        elif network is None:
            notes.append(f"{self.folder} has no checkpoint yet; starting from the beginning")
        # what a checkpoint replaces need not be there any more
        if network is None:
            network = build_network(self.stage.config, pretrained=checkpoint is None, say=notes.append)
        if checkpoint is not None:
            check_fit(network, checkpoint, self.config.file)
        if self.ranks.is_first:
            self._write_start(device)
        with self._recorded() as (records, progress):
            loop = build_loop(self.stage, network, self.shared, records, progress)
            if checkpoint is not None:
                loop.restore(checkpoint)
            version = f"paddlefcn on paddle {paddle.__version__}, {device} ({runtime.processor_details()})"
            progress.say(f"{version}; run folder {self.folder}")
            for line in [*opening_lines(self.config, self.stages, loop, self.shared), *notes]:
                progress.say(line)
            for line in loop.loader.prepare():
                progress.say(line)
            records.write_texts({"config": self.config.to_yaml()}, hparams(self.config, self.stages))
            # the first rank writes its last lines while the launcher goes on sending SIGTERM
            patient = Interrupts(patient=True) if self.ranks.size > 1 else contextlib.nullcontext()
            with patient, stopping_together(self.ranks):  # here too: train.log is to have the line
                return self._train(loop)

    def _write_start(self, device: str) -> None:
        """What makes the folder a run: its mark, split, recipe (with it, it can be resumed), environment."""
        ownership.mark(self.folder, "run")
        write_split(self.folder, self.shared.train_set, self.shared.val_set)
        write_text(self.folder / "config.yml", self.config.to_yaml())
        environment = {**runtime.environment(device), RECORD: self.shared.accelerated}
        write_json(self.folder / "environment.json", environment)

    @contextlib.contextmanager
    def _recorded(self) -> Iterator[tuple[Records, TrainingProgress]]:
        """The run's records, log and progress; what stops the run is the log's last line."""
        log_iters = self.config.train.log_iters
        with contextlib.ExitStack() as stack:
            first = self.ranks.is_first
            log: Any = TextLog(self.folder / "train.log") if first else Nothing()
            stack.enter_context(contextlib.closing(log))
            evaluated = self.state.evaluated == self.state.iteration
            records = Records(
                self.folder,
                upto=self.state.iteration,
                evaluated=evaluated,
                log_iters=log_iters,
                writes=first,
            )
            self.ranks.gather(None)  # all have read the records before the first adds to them
            stack.enter_context(contextlib.closing(records))
            total = self.stages[-1].end
            progress = TrainingProgress(
                done=self.state.iteration, total=total, log_iters=log_iters, log=log, silent=not first
            )
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
        if self.ranks.is_first:
            plot_curves(records.metrics, self.folder / "curves.png", records.class_scores)
        for line in closing_lines(self.folder, self.stages, loop, self._bad, code):
            loop.progress.say(line)
        self.ranks.gather(None)  # the launcher ends all ranks when the first leaves with a signal's code
        return self._result(records.metrics, code)

    def _next_stage(self, loop: Loop) -> Loop:
        """Puts the next stage's network in the place of the one that ended, started from its weights."""
        weights, saved, skipped = loop.weights(), loop.last_saved, loop.state.skipped
        records, progress = loop.records, loop.progress
        self.stage = stage = self.stages[self.stage.number]
        network = build_network(stage.config, say=progress.say)
        progress.say(transplant(network, weights, stage))
        following = build_loop(stage, network, self.shared, records, progress)
        following.last_saved = saved
        # the score to beat is this network's own: its best weights go to best/, not the stage's before
        following.state = State(
            iteration=stage.start,
            evaluated=stage.start,
            skipped=skipped,
            stage=stage.number,
            step_images=stage.step_images,
        )
        return following

    def _finished(self, records: Sequence[Mapping[str, Any]]) -> Run:
        """Of a run that has nothing left to do but, after a kill, its curves."""
        curves, metrics = self.folder / "curves.png", self.folder / "metrics.jsonl"
        stale = not curves.exists() or curves.stat().st_mtime_ns < metrics.stat().st_mtime_ns
        if stale and self.ranks.is_first:
            plot_curves(records, curves, read_records(self.folder / "class_scores.jsonl"))
        done, total = self.state.iteration, self.stages[-1].end
        if self.ranks.is_first:
            print(f"{self.folder} is finished ({done} of {total} iterations)", flush=True)
        return self._result(records, 0)

    def _result(self, metrics: Sequence[Mapping[str, Any]], code: int) -> Run:
        best = self.state.best_iteration
        lines = (line for line in metrics if line["iter"] == best and "mean_iou" in line)
        return Run(self.folder, next(lines, None), best, code)
