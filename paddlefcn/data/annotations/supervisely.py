"""Supervisely's projects: meta.json, and in each data set img/NAME and ann/NAME.json."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from paddlefcn.data.annotations.labelme import read_points
from paddlefcn.data.annotations.regions import Annotation, Region, integer_polygon, polygon_area, stamp
from paddlefcn.data.annotations.source import Annotations
from paddlefcn.data.annotations.trees import Tree, load_json
from paddlefcn.data.datasets.base import Sample
from paddlefcn.errors import DataError

_MOST_BYTES = 64 << 20  # of an unpacked bitmap's PNG


class Supervisely(Annotations):
    """A project of Supervisely: `train` and `val` name its data sets, the folders with `img` and `ann`.

    Without `train`, all data sets of the project. Polygons (with holes), rectangles and bitmaps are drawn
    in the order of the objects; other figures (points, lines) draw nothing. Classes are those of
    `meta.json`, in its order.
    """

    def _load(self, place: str | Sequence[str] | None) -> None:
        meta = load_json(self.root / "meta.json")
        self._classes = [item["title"].text() for item in meta["classes"].items()]
        names = [place] if isinstance(place, str) else list(place or ())
        folders = [self.root / name for name in names] or sorted(p.parent for p in self.root.rglob("ann"))
        if not folders:
            raise DataError(f"{self.root}: no folder 'ann' in the project")
        for folder in folders:
            if not (folder / "ann").is_dir():
                raise DataError(f"{folder}: has no folder 'ann'; it is no data set of Supervisely")
            for file in sorted((folder / "ann").glob("*.json")):
                name = (folder / file.stem).relative_to(self.root).as_posix()
                self._add(name, folder / "img" / file.stem, file, None)

    def annotation(self, sample: Sample, max_pixels: int) -> Annotation:
        assert sample.label is not None
        tree = load_json(sample.label)
        height, width = (tree["size"][key].integer(1, 1 << 20) for key in ("height", "width"))
        regions = []
        for item in tree["objects"].items():
            region = _region(item, max_pixels)
            if region is not None:
                regions.append(region)
        return Annotation(str(sample.label), height, width, regions)

    def labels(self) -> Iterable[str]:
        return self._classes


def _region(item: Tree, max_pixels: int) -> Region | None:
    kind, label = item["geometryType"].text(), item["classTitle"].text()
    if kind == "bitmap":
        bitmap = item["bitmap"]
        left, top = (int(number.integer(-(1 << 20), 1 << 20)) for number in _pair(bitmap["origin"]))
        mask = _bitmap(bitmap["data"], max_pixels)
        return Region(label, stamp(mask, top, left), float(mask.sum()))
    if kind not in ("polygon", "rectangle"):
        return None
    rings = [read_points(item["points"]["exterior"], 2 if kind == "rectangle" else 3)]
    if kind == "rectangle":
        (left, top), (right, bottom) = rings[0].min(axis=0), rings[0].max(axis=0)
        rings = [np.array([[left, top], [right, top], [right, bottom], [left, bottom]])]
    else:
        rings += [read_points(hole, 3) for hole in item["points"]["interior"].items()]
    return Region(label, integer_polygon(rings), polygon_area(rings[0]), outlines=rings)


def _pair(tree: Tree) -> list[Tree]:
    pair = list(tree.items())
    if len(pair) != 2:
        raise tree.error(f"expected [x, y], got {len(pair)} values")
    return pair


def _bitmap(tree: Tree, max_pixels: int) -> np.ndarray:
    """A deflated PNG in base64; what is not transparent (or not black) belongs to the object."""
    try:
        packed = base64.b64decode(tree.text(), validate=True)
        content = zlib.decompressobj().decompress(packed, _MOST_BYTES)
    except (binascii.Error, ValueError, zlib.error):
        raise tree.error("is no deflated PNG in base64") from None
    from paddlefcn.data.decoding import decode, naming_errors

    with naming_errors(tree.file, "mask"):
        picture = decode(content, "image", max_pixels)
    if picture.shape[2] in (2, 4):
        return picture[:, :, -1] > 0
    return (picture != 0).any(axis=2)
