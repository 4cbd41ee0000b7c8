"""A whole recipe: its sections, and how it is read from files and options.

Every error names the file, the key's path, what was found and what would be right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from paddlefcn.arguments import (
    Component,
    NotEmpty,
    Pattern,
    Range,
    check_arguments,
    construct,
    describe,
    nearest,
)
from paddlefcn.classes import Classes
from paddlefcn.config.data_section import DataConfig, read_data
from paddlefcn.config.sections import Node
from paddlefcn.config.stages import stage_trees
from paddlefcn.data.growth import Growth, Phase
from paddlefcn.errors import ConfigError
from paddlefcn.refine.settings import CrfSettings, RefineSettings
from paddlefcn.yaml_files import apply_options, load_yaml

Steps = Annotated[int, Range(1, 2**31)]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The train section; a new key is a line here. Durations are optimisation steps.

    `save_dir` is output/ and the recipe's name unless it is given.
    """

    iters: Steps | None = None
    epochs: Steps | None = None
    batch_size: Annotated[int, Range(1, 65536)] = 8
    accumulate: Annotated[int, Range(1, 65536)] = 1
    eval_iters: Steps = 1000
    save_iters: Steps = 1000
    eval_sliding: tuple[int, ...] | None = None  # [SIZE] or [SIZE, STRIDE] of windows, for large images
    log_iters: Steps = 20
    save_dir: Annotated[Path, NotEmpty] = Path("output/run")
    keep: Annotated[int, Range(1, 10**6)] = 3
    seed: Annotated[int, Range(0, 2**31)] = 0
    best: Literal["mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "mean_dice"] = (
        "mean_iou"
    )
    on_nan: Annotated[str, Pattern("stop|skip 0*[1-9][0-9]*", "stop, or skip N with N of 1 or more")] = "stop"
    ema_decay: Annotated[float, Range(0, 0.999999)] | None = None
    swa_start: Steps | None = None
    swa_every: Steps = 1
    swa_batches: Steps = 20
    freeze: tuple[str, ...] = ()
    freeze_batch_norm: bool = False
    recompute: bool = False
    sizes: tuple[Any, ...] = ()  # of Phase
    early_stop: Steps | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    previews: Annotated[int, Range(0, 64)] = 4

    def __post_init__(self) -> None:
        if self.iters and self.epochs:
            raise ValueError("iters and epochs are both given; keep one")
        if self.ema_decay is not None and self.swa_start is not None:
            raise ValueError("ema_decay and swa_start are both given; the weights have one average")
        windows = self.eval_sliding or (1,)
        if len(windows) not in (1, 2) or min(windows) < 1 or windows[-1] > windows[0]:
            expected = "expected [SIZE] or [SIZE, STRIDE] of 1 or more, no stride larger than its window"
            raise ValueError(f"eval_sliding {list(windows)}: {expected}")

    @property
    def allowed_skips(self) -> int:
        """How many steps with a loss that is not finite may be left out (`on_nan`)."""
        return 0 if self.on_nan == "stop" else int(self.on_nan.split()[1])


@dataclasses.dataclass(frozen=True)
class RuntimeConfig:
    """The runtime section: how, not what, is computed."""

    # auto: used where it can be built; true: absent, it is an error; false: Paddle's own operators
    cpu_accelerator: bool | Literal["auto"] = "auto"


@dataclasses.dataclass(frozen=True)
class DistillationConfig:
    """The distillation section: `config` and `weights` of a teacher, or the `export` of one."""

    config: Annotated[str, NotEmpty] | None = None
    weights: Annotated[str, NotEmpty] | None = None
    export: Annotated[str, NotEmpty] | None = None
    weight: Annotated[float, Range(0)] = 1.0
    temperature: Annotated[float, Range(0.01, 1000)] = 1.0
    features: Annotated[float, Range(0)] = 0.0

    def __post_init__(self) -> None:
        network = self.config is not None and self.weights is not None
        if network == (self.export is not None) or (self.config is None) != (self.weights is None):
            raise ValueError("expected config and weights of a teacher, or its export")
        if self.export is not None and self.features:
            raise ValueError("features needs a teacher by config and weights: an export hands out no maps")


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole recipe. `tree` is what the YAML said with its bases and options, for `config.yml`.

    With `stages`, each of them is a recipe of its own, and the rest is the last stage's: its network is
    the one that the run is for.
    """

    file: str
    data: DataConfig
    model: Component
    loss: tuple[Component, ...]
    optimizer: Component
    schedule: Component
    train: TrainConfig
    tree: Mapping[str, Any]
    runtime: RuntimeConfig = RuntimeConfig()
    refine: RefineSettings = dataclasses.field(default_factory=RefineSettings)
    distillation: DistillationConfig | None = None
    stages: tuple[Config, ...] = ()

    @property
    def classes(self) -> Classes:
        """Names, colours and the ignored id, as one."""
        return Classes(self.data.classes, self.data.palette, self.data.ignore_index)

    def to_yaml(self) -> str:
        """The resolved recipe; loading it again gives an equal config."""
        return yaml.safe_dump(_plain(self.tree), sort_keys=False, allow_unicode=True)


_NEEDED = ("data", "model", "loss", "optimizer", "schedule")
_OPTIONAL = ("train", "refine", "distillation", "runtime", "stages")


def load_config(path: str | Path, options: Sequence[str] = ()) -> Config:
    """Reads a recipe with its `_base_` files and `key.path=value` options.

    Raises:
        ConfigError: anything in it that cannot be right, before any data or device is touched.
    """
    file, tree = read_tree(path, options)
    return parse_config(tree, file)


def read_tree(path: str | Path, options: Sequence[str] = ()) -> tuple[str, dict[str, Any]]:
    """The file that a recipe's name stands for, and what it says with its bases and options, unchecked."""
    file = _find(Path(path))
    return str(file), apply_options(load_yaml(file), options)


