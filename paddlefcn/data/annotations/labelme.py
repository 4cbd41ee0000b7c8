"""What labelme saves: NAME.json with its shapes, beside the image."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from paddlefcn.data.annotations.regions import Annotation, Region, polygon_area, sketch, stamp
from paddlefcn.data.annotations.source import Annotations
from paddlefcn.data.annotations.trees import Tree, load_json
from paddlefcn.data.datasets.base import Sample
from paddlefcn.data.images import SUFFIXES, read_mask
from paddlefcn.errors import DataError

# points that a shape needs; all other kinds are polygons
_POINTS = {
    "circle": (2, 2),
    "rectangle": (2, 4),
    "line": (2, 2),
    "linestrip": (2, 1 << 20),
    "point": (1, 1),
    "oriented_rectangle": (4, 4),
}
_KINDS = (
    "polygon",
    "rectangle",
    "circle",
    "line",
    "linestrip",
    "point",
    "points",
    "mask",
    "oriented_rectangle",
)


class LabelMe(Annotations):
    """JSON files of labelme below `root`, drawn as labelme draws them: polygons, rectangles, circles,
    lines (10 pixels wide), points (5 pixels) and masks.

    `train` and `val` are folders of JSON files. The image is the one beside the
    JSON file under its name, else the one that `imagePath` says. The label
    `__ignore__` is ignored, `_background_` is the background. Classes found by `classes: auto` are in
    alphabetical order.
    """

    ignored_labels = ("__ignore__",)
    background_labels = ("_background_",)

    def _load(self, place: str | Sequence[str] | None) -> None:
        places = [place] if isinstance(place, str) else list(place or [""])
        for folder in (self.root / part for part in places):
            if not folder.is_dir():
                raise DataError(f"{folder}: no such folder")
            files = sorted(file for file in folder.rglob("*.json") if not file.name.startswith("."))
            if not files:
                raise DataError(f"{folder}: no .json file of labelme in it")
            for file in files:
                name = file.relative_to(self.root).with_suffix("").as_posix()
                self._add(name, _image(file), file, None)

    def annotation(self, sample: Sample, max_pixels: int) -> Annotation:
        assert sample.label is not None
        tree = load_json(sample.label)
        height, width = (tree[key].integer(1, 1 << 20) for key in ("imageHeight", "imageWidth"))
        regions = [_region(shape, max_pixels) for shape in tree["shapes"].items()]
        return Annotation(str(sample.label), height, width, regions)

    def labels(self) -> Iterable[str]:
        found = set()
        for sample in self.samples:
            assert sample.label is not None
            found |= {shape["label"].text() for shape in load_json(sample.label)["shapes"].items()}
        return sorted(found)


def _image(file: Path) -> Path:
    """The image of a JSON file: beside it under its name, else where `imagePath` says."""
    # these files are large, as the image may be in them too: not read where that can be spared
    beside = (file.with_suffix(suffix) for suffix in SUFFIXES)
    found = next((path for path in beside if path.exists()), None)
    return found or file.parent / load_json(file)["imagePath"].text().replace("\\", "/")


def read_points(tree: Tree, least: int = 1) -> np.ndarray:
    """[N, 2] of (x, y) from a list of pairs."""
    points = [[number.number() for number in point.items()] for point in tree.items()]
    if len(points) < least or any(len(point) != 2 for point in points):
        raise tree.error(f"expected {least} or more points [x, y], got {len(points)}")
    return np.array(points, np.float64).reshape(-1, 2)


def _region(shape: Tree, max_pixels: int) -> Region:
    kind = shape["shape_type"].text() if "shape_type" in shape else "polygon"
    if kind not in _KINDS:
        raise shape.error(f"shape_type {kind[:40]!r} is none of {', '.join(_KINDS)}")
    label = shape["label"].text()
    if kind == "mask":
        return _mask_region(shape, label, max_pixels)
    points = read_points(shape["points"])
    least, most = _POINTS.get(kind, (1 if kind == "points" else 3, 1 << 20))
    if not least <= len(points) <= most:
        raise shape.error(f"a {kind} of {len(points)} points")
    outlines = [points] if kind in ("polygon", "oriented_rectangle") else []
    return Region(label, sketch(kind, points), _area(kind, points), outlines=outlines)


def _area(kind: str, points: np.ndarray) -> float:
    """About how large a shape is, to draw the largest first."""
    if kind == "rectangle":
        return float(np.prod(np.ptp(points, axis=0)))
    if kind == "circle":
        return float(np.pi * ((points[1] - points[0]) ** 2).sum())
    return polygon_area(points) if kind in ("polygon", "oriented_rectangle") else 0.0


def _mask_region(shape: Tree, label: str, max_pixels: int) -> Region:
    (left, top), (right, bottom) = read_points(shape["points"], 2)[:2]
    try:
        content = base64.b64decode(shape["mask"].text(), validate=True)
    except (binascii.Error, ValueError):
        raise shape.error("mask: is no base64") from None
    picture = read_mask(content, max_pixels) != 0
    picture = picture if picture.ndim == 2 else picture.any(axis=2)
    # labelme counts the last pixel in
    if picture.shape != (int(bottom) - int(top) + 1, int(right) - int(left) + 1):
        raise shape.error(f"mask: is {picture.shape[0]}x{picture.shape[1]}, its points say another size")
    return Region(label, stamp(picture, int(top), int(left)), float(picture.sum()))
