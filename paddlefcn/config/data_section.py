"""The data section: the one home of classes, palette, ignore_index and normalisation."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from paddlefcn.arguments import Component, NotEmpty, Range, construct, describe, read_section
from paddlefcn.classes import voc_palette
from paddlefcn.config.sections import Node
from paddlefcn.data.images import Normalize
from paddlefcn.data.labels import expand_label_map

_IMAGENET = {"scale": 255.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "order": "RGB"}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What the data are and how they are read.

    A key that needs no more than its type and bounds is a line here; those of `_READ_APART` have a
    function below. Every other key of the section is the data set class's own.
    """

    source: Component
    root: Path
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    normalize: Normalize
    ignore_index: Annotated[int, Range(0, 65535)] = 255
    label_map: Mapping[int, int] | None = None
    color_table: Any = None
    threshold: Annotated[int, Range(1, 65535)] | None = None
    train_transforms: tuple[Component, ...] = ()
    val_transforms: tuple[Component, ...] = ()
    num_workers: Annotated[int, Range(0, 256)] = 2
    cache: Literal["memory", "disk"] | None = None
    on_bad_image: Literal["stop", "skip"] = "stop"
    max_pixels: Annotated[int, Range(1, 2**40)] = 178_956_970
    download: bool = False

    @property
    def num_classes(self) -> int:
        """How many classes there are; `ignore_index` is none of them."""
        return len(self.classes)


_READ_APART = (
    *("source", "root", "classes", "palette", "normalize"),
    *("label_map", "train_transforms", "val_transforms"),
)
DATA_KEYS = ("type", *(field.name for field in dataclasses.fields(DataConfig) if field.name != "source"))


def read_data(node: Node) -> DataConfig:
    """The data section of a recipe.

    Raises:
        ConfigError: a key that cannot be right.
    """
    source = node.component()
    own = {key: value for key, value in source.args.items() if key not in DATA_KEYS}
    shared = {key: value for key, value in source.args.items() if key in DATA_KEYS}
    plain = read_section(DataConfig, shared, where=node.where, apart=_READ_APART)
    classes = _classes(node)
    ignore_index = plain.get("ignore_index", 255)
    if ignore_index < len(classes):
        raise node.error("ignore_index", f"{ignore_index} is the id of class {classes[ignore_index]!r}")
    return DataConfig(
        source=Component(source.type, own, source.where),
        root=_root(node),
        classes=classes,
        palette=_palette(node, len(classes)),
        normalize=_normalize(node.below("normalize")),
        label_map=_label_map(node, len(classes), ignore_index),
        train_transforms=node.components("train_transforms"),
        val_transforms=node.components("val_transforms"),
        **plain,
    )


def _classes(node: Node) -> tuple[str, ...]:
    names = node.value.get("classes")
    if names == "auto":
        raise node.error("classes", "auto is for check_data alone, which prints the list to paste here")
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


@dataclasses.dataclass(frozen=True)
class _Root:
    root: Annotated[str, NotEmpty] = "."


def _root(node: Node) -> Path:
    given = {"root": node.value["root"]} if "root" in node.value else {}
    root = Path(_Root(**read_section(_Root, given, where=node.where)).root).expanduser()
    return root if root.is_absolute() else Path(os.environ.get("PADDLEFCN_DATA") or "data") / root


def _palette(node: Node, count: int) -> tuple[tuple[int, int, int], ...]:
    colors = node.value.get("palette")
    if colors is None:
        return voc_palette(count)
    if not isinstance(colors, list) or len(colors) != count:
        raise node.error("palette", f"expected {count} colours, one a class, got {describe(colors)}")
    for color in colors:
        complete = isinstance(color, list) and len(color) == 3
        if not complete or not all(type(part) is int and 0 <= part <= 255 for part in color):
            raise node.error("palette", f"a colour is [red, green, blue] of 0 to 255, got {describe(color)}")
    return tuple((color[0], color[1], color[2]) for color in colors)


@dataclasses.dataclass(frozen=True)
class _NormalizeKeys:
    """What YAML may say; `Normalize` itself checks what belongs together."""

    scale: Annotated[float, Range(1e-30)]
    mean: list[float]
    std: list[float]
    order: Literal["RGB", "BGR"]


def _normalize(node: Node) -> Normalize:
    values = read_section(_NormalizeKeys, {**_IMAGENET, **node.value}, where=node.where)
    for key in ("mean", "std"):
        if not values[key]:
            raise node.error(key, "expected a list of numbers, one a channel, got an empty one")
    if len(values["mean"]) != len(values["std"]):
        raise node.error("std", f"{len(values['std'])} values, but mean has {len(values['mean'])}")
    if min(values["std"]) <= 0:
        raise node.error("std", f"must be above 0, got {list(values['std'])}")
    return construct(Normalize, node.where, **values)


def _label_map(node: Node, count: int, ignore_index: int) -> dict[int, int] | None:
    table = node.value.get("label_map")
    if table is None:
        return None
    if not isinstance(table, Mapping) or not table:
        raise node.error("label_map", f"expected {{value in the mask: class id}}, got {describe(table)}")
    try:
        expanded = expand_label_map(table)
    except ValueError as error:
        raise node.error("label_map", str(error).removeprefix("label_map: ")) from None
    for source, target in table.items():
        if type(source) is int and not 0 <= source <= 65535:
            raise node.error("label_map", f"a mask holds integers of 0 to 65535, got {describe(source)}")
        if type(target) is not int or not (0 <= target < count or target == ignore_index):
            wanted = f"a class id of 0 to {count - 1} or ignore_index {ignore_index}"
            raise node.error(f"label_map.{source}", f"expected {wanted}, got {describe(target)}")
    return expanded