def parse_config(tree: Mapping[str, Any], file: str) -> Config:
    """A config from its tree; `file` is what the errors name."""
    root = Node(tree, file, "")
    for key in root.value:
        if key not in (*_NEEDED, *_OPTIONAL):
            raise root.error("", f"unknown key {key!r}{_section_of(key)}")
    missing = [name for name in _NEEDED if name not in tree]
    if missing:
        raise ConfigError(f"{file}: section {missing[0]!r} is missing")
    stages = tuple(_parse_sections(stage.tree, file, stage.places) for stage in stage_trees(tree, file))
    if not stages:
        return _parse_sections(tree, file, {})
    return dataclasses.replace(stages[-1], tree=tree, stages=stages)


def _section_of(key: str) -> str:
    """For a key at the top that belongs into a section: which; else the nearest section."""
    homes = [("train", TrainConfig), ("data", DataConfig), ("runtime", RuntimeConfig)]
    found = [name for name, section in homes if key in (field.name for field in dataclasses.fields(section))]
    if found:
        return f"; did you mean {found[0]}.{key}?"
    return nearest(key, (*_NEEDED, *_OPTIONAL))


def _parse_sections(tree: Mapping[str, Any], file: str, places: Mapping[str, str]) -> Config:
    """A config without stages; `places` says where sections stand if not under their own names."""

    def section(key: str) -> Node:
        return Node(tree.get(key), file, places.get(key, key))

    loss = Node(tree, file, "").components("loss")
    if not loss:
        raise ConfigError(f"{file}: loss: expected a list of {{type: …}}, such as CrossEntropy")

    return Config(
        file=file,
        data=read_data(section("data")),
        model=section("model").component(),
        loss=loss,
        optimizer=section("optimizer").component(),
        schedule=section("schedule").component(),
        train=_train(section("train")),
        runtime=section("runtime").section(RuntimeConfig),
        tree=tree,
        refine=_refine(section("refine")),
        distillation=_distillation(section("distillation")),
    )


def _distillation(node: Node) -> DistillationConfig | None:
    return node.section(DistillationConfig) if node.value else None


def _train(node: Node) -> TrainConfig:
    train = node.section(TrainConfig)
    if not train.iters and not train.epochs:
        raise node.error("iters", "missing: how many iterations to train (or epochs)")
    train = dataclasses.replace(train, sizes=_phases(node, train))
    if "save_dir" not in node.value:
        train = dataclasses.replace(train, save_dir=Path(f"output/{Path(node.file).stem}"))
    return train


def _phases(node: Node, train: TrainConfig) -> tuple[Phase, ...]:
    phases = []
    for number, values in enumerate(train.sizes):
        if not isinstance(values, Mapping):
            raise node.error(f"sizes.{number}", f"expected {{until: …, scale: …}}, got {describe(values)}")
        where = f"{node.where}.sizes.{number}"
        check_arguments(Phase, values, where=where, name="a phase")
        phases.append(construct(Phase, where, **values))
    construct(Growth, f"{node.where}.sizes", batch_size=train.batch_size, phases=tuple(phases))
    return tuple(phases)


def _refine(node: Node) -> RefineSettings:
    plain = node.arguments(RefineSettings, apart=("crf",))
    plain.pop("crf", None)
    return RefineSettings(**plain, crf=node.below("crf").section(CrfSettings))


def _find(file: Path) -> Path:
    """The file itself, else the shipped recipe of this name: `quickstart`, `configs/quickstart.yml`.

    Raises:
        ConfigError: a name that is neither, with the shipped ones.
    """
    if file.exists() or file.is_absolute():
        return file
    relative = file.relative_to("configs") if file.parts[:1] == ("configs",) else file
    package = Path(__file__).parents[1]
    places = (package / "configs", package.parent / "configs")  # of a wheel, of a checkout
    for place in places:
        for name in (relative, relative.with_name(f"{relative.name}.yml")):
            if (place / name).is_file():
                return place / name
    if len(file.parts) > 1:
        return file
    shipped = sorted({path.stem for place in places for path in place.glob("*.yml")})
    raise ConfigError(f"config {file}: no such file or shipped recipe{nearest(file.stem, shipped)}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
