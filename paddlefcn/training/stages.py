"""The parts that a training run is made of: one, or one for each entry of the config's `stages`."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from paddlefcn import build, runtime
from paddlefcn.arguments import construct
from paddlefcn.config.stages import MODEL_KEY, STAGE_KEY
from paddlefcn.engine.averaging import Average, StochasticAverage
from paddlefcn.engine.batch_norm import measure_statistics, synchronise
from paddlefcn.engine.checkpoint import Checkpoint, Checkpoints
from paddlefcn.engine.freezing import freeze
from paddlefcn.engine.loop import Loop, Plan
from paddlefcn.engine.precision import Precision
from paddlefcn.engine.progress import TrainingProgress
from paddlefcn.engine.ranks import ALONE, Ranks
from paddlefcn.engine.recompute import recompute_blocks
from paddlefcn.engine.records import Records
from paddlefcn.engine.step import TrainStep
from paddlefcn.engine.validation import Validation
from paddlefcn.errors import ConfigError
from paddlefcn.training.teachers import build_guide
from paddlefcn.weights import load_into, normalize_metadata

if TYPE_CHECKING:
    import numpy as np
    from paddle import nn

    from paddlefcn.config import Config
    from paddlefcn.config.recipe import TrainConfig
    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.data.loader import TrainLoader

_NAMED = 6  # tensors that a line names


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


def plan_stages(config: Config, train_set: SegmentationDataset, ranks: int = 1) -> list[Stage]:
    """The run's stages one behind the other; a config without `stages` is a run of one."""
    parts = config.stages or (config,)
    types = [part.model.type for part in parts]
    stages: list[Stage] = []
    start = 0
    for number, part in enumerate(parts, start=1):
        steps_per_epoch = (
            build.build_loader(part, train_set, world_size=ranks).batches_per_epoch // part.train.accumulate
        )
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


def try_stages(stages: Sequence[Stage]) -> nn.Layer:
    """The first stage's network, after everything made of the recipe was made once.

    Raises:
        UserError: something cannot be made; nothing was written yet.
    """
    for stage in reversed(stages):
        network = build_network(stage.config)
        build.build_losses(stage.config, network)
        build.build_optimizer(stage.config, network)
        build_guide(stage.config, network)
    return network


def build_network(config: Config, *, pretrained: bool = True) -> nn.Layer:
    """A stage's network; how it starts depends on the seed alone, and on `pretrained` weights if wanted."""
    runtime.seed_everything(config.train.seed)
    train, network = config.train, build.build_model(config, pretrained=pretrained)
    where = f"{config.file}: train"
    construct(freeze, where, model=network, names=train.freeze, batch_norm=train.freeze_batch_norm)
    if train.recompute:
        recompute_blocks(network.backbone)
    return network


def build_loop(
    stage: Stage,
    network: nn.Layer,
    train_set: SegmentationDataset,
    val_set: SegmentationDataset,
    checkpoints: Checkpoints,
    records: Records,
    progress: TrainingProgress,
    ranks: Ranks = ALONE,
) -> Loop:
    """What trains a stage."""
    config, train = stage.config, stage.config.train
    synchronise(network, ranks)
    losses = build.build_losses(config, network)
    loader = build.build_loader(config, train_set, start=stage.start, rank=ranks.rank, world_size=ranks.size)
    return Loop(
        step=TrainStep(
            network,
            losses,
            build.build_optimizer(config, network),
            accumulate=train.accumulate,
            precision=Precision(train.precision),
            guide=build_guide(config, network),
            ranks=ranks,
            keeps_statistics=train.allowed_skips > 0,
        ),
        schedule=build.build_schedule(config, total=stage.end - stage.start),
        loader=loader,
        validation=Validation(
            val_set,
            build.build_preprocess(config),
            config.classes,
            losses,
            inference=build.build_evaluation(config),
            previews=train.previews,
            num_workers=config.data.num_workers,
            skips_bad=config.data.on_bad_image == "skip",
        ),
        checkpoints=checkpoints,
        average=_average(train, network, loader, ranks),
        plan=Plan(
            start=stage.start,
            iters=stage.end,
            eval_iters=train.eval_iters,
            save_iters=train.save_iters,
            seed=train.seed,
            best=train.best,
            keep_best=stage.is_last,
            early_stop=train.early_stop,
            allowed_skips=train.allowed_skips,
        ),
        records=records,
        progress=progress,
    )


def _average(train: TrainConfig, network: nn.Layer, loader: TrainLoader, ranks: Ranks) -> Average:
    """The average of the weights that the recipe asks for."""
    if train.swa_start is None:
        return Average(network, train.ema_decay)

    def measure(model: nn.Layer) -> None:
        # the same batches whenever this is done, and of the full size
        batches = loader.batches(start=loader.growth.full_size_from)
        try:
            measure_statistics(model, itertools.islice(batches, train.swa_batches), ranks)
        finally:
            batches.close()  # type: ignore[attr-defined]

    return StochasticAverage(network, train.swa_start, train.swa_every, measure)


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
