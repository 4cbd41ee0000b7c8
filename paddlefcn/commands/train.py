"""Trains a network, evaluates on schedule, keeps the best and the last.

A new run never writes into an existing run's folder: it takes the next free sibling and says so.
--resume goes on where a run stopped, to the same result as if it had not been stopped.

A config with `stages` trains one network after the other in one run: iterations count on, each network
starts from the weights that the one before ended with, and best/ is the last one's. The checkpoints that
end a stage are never removed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlefcn.commands.common import add_common, add_config, load, start
from paddlefcn.errors import ConfigError, OutputError, RunError, UserError
from paddlefcn.files import write_json

if TYPE_CHECKING:
    from paddle import nn

    from paddlefcn.commands.train_stages import Stage
    from paddlefcn.config import Config
    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.engine.checkpoint import Checkpoint
    from paddlefcn.engine.evaluate import Evaluation
    from paddlefcn.engine.run_folder import Claim
    from paddlefcn.engine.train import Trainer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="DIR",
        help="go on with this run, or with the newest run of train.save_dir",
    )
    group.add_argument("--overwrite", action="store_true", help="replace the run in train.save_dir")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 130 / 143 when stopped by a signal (after a checkpoint)."""
    from paddlefcn import runtime

    config = load(args)
    settings = runtime.prepare()
    from paddlefcn import build

    build.validate(config)
    device = start(args)
    train_set, warnings = _checked_data(config, "train")
    val_set, more = _checked_data(config, "val")
    model = _built(config)  # before the folder is claimed: what cannot be built leaves nothing behind
    claim, resumed = _claim(config, args)
    try:
        session = _Session(config, claim.folder, train_set, val_set, model)
        notes = [f"set {name}={value} (unless you set it yourself)" for name, value in settings.items()]
        return session.run(device, resumed, [*notes, *warnings, *more])
    finally:
        claim.release()


def _checked_data(config: Config, split: str) -> tuple[SegmentationDataset, list[str]]:
    """The split, refused now if its masks do not fit."""
    from paddlefcn.build import build_dataset
    from paddlefcn.data.checks import quick_look

    dataset = build_dataset(config, split)
    notes = quick_look(dataset, config.data.classes, skip=config.data.on_bad_image == "skip")
    return dataset, [f"{split}: {line}" for line in notes]


def _built(config: Config) -> nn.Layer:
    """The first network with its pretrained weights, after everything made of the config was tried once."""
    from paddlefcn import build
    from paddlefcn.commands.train_stages import build_network

    for part in reversed(config.stages or (config,)):
        model = build_network(part)
        build.build_losses(part, model)
        build.build_optimizer(part, model)
    return model


def _claim(config: Config, args: argparse.Namespace) -> tuple[Claim, bool]:
    """The run's folder, and whether a run stands there that is to go on."""
    from paddlefcn.engine.run_folder import (
        claim_existing,
        claim_new,
        claim_overwritten,
        is_free,
        newest_run,
    )

    wanted = config.train.save_dir
    if args.overwrite:
        return claim_overwritten(wanted), False
    if args.resume is None:
        claim = claim_new(wanted)
        if claim.folder != wanted:
            print(f"{wanted} holds a run already; this one writes to {claim.folder}", flush=True)
        return claim, False
    folder = Path(args.resume) if args.resume else newest_run(wanted)
    if folder is None:
        print(f"no run of {wanted} to resume; starting one", flush=True)
        return claim_new(wanted), False
    if not is_free(folder) and not (folder / "config.yml").exists():
        raise OutputError(f"--resume {folder}: no run stands there (no config.yml)")
    return claim_existing(folder), True


