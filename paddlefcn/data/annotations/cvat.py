"""CVAT's exports: "CVAT for images" (XML) and "Segmentation mask" (PNG in colours with labelmap.txt)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from paddlefcn.data.annotations.regions import (
    Annotation,
    Region,
    decode_runs,
    outline,
    polygon_area,
    stamp,
)
from paddlefcn.data.annotations.source import BACKGROUND, Annotations
from paddlefcn.data.annotations.trees import load_xml, read_text
from paddlefcn.data.datasets.base import Sample
from paddlefcn.data.datasets.voc import VOC
from paddlefcn.data.images import read_mask
from paddlefcn.data.labels import LabelReader
from paddlefcn.errors import DataError


class CVAT(Annotations):
    """The export "CVAT for images 1.1": `train` and `val` are XML files, image names are below `images`.

    Polygons (by COCO's rule), boxes, ellipses and masks are drawn by their z order, then in the order of
    the file; points and lines draw nothing. Classes are the task's labels, in their order.
    """

    default_train = "annotations.xml"

    def _load(self, place: str | Sequence[str] | None) -> None:
        self._labels: dict[str, None] = getattr(self, "_labels", {})
        for name in [place] if isinstance(place, str) else list(place or ()):
            file = self.root / name
            tree = load_xml(file)
            if tree.tag != "annotations":
                raise DataError(f"{file}: expected <annotations> of CVAT for images, got <{tree.tag[:40]}>")
            self._labels.update(dict.fromkeys(n.text or "" for n in tree.iterfind(".//labels/label/name")))
            for image in tree.iterfind("image"):
                title = _attribute(image, "name", file)
                self._add(title, self.images / title, file, image)

    def annotation(self, sample: Sample, max_pixels: int) -> Annotation:
        assert sample.label is not None
        image = self._entries[sample.name]
        assert isinstance(image, Element)
        where = f"{sample.label}: {sample.name}"
        height, width = (int(_number(image, key, where, 1, 1 << 20)) for key in ("height", "width"))
        if height * width > max_pixels:
            raise DataError(f"{where}: {height}x{width} are more than data.max_pixels {max_pixels}")
        drawn = []
        for shape in image:
            region = _region(shape, where)
            if region is not None:
                drawn.append((_number(shape, "z_order", where, default=0), region))
        drawn.sort(key=lambda pair: pair[0])  # stable: the file's order within a layer
        return Annotation(where, height, width, [region for _, region in drawn])

    def labels(self) -> Iterable[str]:
        if self._labels:
            return list(self._labels)
        shapes = (shape for image in self._entries.values() for shape in image)  # type: ignore[attr-defined]
        return sorted({shape.get("label", "") for shape in shapes if shape.get("label")})


def _attribute(node: Element, key: str, where: object) -> str:
    value = node.get(key)
    if not value or "\0" in value:
        raise DataError(f"{where}: <{node.tag[:40]}> has no {key!r}")
    return value


def _number(
    node: Element, key: str, where: str, low: float = -1e9, high: float = 1e9, default: float | None = None
) -> float:
    text = node.get(key)
    if text is None and default is not None:
        return default
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise DataError(f"{where}: <{node.tag[:40]}> {key}: expected a number, got {str(text)[:40]!r}")
    return number


def _region(shape: Element, where: str) -> Region | None:
    if shape.tag == "polygon":
        points = _points(_attribute(shape, "points", where), where)
    elif shape.tag == "box":
        left, top, right, bottom = (_number(shape, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
        points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    elif shape.tag == "ellipse":
        x, y, rx, ry = (_number(shape, key, where) for key in ("cx", "cy", "rx", "ry"))
        turn = np.linspace(0, 2 * np.pi, 360, endpoint=False)
        points = np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], 1)
    elif shape.tag == "mask":
        return _mask(shape, where)
    else:
        return None
    label = _attribute(shape, "label", where)
    return Region(label, outline([[points]]), polygon_area(points), outlines=[points])


def _points(text: str, where: str) -> np.ndarray:
    try:
        points = np.array([[float(n) for n in pair.split(",")] for pair in text.split(";")], np.float64)
    except ValueError:
        points = np.zeros((0, 0))
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        raise DataError(f"{where}: points {text[:40]!r}: expected 'x,y;x,y;…' of three or more points")
    return points


def _mask(shape: Element, where: str) -> Region:
    """Run lengths along the rows of a box, zeros first."""
    size = [int(_number(shape, key, where, 0, 1 << 20)) for key in ("height", "width", "top", "left")]
    height, width, top, left = size
    try:
        runs = [int(run) for run in _attribute(shape, "rle", where).split(",")]
        mask = decode_runs(runs, width, height).T
    except DataError as error:
        raise DataError(f"{where}: <mask> {error}") from None
    except ValueError:
        raise DataError(f"{where}: <mask> rle: expected counts separated by commas") from None
    return Region(_attribute(shape, "label", where), stamp(mask, top, left), float(mask.sum()))


class CVATMasks(VOC):
    """The export "Segmentation mask 1.1": the layout of VOC, masks in the colours of `labelmap.txt`.

    Args:
        classes: filled in from the recipe; None: those of `labelmap.txt`, background first.
        ignore_index: filled in from the recipe.
        rename: name in labelmap.txt -> class.
        ignore: names that are neither learned nor scored.
        train, val, test: as in `VOC`.

    Raises:
        DataError: no labelmap.txt, or one that names a class that the recipe does not have.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        classes: Sequence[str] | None = None,
        ignore_index: int = 255,
        rename: Mapping[str, str] | None = None,
        ignore: Sequence[str] = (),
        train: str | Sequence[str] = "train",
        val: str | Sequence[str] = "val",
        test: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(root, split, train=train, val=val, test=test)
        self._file = self.root / "labelmap.txt"
        colors = _labelmap(self._file)
        names = {name: (rename or {}).get(name, name) for name in colors}
        others = (name for name in dict.fromkeys(names.values()) if name not in (BACKGROUND, *ignore))
        self.classes = list(classes) if classes is not None else [BACKGROUND, *others]
        self._ids: dict[int, int] = {}
        for name, (red, green, blue) in colors.items():
            if name in ignore or names[name] in ignore:
                value = ignore_index
            elif names[name] in self.classes:
                value = self.classes.index(names[name])
            else:
                raise DataError(
                    f"{self._file}: {name!r} is none of the classes {', '.join(self.classes)[:200]}; "
                    f"add it to data.classes, or set data.rename or data.ignore"
                )
            self._ids[red << 16 | green << 8 | blue] = value

    def read_mask(self, index: int, labels: LabelReader) -> np.ndarray:
        path = self.samples[index].label
        assert path is not None
        colors = read_mask(path, labels.max_pixels, colors=True).astype(np.int64)
        codes = colors[:, :, 0] << 16 | colors[:, :, 1] << 8 | colors[:, :, 2]
        values, inverse = np.unique(codes, return_inverse=True)
        strange = [int(value) for value in values if int(value) not in self._ids]
        if strange:
            shown = [strange[0] >> 16, strange[0] >> 8 & 255, strange[0] & 255]
            raise DataError(f"mask {path}: the colour {shown} is not in {self._file.name}")
        ids = np.array([self._ids[int(value)] for value in values])
        return ids[inverse.reshape(codes.shape)].astype(np.uint8 if ids.max() < 256 else np.int32)


def _labelmap(path: Path) -> dict[str, tuple[int, int, int]]:
    """Name -> colour from lines `name:red,green,blue:parts:actions`."""
    found = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        parts = rest.split(":")[0].split(",")
        if not name or len(parts) != 3 or not all(p.strip().isascii() and p.strip().isdigit() for p in parts):
            raise DataError(f"{path}:{number}: {line[:60]!r}: expected name:red,green,blue::")
        color = [int(part) for part in parts]
        if max(color) > 255:
            raise DataError(f"{path}:{number}: a colour is of 0 to 255, got {color}")
        found[name] = (color[0], color[1], color[2])
    if not found:
        raise DataError(f"{path}: names no class")
    return found
