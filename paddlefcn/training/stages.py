"""The parts that a training run is made of: one, or one for each entry of the config's `stages`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlefcn import build, runtime
from paddlefcn.accelerator import accelerate, computes_bfloat
from paddlefcn.config.stages import MODEL_KEY, STAGE_KEY
from paddlefcn.engine.averaging import Average, StochasticAverage
from paddlefcn.engine.batch_norm import synchronise
from paddlefcn.engine.checkpoint import Checkpoint, Checkpoints, SharedCheckpoints, State
from paddlefcn.engine.history import ends_early, is_evaluation, scores_of
from paddlefcn.engine.loop import Loop, Plan
from paddlefcn.engine.precision import Precision
from paddlefcn.engine.progress import TrainingProgress
from paddlefcn.engine.ranks import ALONE, Ranks
from paddlefcn.engine.recompute import recompute_blocks
from paddlefcn.engine.records import Records
from paddlefcn.engine.step import TrainStep
from paddlefcn.engine.validation import Validation
from paddlefcn.errors import ConfigError
from paddlefcn.training.teachers import Teachers
from paddlefcn.weights import load_into, normalize_metadata

if TYPE_CHECKING:
    import numpy as np
    from paddle import nn

    from paddlefcn.config import Config
    from paddlefcn.config.recipe import TrainConfig
    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.data.loader import TrainLoader
    from paddlefcn.losses.class_weights import ClassCounts
    from paddlefcn.optim import Schedule

_NAMED = 6  # tensors that a line names


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a run that has its own network and optimizer: iterations `start` + 1 to `end`.

    `name` stands in the records and on the curves; None in a run without stages. `step_images`: images a
    step, over all ranks.
    """

    number: int
    count: int
    name: str | None
    config: Config
    start: int
    end: int
    schedule: Schedule
    step_images: int

    @property
    def is_last(self) -> bool:
        """Whether best/ is this stage's."""
        return self.number == self.count

    def __str__(self) -> str:
        return f"stage {self.number} of {self.count}, {self.name}"

    def metadata(self) -> dict[str, str]:
        """What travels with the weights: how their images were normalised, and which stage they are of."""
        carried = normalize_metadata(self.config.data.normalize.to_dict())
        if self.name is None:
            return carried
        return {**carried, STAGE_KEY: str(self), MODEL_KEY: self.config.model.type}

    def is_finished(self, state: State, records: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a run has nothing left to do after a checkpoint of this stage; `records`: metrics.jsonl."""
        done, train = min(state.iteration, state.evaluated), self.config.train
        if not self.is_last or state.iteration > done:
            return False
        scores = scores_of([line for line in records if is_evaluation(line)], train.best, self.start)
        return done >= self.end or ends_early(scores, train.early_stop)


@dataclasses.dataclass(frozen=True)
class Shared:
    """What all stages of a run have in common.

    Attributes:
        folder: the run's.
        kept: iterations whose checkpoints stay for good: the ends of stages.
        counts: how often the classes occur, if a loss wants to know.
        accelerated: whether the accelerator computes.
    """

    folder: Path
    train_set: SegmentationDataset
    val_set: SegmentationDataset
    kept: Sequence[int]
    counts: ClassCounts | None
    teachers: Teachers
    accelerated: bool
    ranks: Ranks = ALONE


def plan_stages(config: Config, images: int, ranks: int = 1) -> list[Stage]:
    """The run's stages one behind the other; a config without `stages` is a run of one.

    `images`: how many the training split has; `ranks`: the processes that share them.
    """
    parts = config.stages or (config,)
    types = [part.model.type for part in parts]
    stages: list[Stage] = []
    start = 0
    for number, part in enumerate(parts, start=1):
        train, step_images = part.train, part.train.batch_size * part.train.accumulate * ranks
        batches = -(-images // (train.batch_size * ranks))
        iters = train.iters or (train.epochs or 1) * max(1, batches // train.accumulate)
        kind = part.model.type
        # told apart where a network is trained twice, say with a lower rate
        name = kind if types.count(kind) == 1 else f"{kind} ({types[:number].count(kind)})"
        named, schedule = name if config.stages else None, build.build_schedule(part, total=iters)
        stage = Stage(number, len(parts), named, part, start, start + iters, schedule, step_images)
        stages.append(stage)
        start = stage.end
    return stages


def stage_of(checkpoint: Checkpoint, stages: Sequence[Stage]) -> Stage:
    """The stage that a checkpoint belongs to.

    Raises:
        ConfigError: the config has no such stage, gives it other iterations than the run did, or takes
            another number of images a step.
    """
    number, state = checkpoint.state.stage, checkpoint.state
    mend = "resume with the run's own config.yml"
    file = stages[0].config.file
    if number > len(stages):
        raise ConfigError(
            f"{file}: stages: {checkpoint.folder} is of stage {number}, the config has {len(stages)}; {mend}"
        )
    stage = stages[number - 1]
    # the last stage alone can have been longer: then the run is finished
    if state.iteration < stage.start or (state.iteration > stage.end and not stage.is_last):
        raise ConfigError(
            f"{file}: stages: {checkpoint.folder} is of {stage}, which has iterations {stage.start + 1} to "
            f"{stage.end} by this config; {mend}"
        )
    if state.step_images not in (0, stage.step_images):
        train = stage.config.train
        ranks = stage.step_images // (train.batch_size * train.accumulate)
        raise ConfigError(
            f"{file}: train.batch_size {train.batch_size} x accumulate {train.accumulate} x {ranks} ranks is "
            f"{stage.step_images} images a step, but {checkpoint.folder.parents[1]} was trained with "
            f"{state.step_images}; change batch_size or the number of ranks so that the product stays"
        )
    return stage


def start_first(
    stages: Sequence[Stage], teachers: Teachers, say: Callable[[str], None] | None = None
) -> nn.Layer:
    """The first stage's network; with the teachers of all of them all that a run starts from is there.

    `say` is told what became of its pretrained weights.

    Raises:
        UserError: something cannot be loaded; nothing was written yet.
    """
    for stage in stages:
        if stage.config.distillation is not None:
            teachers.find(stage.config.distillation)
    return build_network(stages[0].config, say=say)


def build_network(
    config: Config, *, pretrained: bool = True, say: Callable[[str], None] | None = None
) -> nn.Layer:
    """A stage's network; how it starts depends on the seed alone, and on `pretrained` weights if wanted."""
    runtime.seed_everything(config.train.seed)
    network = build.build_model(config, pretrained=pretrained, say=say)
    if config.train.recompute:
        recompute_blocks(network.backbone)
    return network


def build_loop(
    stage: Stage, network: nn.Layer, shared: Shared, records: Records, progress: TrainingProgress
) -> Loop:
    """What trains a stage, from its network on."""
    config, train, ranks = stage.config, stage.config.train, shared.ranks
    made = Checkpoints if ranks.is_first else SharedCheckpoints
    checkpoints = made(shared.folder, train.keep, stage.metadata(), shared.kept)
    precision = Precision(train.precision)
    synchronise(network, ranks)
    if shared.accelerated:
        bf16 = train.precision == "bf16" and computes_bfloat()
        accelerate(network, bf16=bf16)
        if bf16:
            precision.note = "train.precision: bf16 in the convolutions, on the accelerator"
    losses = build.build_losses(config, network, shared.counts)
    step = TrainStep(
        network,
        losses,
        build.build_optimizer(config, network),
        accumulate=train.accumulate,
        precision=precision,
        guide=shared.teachers.guide(config.distillation, network),
        ranks=ranks,
    )
    loader = build.build_loader(
        config, shared.train_set, start=stage.start, rank=ranks.rank, world_size=ranks.size
    )
    validation = Validation(
        shared.val_set,
        build.build_preprocess(config),
        config.classes,
        losses,
        inference=build.build_evaluation(config),
        previews=train.previews,
        num_workers=config.data.num_workers,
        skips_bad=config.data.on_bad_image == "skip",
        ranks=ranks,
    )
    progress.images, records.stage = train.batch_size * train.accumulate, stage.name
    loop = Loop(
        step=step,
        schedule=stage.schedule,
        loader=loader,
        validation=validation,
        checkpoints=checkpoints,
        average=_average(train, network, loader, ranks),
        plan=_plan(stage),
        records=records,
        progress=progress,
    )
    loop.state.step_images = stage.step_images
    return loop


def _average(train: TrainConfig, network: nn.Layer, loader: TrainLoader, ranks: Ranks) -> Average:
    """The average of the weights that the recipe asks for."""
    if train.swa_start is None:
        return Average(network, train.ema_decay)
    # the same batches whenever this is done, and of the full size
    batches = partial(loader.batches, start=loader.growth.full_size_from)
    return StochasticAverage(network, train.swa_start, train.swa_every, batches, train.swa_batches, ranks)


def _plan(stage: Stage) -> Plan:
    train = stage.config.train
    return Plan(
        start=stage.start,
        iters=stage.end,
        eval_iters=train.eval_iters,
        save_iters=train.save_iters,
        seed=train.seed,
        best=train.best,
        keep_best=stage.is_last,
        early_stop=train.early_stop,
        allowed_skips=train.allowed_skips,
    )


def check_fit(network: nn.Layer, checkpoint: Checkpoint, file: str) -> None:
    """Whether a checkpoint is of this network.

    Raises:
        ConfigError: it is not.
    """
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in checkpoint.weights.items()}
    if found != shapes:
        odd = sorted(name for name in {**shapes, **found} if shapes.get(name) != found.get(name))[0]
        raise ConfigError(
            f"{file}: model is not the one of {checkpoint.folder} ({odd!r} is in one of them "
            "only, or of another shape); resume with the run's own config.yml"
        )


def transplant(model: nn.Layer, weights: Mapping[str, np.ndarray], stage: Stage) -> str:
    """Starts a stage's network from the weights of the stage before, by name; says what became of them.

    What is new keeps its own start (score layers zero, upsampling bilinear), as in the authors'
    `net.copy_from`.

    Raises:
        WeightsError: not one tensor fits.
    """
    report = load_into(model, weights, what=f"{stage}, from the stage before", strict=False)
    parts = [f"{stage}: {len(report.loaded)} tensors from the stage before"]
    changed = [item.name for item in report.mismatched]
    for what, names in (("new", report.missing), ("of another shape", changed), ("left", report.unexpected)):
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            parts.append(f"{what}: {', '.join(names[:_NAMED])}{more}")
    return "; ".join(parts)