class _Session:
    """One start of the command: builds everything, trains, and tells where the results are."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        train_set: SegmentationDataset,
        val_set: SegmentationDataset,
        model: nn.Layer,
    ) -> None:
        from paddlefcn.commands.train_stages import plan_stages

        self.config, self.folder = config, folder
        self.train_set, self.val_set, self._model = train_set, val_set, model
        self._bad: dict[str, str] = {}
        self._stages = plan_stages(config, train_set)
        self._stage = self._stages[0]

    def run(self, device: str, resumed: bool, notes: list[str]) -> int:
        """Trains to the end, or to a signal; returns the exit code."""
        from paddlefcn.engine.progress import TrainingProgress
        from paddlefcn.engine.records import Records, TextLog

        self._trainer, found = self._restored() if resumed else (self._build(), [])
        state, total = self._trainer.state, self._stages[-1].end
        if resumed and self._stage.is_last and min(state.iteration, state.evaluated) >= total:
            self._draw_missing_curves()
            print(f"{self.folder} is finished ({state.iteration} of {total} iterations)", flush=True)
            return 0
        self._write_start(device)  # config.yml first: it makes this folder a run that can be resumed
        log = TextLog(self.folder / "train.log")
        records = Records(
            self.folder,
            upto=state.iteration,
            evaluated=state.evaluated == state.iteration,
            log_iters=self.config.train.log_iters,
        )
        progress = TrainingProgress(
            done=state.iteration, total=total, log_iters=self.config.train.log_iters, log=log
        )
        self._progress, self._records = progress, records
        try:
            for line in [*self._opening(device), *notes, *found]:
                progress.say(line)
            records.write_texts({"config": self.config.to_yaml()}, self._hparams())
            code = self._train()
            self._close(code)
            return code
        except (UserError, RunError) as error:
            log.last_words(f"stopped: {error}")
            if not any((self.folder / "checkpoints").glob("iter_*")):
                raise
            raise type(error)(f"{error}; once mended, go on with --resume {self.folder}") from error
        except BaseException as error:
            log.last_words(f"stopped: {error!r}")
            raise
        finally:
            progress.close()
            records.close()
            log.close()

    def _train(self) -> int:
        """Stage after stage, to the end or to a signal; returns the exit code."""
        while True:
            train = self._stage.config.train
            self._progress.images = train.batch_size * train.accumulate
            self._records.stage = self._stage.name
            code = self._trainer.run(self._records, self._progress)
            self._bad.update(self._trainer.loader.bad)
            if code or self._stage.is_last:
                return code
            self._begin(self._stages[self._stage.number])

    def _begin(self, stage: Stage) -> None:
        """Puts a stage's network in the place of the one before, started from its weights."""
        from paddlefcn.commands.train_stages import build_network, transplant
        from paddlefcn.engine.checkpoint import State

        weights, state, saved = self._trainer.weights(), self._trainer.state, self._trainer.last_saved
        del self._trainer, self._model  # two networks with their momenta may be more than fits
        self._stage, self._model = stage, build_network(stage.config)
        self._progress.say(transplant(self._model, weights, stage))
        self._trainer = self._build()
        self._trainer.last_saved = saved
        # the score to beat is this network's own: its best weights go to best/, not the stage's before
        self._trainer.state = State(
            iteration=stage.start, evaluated=stage.start, skipped=state.skipped, stage=stage.number
        )

    def _build(self) -> Trainer:
        from paddlefcn.commands.train_stages import build_trainer

        return build_trainer(
            self._stage,
            self._model,
            folder=self.folder,
            train_set=self.train_set,
            evaluate=self._evaluate,
            always=[stage.end for stage in self._stages[:-1]],
        )

    def _restored(self) -> tuple[Trainer, list[str]]:
        """The trainer as the newest checkpoint left it, in the stage that is of; and lines about it."""
        from paddlefcn.commands.train_stages import build_network, stage_of
        from paddlefcn.engine.checkpoint import Checkpoints

        checkpoint, notes = Checkpoints(self.folder, keep=1, metadata={}).newest()
        if checkpoint is None:
            notes.append(f"{self.folder} has no checkpoint yet; starting from the beginning")
            return self._build(), notes
        self._stage = stage_of(checkpoint, self._stages)
        if self._stage.number > 1:
            self._model = build_network(self._stage.config)
        self._check_fit(checkpoint)
        trainer = self._build()
        trainer.restore(checkpoint)
        return trainer, [*notes, f"going on from {checkpoint.folder}"]

    def _check_fit(self, checkpoint: Checkpoint) -> None:
        names = set(self._model.state_dict())
        if set(checkpoint.weights) != names:
            odd = sorted(names ^ set(checkpoint.weights))[0]
            raise ConfigError(
                f"{self.config.file}: model is not the one of {checkpoint.folder} ({odd!r} is in one of them "
                "only); resume with the run's own config.yml"
            )

    def _write_start(self, device: str) -> None:
        from paddlefcn import runtime
        from paddlefcn.files import write_text

        write_text(self.folder / "config.yml", self.config.to_yaml())
        write_json(self.folder / "environment.json", runtime.environment(device))

    def _opening(self, device: str) -> list[str]:
        import paddle

        from paddlefcn import runtime
        from paddlefcn.commands.train_stages import opening_lines
        from paddlefcn.config.stages import unused_by_stages

        config = self._stage.config
        trained = [parameter for parameter in self._model.parameters() if not parameter.stop_gradient]
        parameters = sum(int(parameter.size) for parameter in trained)
        return [
            f"paddlefcn on paddle {paddle.__version__}, {device} "
            f"({runtime.processor_details()}); run folder {self.folder}",
            f"{config.model.type}: {parameters:,} trained parameters; {len(self.train_set)} training "
            f"and {len(self.val_set)} validation images, {config.data.num_classes} classes",
            *[f"note: {line}" for line in unused_by_stages(self.config.tree)],
            *opening_lines(self._stages, self.train_set),
        ]

    def _hparams(self) -> dict[str, Any]:
        config = self.config
        return {
            "model": " > ".join(stage.config.model.type for stage in self._stages),
            "optimizer": config.optimizer.type,
            "schedule": config.schedule.type,
            "learning_rate": float(config.schedule.args["learning_rate"]),
            "batch_size": config.train.batch_size,
            "seed": config.train.seed,
        }

    def _evaluate(self, iteration: int, interrupted: Callable[[], bool]) -> Evaluation:
        """Scores the validation split, and writes previews and curves."""
        from paddlefcn.build import build_losses, build_preprocess
        from paddlefcn.engine.evaluate import evaluate
        from paddlefcn.engine.progress import Steps
        from paddlefcn.engine.train import Interrupted

        steps = Steps("eval")

        def look(done: int, total: int) -> None:
            steps(done, total)
            if interrupted():
                steps.close()
                raise Interrupted

        losses = build_losses(self._stage.config, self._model)
        shown = {}
        wanted = self._preview_indices()
        result = evaluate(
            self._model,
            self.val_set,
            preprocess=build_preprocess(self.config),
            loss=lambda logits, label: losses([logits], label),
            num_workers=self.config.data.num_workers,
            class_names=self.config.data.classes,
            progress=look,
            on_image=lambda image: shown.update({image.index: image.pred}) if image.index in wanted else None,
            bad=self._bad if self.config.data.on_bad_image == "skip" else None,
        )
        self._previews(iteration, shown)
        return result

    def _preview_indices(self) -> list[int]:
        """Images spread evenly over the validation split."""
        count = min(self.config.train.previews, len(self.val_set))
        return [round(i * (len(self.val_set) - 1) / max(1, count - 1)) for i in range(count)]

    def _previews(self, iteration: int, predictions: dict[int, Any]) -> None:
        from paddlefcn.visualize import preview

        classes = self.config.classes
        for number, (index, pred) in enumerate(sorted(predictions.items())):
            image, label = self.val_set.read(index)
            picture = preview(image, label, pred, classes)
            self._records.write_preview(number, picture, iteration)

    def _close(self, code: int) -> None:
        """Curves, and where everything is."""
        from paddlefcn.plots import plot_curves

        plot_curves(self._records.metrics, self.folder / "curves.png")
        for line in _closing(self.folder, self._trainer, self._bad, code):
            self._progress.say(line)
        if not code:
            for stage in self._stages[:-1]:
                self._progress.say(f"  end of {stage}: {self.folder / 'checkpoints' / f'iter_{stage.end}'}")

    def _draw_missing_curves(self) -> None:
        """For a run that was killed between its last checkpoint and its curves."""
        from paddlefcn.engine.records import read_records
        from paddlefcn.plots import plot_curves

        curves, metrics = self.folder / "curves.png", self.folder / "metrics.jsonl"
        if not curves.exists() or curves.stat().st_mtime_ns < metrics.stat().st_mtime_ns:
            plot_curves(read_records(metrics), curves)


