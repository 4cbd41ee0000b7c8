"""What a run says at its start and at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlefcn.config.stages import unused_by_stages
from paddlefcn.engine.batch_norm import statistics_apart
from paddlefcn.training.rates import check_rate

if TYPE_CHECKING:
    from paddlefcn.config import Config
    from paddlefcn.config.recipe import DistillationConfig
    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.engine.loop import Loop
    from paddlefcn.losses import LossEntry
    from paddlefcn.training.stages import Shared, Stage


def opening_lines(
    config: Config,
    stages: Sequence[Stage],
    loop: Loop,
    shared: Shared,
) -> list[str]:
    """The network, its losses and data, what each stage will do, and what is worth a warning."""
    part = stages[loop.state.stage - 1].config
    trained = [parameter for parameter in loop.model.parameters() if not parameter.stop_gradient]
    parameters = sum(int(parameter.size) for parameter in trained)
    lines = [
        f"{part.model.type}: {parameters:,} trained parameters; {len(shared.train_set)} training "
        f"and {len(shared.val_set)} validation images, {part.data.num_classes} classes",
        *[f"loss: {_weighted(entry)}" for entry in loop.step.losses.entries],
        *([f"loss: {_taught(part.distillation)}"] if part.distillation else []),
        *[f"note: {line}" for line in [*unused_by_stages(config.tree), *_step_notes(loop)]],
    ]
    for stage in stages:
        lines += _stage_lines(stage, shared.train_set)
    start, end = config.train.swa_start, stages[-1].end
    if start is not None and start > end:
        lines.append(
            f"note: train.swa_start {start} is never reached in {end} iterations: nothing is averaged"
        )
    return lines


def _step_notes(loop: Loop) -> list[str]:
    """What of the recipe this device leaves out, and what a step in parts makes differ."""
    notes = [loop.step.precision.note] if loop.step.precision.note else []
    if statistics_apart(loop.model, loop.step.ranks):
        notes.append("BatchNorm's statistics are each rank's own: paddle exchanges them on GPUs alone")
    uneven = loop.step.losses.uneven()
    if uneven and loop.step.accumulate * loop.step.ranks.size > 1:
        notes.append(
            f"{', '.join(uneven)}: the loss of a step in parts is not that of one batch of all its images"
        )
    return notes


def _weighted(entry: LossEntry) -> str:
    weights = ", ".join(f"{weight:g}" for weight in entry.weights)
    return f"{type(entry.loss).__name__}, outputs weighted {weights}"


def _taught(wanted: DistillationConfig) -> str:
    teacher = wanted.export or f"{wanted.weights} ({wanted.config})"
    weights = f"weighted {wanted.weight:g} at temperature {wanted.temperature:g}"
    features = f", features {wanted.features:g}" if wanted.features else ""
    return f"distillation from {teacher}, {weights}{features}"


def _stage_lines(stage: Stage, train_set: SegmentationDataset) -> list[str]:
    """A stage's iterations and rates, and what about them should be known before hours are spent."""
    lines: list[str] = []
    schedule = stage.schedule
    if stage.name is not None:
        lines.append(
            f"{stage}: iterations {stage.start + 1} to {stage.end}, "
            f"{stage.config.schedule.type} from {schedule.learning_rate:g}"
        )
    longer = schedule.longer_than_the_run()
    if longer:
        place = "" if stage.name is None else f"{stage}: "
        lines.append(f"note: {place}the schedule is longer than the run: {longer}")
    warning = check_rate(stage.config, schedule.learning_rate, train_set, trained=stage.number > 1)
    return [*lines, f"warning: {warning}"] if warning else lines


def hparams(config: Config, stages: Sequence[Stage]) -> dict[str, Any]:
    """What VisualDL shows of the recipe beside its scores."""
    return {
        "model": " > ".join(stage.config.model.type for stage in stages),
        "optimizer": config.optimizer.type,
        "schedule": config.schedule.type,
        "learning_rate": float(stages[-1].schedule.learning_rate),
        "batch_size": config.train.batch_size,
        "seed": config.train.seed,
    }


def closing_lines(
    folder: Path, stages: Sequence[Stage], loop: Loop, bad: Mapping[str, str], code: int
) -> list[str]:
    """What was left out, where everything is, and what to do next; `code` is the exit code."""
    state = loop.state
    lines = [f"{name}: left out ({message})" for name, message in bad.items()]
    if bad:
        lines.append(f"{len(bad)} bad image{'s' * (len(bad) > 1)} left out (data.on_bad_image: skip)")
    if state.skipped:
        lines.append(f"{state.skipped} steps left out because their loss or gradients were not finite")
    if code:
        return [
            *lines,
            f"stopped by a signal after iteration {state.iteration}; checkpoint "
            f"{loop.last_saved}; go on with --resume {folder}",
        ]
    if loop.last_scores is not None:
        lines += ["", *loop.last_scores.table().splitlines(), ""]
    best = "none" if state.best_score is None else f"{state.best_score:.4f}"
    return [
        *lines,
        f"done: best {loop.plan.best} {best} at iteration {state.best_iteration}",
        f"  best weights   {folder / 'best'}",
        f"  curves         {folder / 'curves.png'}",
        f"  previews       {folder / 'preview'}",
        f"  VisualDL       visualdl --logdir {folder / 'vdl'} --disable-telemetry",
        "next:",
        f"  python tools/val.py --weights {folder}",
        f"  python tools/predict.py --weights {folder} --input IMAGE_OR_FOLDER --output {folder}/predicted",
        f"  python tools/export.py --weights {folder} --output {folder}/exported",
        *[f"  end of {stage}: {folder / 'checkpoints' / f'iter_{stage.end}'}" for stage in stages[:-1]],
    ]
