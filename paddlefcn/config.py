"""YAML -> frozen, validated dataclasses. Imports no paddle and knows no component.

Every error names the file, the key's path, what was found and what would be right.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from paddlefcn.classes import Classes, voc_palette
from paddlefcn.data.images import Normalize
from paddlefcn.errors import ConfigError
from paddlefcn.stages import stage_trees
from paddlefcn.yaml_files import apply_options, describe, load_yaml, nearest

_IMAGENET = {"scale": 255.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "order": "RGB"}


@dataclasses.dataclass(frozen=True)
class Component:
    """A `type` with its arguments, and where it stands; build.py makes the object of it."""

    type: str
    args: Mapping[str, Any]
    where: str

    def to_dict(self) -> dict[str, Any]:
        return {"type": self.type, **self.args}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The data section: the one home of classes, palette, ignore_index and normalisation."""

    source: Component
    root: Path
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    normalize: Normalize
    ignore_index: int = 255
    label_map: Mapping[int, int] | None = None
    color_table: Any = None
    train_transforms: tuple[Component, ...] = ()
    val_transforms: tuple[Component, ...] = ()
    num_workers: int = 2
    on_bad_image: str = "stop"
    max_pixels: int = 178_956_970
    download: bool = False

    @property
    def num_classes(self) -> int:
        return len(self.classes)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The train section. `iters` or `epochs` is set; durations are optimisation steps."""

    iters: int | None = None
    epochs: int | None = None
    batch_size: int = 8
    accumulate: int = 1
    eval_iters: int = 1000
    save_iters: int = 1000
    log_iters: int = 20
    save_dir: Path = Path("output/run")
    keep: int = 3
    seed: int = 0
    best: str = "mean_iou"
    on_nan: str = "stop"
    ema_decay: float | None = None
    previews: int = 4


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
    stages: tuple[Config, ...] = ()

    @property
    def classes(self) -> Classes:
        """Names, colours and the ignored id, as one."""
        return Classes(self.data.classes, self.data.palette, self.data.ignore_index)

    def to_yaml(self) -> str:
        """The resolved recipe; loading it again gives an equal config."""
        return yaml.safe_dump(_plain(self.tree), sort_keys=False, allow_unicode=True)


def load_config(path: str | Path, options: Sequence[str] = ()) -> Config:
    """Reads a recipe with its `_base_` files and `key.path=value` options.

    Raises:
        ConfigError: anything in it that cannot be right, before any data or device is touched.
    """
    file = Path(path)
    if not file.exists() and not file.is_absolute():
        file = _shipped(file)
    tree = apply_options(load_yaml(file), options)
    return parse_config(tree, str(file))


def parse_config(tree: Mapping[str, Any], file: str) -> Config:
    """A config from its tree; `file` is what the errors name."""
    root = _Node(tree, file, "")
    sections = ("data", "model", "loss", "optimizer", "schedule", "train")
    root.allow((*sections, "stages"))
    missing = [name for name in sections if name not in tree and name != "train"]
    if missing:
        raise ConfigError(f"{file}: section {missing[0]!r} is missing")
    stages = tuple(_parse_sections(stage.tree, file, stage.places) for stage in stage_trees(tree, file))
    if not stages:
        return _parse_sections(tree, file, {})
    return dataclasses.replace(stages[-1], tree=tree, stages=stages)


def _parse_sections(tree: Mapping[str, Any], file: str, places: Mapping[str, str]) -> Config:
    """A config without stages; `places` says where sections stand if not under their own names."""

    def section(key: str) -> _Node:
        return _Node(tree.get(key), file, places.get(key, key))

    return Config(
        file=file,
        data=_data(section("data")),
        model=section("model").component(),
        loss=_Node(tree, file, "").components("loss"),
        optimizer=section("optimizer").component(),
        schedule=section("schedule").component(),
        train=_train(section("train"), file),
        tree=tree,
    )


def _shipped(file: Path) -> Path:
    """`configs/NAME.yml` of the package, where the working folder has no such file."""
    relative = file.relative_to("configs") if file.parts[:1] == ("configs",) else file
    package = Path(__file__).parent
    places = (package / "configs", package.parent / "configs")  # of a wheel, of a checkout
    return next((place / relative for place in places if (place / relative).is_file()), file)


class _Node:
    """A mapping of the config with its place, and checked access to its values."""

    def __init__(self, value: Any, file: str, path: str) -> None:
        self.file, self.path = file, path
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise self.error("", f"expected a mapping, got {describe(value)}")
        for key in value:
            if not isinstance(key, str):
                raise self.error("", f"key {key!r} is {describe(key)}; keys are names")
        self.value = value

    def error(self, key: str, message: str) -> ConfigError:
        place = ".".join(part for part in (self.path, key) if part)
        return ConfigError(f"{self.file}: {place + ': ' if place else ''}{message}")

    def allow(self, names: Iterable[str]) -> None:
        for key in self.value:
            if key not in names:
                raise self.error("", f"unknown key {key!r}{nearest(key, names)}")

    def section(self, key: str) -> _Node:
        return _Node(self.value.get(key), self.file, f"{self.path}.{key}" if self.path else key)

    def component(self) -> Component:
        kind = self.value.get("type")
        if not isinstance(kind, str):
            raise self.error("type", f"expected a class's name, got {describe(kind)}")
        args = {key: value for key, value in self.value.items() if key != "type"}
        return Component(kind, args, f"{self.file}: {self.path}")

    def components(self, key: str) -> tuple[Component, ...]:
        items = self.value.get(key)
        if isinstance(items, Mapping):
            items = [items]
        if items is None:
            items = []
        if not isinstance(items, list):
            raise self.error(key, f"expected a list of {{type: …}}, got {describe(items)}")
        place = f"{self.path}.{key}" if self.path else key
        return tuple(_Node(x, self.file, f"{place}.{i}").component() for i, x in enumerate(items))

    def integer(self, key: str, default: Any, low: int, high: int = 2**31) -> Any:
        value = self.value.get(key, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"expected an integer, got {describe(value)}")
        if not low <= value <= high:
            raise self.error(key, f"expected {low} to {high}, got {value}")
        return value

    def number(self, key: str, default: Any, low: float, high: float = math.inf) -> Any:
        value = self.value.get(key, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.error(key, f"expected a number, got {describe(value)}")
        if not low <= value <= high:
            raise self.error(key, f"expected {low} to {high}, got {value}")
        return float(value)

    def text(self, key: str, default: str, choices: Sequence[str] = ()) -> str:
        value = self.value.get(key, default)
        if not isinstance(value, str) or not value:
            raise self.error(key, f"expected text, got {describe(value)}")
        if choices and value not in choices:
            raise self.error(key, f"{value!r} is none of {', '.join(choices)}{nearest(value, choices)}")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        value = self.value.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"expected true or false, got {describe(value)}")
        return value


DATA_KEYS = (
    "type",
    "root",
    "classes",
    "palette",
    "ignore_index",
    "label_map",
    "color_table",
    "normalize",
    "train_transforms",
    "val_transforms",
    "num_workers",
    "on_bad_image",
    "max_pixels",
    "download",
)


def _data(node: _Node) -> DataConfig:
    source = node.component()
    own = {key: value for key, value in source.args.items() if key not in DATA_KEYS}
    classes = _classes(node)
    ignore_index = node.integer("ignore_index", 255, 0, 65535)
    if ignore_index < len(classes):
        raise node.error("ignore_index", f"{ignore_index} is the id of class {classes[ignore_index]!r}")
    return DataConfig(
        source=Component(source.type, own, source.where),
        root=_root(node),
        classes=classes,
        palette=_palette(node, len(classes)),
        normalize=_normalize(node.section("normalize")),
        ignore_index=ignore_index,
        label_map=_label_map(node, len(classes), ignore_index),
        color_table=node.value.get("color_table"),
        train_transforms=node.components("train_transforms"),
        val_transforms=node.components("val_transforms"),
        num_workers=node.integer("num_workers", 2, 0, 256),
        on_bad_image=node.text("on_bad_image", "stop", ("stop", "skip")),
        max_pixels=node.integer("max_pixels", 178_956_970, 1, 2**40),
        download=node.boolean("download", False),
    )


def _classes(node: _Node) -> tuple[str, ...]:
    names = node.value.get("classes")
    if not isinstance(names, list) or len(names) < 2:
        raise node.error("classes", f"expected a list of two or more class names, got {describe(names)}")
    for name in names:
        if not isinstance(name, str) or not name:
            hint = (
                " (YAML reads yes, no, on and off as true/false: quote it)" if isinstance(name, bool) else ""
            )
            raise node.error("classes", f"a class name is text, got {describe(name)}{hint}")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise node.error("classes", f"{doubled[0]!r} stands twice")
    if len(names) > 65535:
        raise node.error("classes", f"{len(names)} classes; at most 65535")
    return tuple(names)


def _root(node: _Node) -> Path:
    root = Path(node.text("root", ".")).expanduser()
    return root if root.is_absolute() else Path(os.environ.get("PADDLEFCN_DATA") or "data") / root


def _palette(node: _Node, count: int) -> tuple[tuple[int, int, int], ...]:
    colors = node.value.get("palette")
    if colors is None:
        return voc_palette(count)
    if not isinstance(colors, list) or len(colors) != count:
        raise node.error("palette", f"expected {count} colours, one a class, got {describe(colors)}")
    for color in colors:
        fits = isinstance(color, list) and len(color) == 3
        if not fits or not all(type(part) is int and 0 <= part <= 255 for part in color):
            raise node.error("palette", f"a colour is [red, green, blue] of 0 to 255, got {describe(color)}")
    return tuple((color[0], color[1], color[2]) for color in colors)


def _normalize(node: _Node) -> Normalize:
    node.allow(("scale", "mean", "std", "order"))
    values = {**_IMAGENET, **node.value}
    for key in ("mean", "std"):
        if not isinstance(values[key], list) or not values[key]:
            raise node.error(key, f"expected a list of numbers, one a channel, got {describe(values[key])}")
        for number in values[key]:
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
                raise node.error(key, f"expected numbers, got {describe(number)}")
    if len(values["mean"]) != len(values["std"]):
        raise node.error("std", f"{len(values['std'])} values, but mean has {len(values['mean'])}")
    if min(values["std"]) <= 0:
        raise node.error("std", f"must be above 0, got {values['std']}")
    scale = _Node(values, node.file, node.path).number("scale", 255.0, 1e-30)
    order = _Node(values, node.file, node.path).text("order", "RGB", ("RGB", "BGR"))
    mean, std = (tuple(float(x) for x in values[key]) for key in ("mean", "std"))
    return Normalize(scale=scale, mean=mean, std=std, order=order)


def _label_map(node: _Node, count: int, ignore_index: int) -> dict[int, int] | None:
    table = node.value.get("label_map")
    if table is None:
        return None
    if not isinstance(table, Mapping) or not table:
        raise node.error("label_map", f"expected {{value in the mask: class id}}, got {describe(table)}")
    for source, target in table.items():
        if type(source) is not int or not 0 <= source <= 65535:
            raise node.error("label_map", f"a mask holds integers of 0 to 65535, got {describe(source)}")
        if type(target) is not int or not (0 <= target < count or target == ignore_index):
            wanted = f"a class id of 0 to {count - 1} or ignore_index {ignore_index}"
            raise node.error(f"label_map.{source}", f"expected {wanted}, got {describe(target)}")
    return dict(table)


def _train(node: _Node, file: str) -> TrainConfig:
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    node.allow(names)
    given = TrainConfig(
        iters=node.integer("iters", None, 1),
        epochs=node.integer("epochs", None, 1),
        batch_size=node.integer("batch_size", 8, 1, 65536),
        accumulate=node.integer("accumulate", 1, 1, 65536),
        eval_iters=node.integer("eval_iters", 1000, 1),
        save_iters=node.integer("save_iters", 1000, 1),
        log_iters=node.integer("log_iters", 20, 1),
        save_dir=Path(node.text("save_dir", f"output/{Path(file).stem}")).expanduser(),
        keep=node.integer("keep", 3, 1, 10**6),
        seed=node.integer("seed", 0, 0),
        best=node.text(
            "best",
            "mean_iou",
            ("mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "mean_dice"),
        ),
        on_nan=_on_nan(node),
        ema_decay=node.number("ema_decay", None, 0.0, 0.999999),
        previews=node.integer("previews", 4, 0, 64),
    )
    if given.iters and given.epochs:
        raise node.error("", "iters and epochs are both given; keep one")
    if not given.iters and not given.epochs:
        raise node.error("iters", "missing: how many iterations to train (or epochs)")
    return given


def _on_nan(node: _Node) -> str:
    value = node.text("on_nan", "stop")
    words = value.split()
    if value == "stop" or (len(words) == 2 and words[0] == "skip" and words[1].isdigit() and int(words[1])):
        return value
    raise node.error("on_nan", f"expected stop, or skip N with N of 1 or more, got {describe(value)}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