def _closing(folder: Path, trainer: Trainer, bad: dict[str, str], code: int) -> list[str]:
    state = trainer.state
    lines = [f"{name}: left out ({message})" for name, message in bad.items()]
    if bad:
        lines.append(f"{len(bad)} bad image{'s' * (len(bad) > 1)} left out (data.on_bad_image: skip)")
    if state.skipped:
        lines.append(f"{state.skipped} steps left out because their loss was not finite")
    if code:
        return [
            *lines,
            f"stopped by a signal after iteration {state.iteration}; checkpoint "
            f"{trainer.last_saved}; go on with --resume {folder}",
        ]
    run = f"-c {folder / 'config.yml'} --weights {folder}"  # the recipe with the options of this run
    best = "none" if state.best_score is None else f"{state.best_score:.4f}"
    return [
        *lines,
        f"done: best {trainer.plan.best} {best} at iteration {state.best_iteration}",
        f"  best weights   {folder / 'best'}",
        f"  curves         {folder / 'curves.png'}",
        f"  previews       {folder / 'preview'}",
        f"  VisualDL       visualdl --logdir {folder / 'vdl'} --disable-telemetry",
        "next:",
        f"  python tools/val.py {run}",
        f"  python tools/predict.py {run} --input IMAGE_OR_FOLDER --output {folder}/predicted",
        f"  python tools/export.py {run} --output {folder}/exported",
    ]
