"""The parts that a training run is made of: one, or one for each entry of the config's `stages`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlefcn.config.stages import MODEL_KEY, STAGE_KEY
from paddlefcn.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from paddle import nn

    from paddlefcn.config import Config
    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.engine.checkpoint import Checkpoint
    from paddlefcn.engine.train import Evaluate, Trainer

_SHOWN = 6  # names of tensors in a line


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a run that has its own network and optimizer: iterations `start` + 1 to `end`.

    `name` stands in the records and on the curves; None in a run without stages.
    """

    number: int
    count: int
    name: str | None
    config: Config
    start: int
    end: int

    @property
    def is_last(self) -> bool:
        return self.number == self.count

    def __str__(self) -> str:
        return f"stage {self.number} of {self.count}, {self.name}"

    def metadata(self) -> dict[str, str]:
        """What travels with the weights: how their images were normalised, and which stage they are of."""
        from paddlefcn.weights import normalize_metadata

        carried = normalize_metadata(self.config.data.normalize.to_dict())
        if self.name is None:
            return carried
        return {**carried, STAGE_KEY: str(self), MODEL_KEY: self.config.model.type}


def plan_stages(config: Config, train_set: SegmentationDataset) -> list[Stage]:
    """The run's stages one behind the other; a config without `stages` is a run of one."""
    from paddlefcn.build import build_loader

    parts = config.stages or (config,)
    types = [part.model.type for part in parts]
    stages: list[Stage] = []
    start = 0
    for number, part in enumerate(parts, start=1):
        steps_per_epoch = build_loader(part, train_set).batches_per_epoch // part.train.accumulate
        end = start + (part.train.iters or (part.train.epochs or 1) * max(1, steps_per_epoch))
        kind = part.model.type
        # told apart where a network is trained twice, say with a lower rate
        name = kind if types.count(kind) == 1 else f"{kind} ({types[:number].count(kind)})"
        stages.append(Stage(number, len(parts), name if config.stages else None, part, start, end))
        start = end
    return stages


def stage_of(checkpoint: Checkpoint, stages: Sequence[Stage]) -> Stage:
    """The stage that a checkpoint belongs to.

    Raises:
        ConfigError: the config has no such stage, or gives it other iterations than the run did.
    """
    number, iteration = checkpoint.state.stage, checkpoint.state.iteration
    mend = "resume with the run's own config.yml"
    file = stages[0].config.file
    if number > len(stages):
        raise ConfigError(
            f"{file}: stages: {checkpoint.folder} is of stage {number}, the config has {len(stages)}; {mend}"
        )
    stage = stages[number - 1]
    # the last stage alone can have been longer: then the run is finished
    if iteration < stage.start or (iteration > stage.end and not stage.is_last):
        raise ConfigError(
            f"{file}: stages: {checkpoint.folder} is of {stage}, which has iterations {stage.start + 1} to "
            f"{stage.end} by this config; {mend}"
        )
    return stage


def build_network(config: Config) -> nn.Layer:
    """A stage's network; how it starts depends on the seed alone."""
    from paddlefcn import build, runtime

    runtime.seed_everything(config.train.seed)
    return build.build_model(config)


def build_trainer(
    stage: Stage,
    model: nn.Layer,
    *,
    folder: Path,
    train_set: SegmentationDataset,
    evaluate: Evaluate,
    always: Sequence[int],
) -> Trainer:
    """What trains a stage; checkpoints of the iterations `always` stay for good."""
    from paddlefcn import build
    from paddlefcn.engine.averaging import Average
    from paddlefcn.engine.checkpoint import Checkpoints
    from paddlefcn.engine.train import Plan, Trainer

    config, train = stage.config, stage.config.train
    return Trainer(
        model=model,
        losses=build.build_losses(config, model),
        optimizer=build.build_optimizer(config, model),
        schedule=build.build_schedule(config, total=stage.end - stage.start),
        loader=build.build_loader(config, train_set),
        evaluate=evaluate,
        checkpoints=Checkpoints(folder, train.keep, stage.metadata(), always),
        average=Average(model, train.ema_decay),
        plan=Plan(
            start=stage.start,
            iters=stage.end,
            eval_iters=train.eval_iters,
            save_iters=train.save_iters,
            accumulate=train.accumulate,
            seed=train.seed,
            best=train.best,
            keep_best=stage.is_last,
            skip_nan=train.allowed_skips,
        ),
    )


def transplant(model: nn.Layer, weights: Mapping[str, np.ndarray], stage: Stage) -> str:
    """Starts a stage's network from the weights of the stage before, by name; says what became of them.

    What is new keeps its own start (score layers zero, upsampling bilinear), as in the authors'
    `net.copy_from`.

    Raises:
        WeightsError: not one tensor fits.
    """
    from paddlefcn.weights import load_into

    report = load_into(model, weights, what=f"{stage}, from the stage before", strict=False)
    parts = [f"{stage}: {len(report.loaded)} tensors from the stage before"]
    changed = [item.name for item in report.mismatched]
    for what, names in (("new", report.missing), ("of another shape", changed), ("left", report.unexpected)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            parts.append(f"{what}: {', '.join(names[:_SHOWN])}{more}")
    return "; ".join(parts)


def opening_lines(stages: Sequence[Stage], train_set: SegmentationDataset) -> list[str]:
    """What each stage will do, and what about its rates is worth saying before hours are spent."""
    from paddlefcn.build import build_schedule, check_rate

    lines: list[str] = []
    for stage in stages:
        schedule: Any = build_schedule(stage.config, total=stage.end - stage.start)
        if stage.name is not None:
            lines.append(
                f"{stage}: iterations {stage.start + 1} to {stage.end}, "
                f"{stage.config.schedule.type} from {schedule.learning_rate:g}"
            )
        longer = schedule.longer_than_the_run()
        if longer:
            place = "" if stage.name is None else f"{stage}: "
            lines.append(f"note: {place}the schedule is longer than the run: {longer}")
        warning = check_rate(stage.config, train_set, trained=stage.number > 1)
        lines += [f"warning: {warning}"] if warning else []
    return lines
