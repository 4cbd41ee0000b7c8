"""Trains a network, evaluates on schedule, keeps the best and the last.

A new run never writes into an existing run's folder: it takes the next free sibling and says so.
--resume goes on where a run stopped, to the same result as if it had not been stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlefcn.commands.common import add_common, add_config, load, start, write_json
from paddlefcn.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from paddlefcn.config import Config
    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.data.loader import TrainLoader
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
    claim, resumed = _claim(config, args)
    try:
        session = _Session(config, claim.folder, train_set, val_set, args.config)
        notes = [f"set {name}={value} (unless you set it yourself)" for name, value in settings.items()]
        return session.run(device, resumed, [*notes, *warnings, *more])
    finally:
        claim.release()


def _checked_data(config: Config, split: str) -> tuple[SegmentationDataset, list[str]]:
    """The split, refused now if its masks do not fit."""
    from paddlefcn.build import build_dataset
    from paddlefcn.data.checks import quick_look

    dataset = build_dataset(config, split)
    return dataset, [f"{split}: {line}" for line in quick_look(dataset, config.data.classes)]


def _claim(config: Config, args: argparse.Namespace) -> tuple[Claim, bool]:
    """The run's folder, and whether a run stands there that is to go on."""
    from paddlefcn.engine.run_folder import claim_existing, claim_new, claim_overwritten, newest_run

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
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "config.yml").exists():
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
        recipe: str,
    ) -> None:
        self.config, self.folder, self.recipe = config, folder, recipe
        self.train_set, self.val_set = train_set, val_set

    def run(self, device: str, resumed: bool, notes: list[str]) -> int:
        """Trains to the end, or to a signal; returns the exit code."""
        from paddlefcn.engine.progress import TrainingProgress
        from paddlefcn.engine.records import Records, TextLog

        log = TextLog(self.folder / "train.log")
        trainer, loader = self._build()
        plan = trainer.plan
        notes += self._restore(trainer) if resumed else []
        state = trainer.state
        if resumed and state.iteration >= plan.iters and state.evaluated >= plan.iters:
            print(f"{self.folder} is finished ({state.iteration} of {plan.iters} iterations)", flush=True)
            return 0
        self._write_start(device)
        records = Records(
            self.folder,
            upto=state.iteration,
            evaluated=state.evaluated == state.iteration,
            log_iters=self.config.train.log_iters,
        )
        progress = TrainingProgress(
            done=state.iteration,
            total=plan.iters,
            images=self.config.train.batch_size * plan.accumulate,
            log_iters=self.config.train.log_iters,
            log=log,
        )
        self._progress, self._records = progress, records
        try:
            for line in [*self._opening(device, trainer), *notes]:
                progress.say(line)
            records.write_texts({"config": self.config.to_yaml()}, self._hparams())
            code = trainer.run(records, progress)
            self._close(trainer, loader, code)
            return code
        except BaseException as error:
            log.last_words(f"stopped: {error!r}")
            raise
        finally:
            progress.close()
            records.close()
            log.close()

    def _build(self) -> tuple[Trainer, TrainLoader]:
        from paddlefcn import build, runtime
        from paddlefcn.engine.averaging import Average
        from paddlefcn.engine.checkpoint import Checkpoints
        from paddlefcn.engine.train import Plan, Trainer

        config, train = self.config, self.config.train
        runtime.seed_everything(train.seed)
        model = build.build_model(config)
        loader = build.build_loader(config, self.train_set)
        steps_per_epoch = max(1, loader.batches_per_epoch // train.accumulate)
        iters = train.iters or (train.epochs or 1) * steps_per_epoch
        normalize = json.dumps(config.data.normalize.to_dict())
        trainer = Trainer(
            model=model,
            losses=build.build_losses(config, model),
            optimizer=build.build_optimizer(config, model),
            schedule=build.build_schedule(config, total=iters),
            loader=loader,
            evaluate=self._evaluate,
            checkpoints=Checkpoints(self.folder, train.keep, {"paddlefcn.normalize": normalize}),
            average=Average(model, train.ema_decay),
            plan=Plan(
                iters=iters,
                eval_iters=train.eval_iters,
                save_iters=train.save_iters,
                accumulate=train.accumulate,
                seed=train.seed,
                best=train.best,
                skip_nan=0 if train.on_nan == "stop" else int(train.on_nan.split()[1]),
            ),
        )
        self._model = model
        return trainer, loader

    def _restore(self, trainer: Trainer) -> list[str]:
        checkpoint, notes = trainer.checkpoints.newest()
        if checkpoint is None:
            return [*notes, f"{self.folder} has no checkpoint yet; starting from the beginning"]
        names = set(self._model.state_dict())
        if set(checkpoint.weights) != names:
            odd = sorted(names ^ set(checkpoint.weights))[0]
            raise ConfigError(
                f"{self.config.file}: model is not the one of {checkpoint.folder} ({odd!r} is in one of them "
                "only); resume with the run's own config.yml"
            )
        trainer.restore(checkpoint)
        return [*notes, f"going on from {checkpoint.folder}"]

    def _write_start(self, device: str) -> None:
        from paddlefcn import runtime
        from paddlefcn.files import write_text

        write_text(self.folder / "config.yml", self.config.to_yaml())
        write_json(self.folder / "environment.json", runtime.environment(device))

    def _opening(self, device: str, trainer: Trainer) -> list[str]:
        import paddle

        from paddlefcn import runtime
        from paddlefcn.build import check_rate

        config, model = self.config, self._model
        trained = [parameter for parameter in model.parameters() if not parameter.stop_gradient]
        parameters = sum(int(parameter.size) for parameter in trained)
        lines = [
            f"paddlefcn on paddle {paddle.__version__}, {device} "
            f"({runtime.processor_details()}); run folder {self.folder}",
            f"{config.model.type}: {parameters:,} trained parameters; {len(self.train_set)} training "
            f"and {len(self.val_set)} validation images, {config.data.num_classes} classes",
        ]
        longer = trainer.schedule.longer_than_the_run()  # type: ignore[attr-defined]
        lines += [f"note: the schedule is longer than the run: {longer}"] if longer else []
        warning = check_rate(config, self.train_set)
        return [*lines, f"warning: {warning}"] if warning else lines

    def _hparams(self) -> dict[str, Any]:
        config = self.config
        return {
            "model": config.model.type,
            "optimizer": config.optimizer.type,
            "schedule": config.schedule.type,
            "learning_rate": float(config.schedule.args["learning_rate"]),
            "batch_size": config.train.batch_size,
            "seed": config.train.seed,
        }

    def _evaluate(self, iteration: int, interrupted: Callable[[], bool]) -> Evaluation:
        """Scores the validation split, and writes previews and curves."""
        from paddlefcn.build import build_losses, build_resize
        from paddlefcn.engine.evaluate import evaluate
        from paddlefcn.engine.progress import Steps
        from paddlefcn.engine.train import Interrupted

        steps = Steps("eval")

        def look(done: int, total: int) -> None:
            steps(done, total)
            if interrupted():
                steps.close()
                raise Interrupted

        losses = build_losses(self.config, self._model)
        shown = {}
        wanted = self._preview_indices()
        result = evaluate(
            self._model,
            self.val_set,
            normalize=self.config.data.normalize,
            resize=build_resize(self.config),
            loss=lambda logits, label: losses([logits], label),
            num_workers=self.config.data.num_workers,
            class_names=self.config.data.classes,
            progress=look,
            on_image=lambda image: shown.update({image.index: image.pred}) if image.index in wanted else None,
        )
        self._previews(iteration, shown)
        return result

    def _preview_indices(self) -> list[int]:
        """Images spread evenly over the validation split."""
        count = min(self.config.train.previews, len(self.val_set))
        return [round(i * (len(self.val_set) - 1) / max(1, count - 1)) for i in range(count)]

    def _previews(self, iteration: int, predictions: dict[int, Any]) -> None:
        from paddlefcn.visualize import preview, write_picture

        data = self.config.data
        for number, (index, pred) in enumerate(sorted(predictions.items())):
            image, label = self.val_set.read(index)
            picture = preview(image, label, pred, data.palette, data.ignore_index)
            write_picture(self.folder / "preview" / f"iter_{iteration:06}_{number}.png", picture)
            self._records.write_image(f"preview/{number}", picture, iteration)

    def _close(self, trainer: Trainer, loader: TrainLoader, code: int) -> None:
        """Curves, and where everything is."""
        from paddlefcn.plots import plot_curves

        plot_curves(self._records.metrics, self.folder / "curves.png")
        for line in _closing(self.folder, self.recipe, trainer, loader, code):
            self._progress.say(line)


def _closing(folder: Path, recipe: str, trainer: Trainer, loader: TrainLoader, code: int) -> list[str]:
    state = trainer.state
    lines = [f"{name}: left out as unreadable ({message})" for name, message in loader.bad.items()]
    if state.skipped:
        lines.append(f"{state.skipped} steps left out because their loss was not finite")
    if code:
        return [
            *lines,
            f"stopped by a signal after iteration {state.iteration}; checkpoint "
            f"{trainer.last_saved}; go on with --resume {folder}",
        ]
    run = f"-c {recipe} --weights {folder}"
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
