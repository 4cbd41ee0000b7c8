"""COCO's JSON: images, annotations and categories in one file; polygons and run lengths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np

from paddlefcn.data.annotations.regions import Annotation, Region, decode_runs, outline, polygon_area, stamp
from paddlefcn.data.annotations.source import Annotations
from paddlefcn.data.annotations.trees import Tree, load_json
from paddlefcn.data.datasets.base import Sample
from paddlefcn.errors import DataError

_Entry = tuple[tuple[int, int], list[dict[str, Any]]]


class COCO(Annotations):
    """COCO files: `train` and `val` are JSON files (or lists of them), `file_name` is below `images`.

    Polygons are drawn by the rule of COCO's own mask API, the parts of an object united, in the order of
    the annotations in the file. Crowds (`iscrowd: 1`) are ignored. Classes found by `classes: auto` are in
    the order of the category ids.
    """

    default_train = "annotations.json"

    def _load(self, place: str | Sequence[str] | None) -> None:
        self._categories: dict[int, str] = getattr(self, "_categories", {})
        for name in [place] if isinstance(place, str) else list(place or ()):
            self._load_file(load_json(self.root / name))

    def _load_file(self, tree: Tree) -> None:
        for category in tree["categories"].items():
            number, label = category["id"].integer(), category["name"].text()
            if self._categories.setdefault(number, label) != label:
                raise category.error(f"{number} is {label!r} here and {self._categories[number]!r} elsewhere")
        entries: dict[int, tuple[Tree, list[dict[str, Any]]]] = {}
        for image in tree["images"].items():
            number = image["id"].integer()
            if number in entries:
                raise image.error(f"image id {number} stands twice")
            entries[number] = (image, [])
        for item in tree["annotations"].items():
            number = item["image_id"].integer()
            if number not in entries:
                raise item.error(f"image_id {number} is the id of no image")
            if item["category_id"].integer() not in self._categories:
                raise item.error(f"category_id {item['category_id'].integer()} is the id of no category")
            entries[number][1].append({**item.value, "_place": item.place})
        for image, objects in entries.values():
            name = image["file_name"].text()
            height, width = (image[key].integer(1, 1 << 20) for key in ("height", "width"))
            self._add(name, self.images / name, tree.file, ((height, width), objects))

    def annotation(self, sample: Sample, max_pixels: int) -> Annotation:
        assert sample.label is not None
        (height, width), objects = cast(_Entry, self._entries[sample.name])
        if height * width > max_pixels:
            raise DataError(f"{sample.label}: {sample.name}: {height}x{width} are more than data.max_pixels")
        regions = []
        for item in objects:
            tree = Tree(item, sample.label, f"{sample.name}: {item['_place']}")
            regions += self._regions(tree, height, width)
        return Annotation(f"{sample.label}: {sample.name}", height, width, regions)

    def _regions(self, tree: Tree, height: int, width: int) -> list[Region]:
        label = self._categories[tree["category_id"].integer()]
        crowd = "iscrowd" in tree and tree["iscrowd"].value not in (0, False)
        if "segmentation" not in tree or tree["segmentation"].value == []:
            return []  # a box alone draws nothing
        segmentation = tree["segmentation"]
        if isinstance(segmentation.value, dict):
            mask = _runs(segmentation, height, width)
            return [Region(label, stamp(mask, 0, 0), float(mask.sum()), crowd)]
        parts = []
        for ring in segmentation.items():
            numbers = [number.number() for number in ring.items()]
            if len(numbers) % 2 or len(numbers) < 6:
                raise ring.error(f"expected x, y, … of three or more points, got {len(numbers)} numbers")
            parts.append([np.array(numbers).reshape(-1, 2)])
        rings = [part[0] for part in parts]
        return [Region(label, outline(parts), sum(map(polygon_area, rings)), crowd, rings)]

    def labels(self) -> Iterable[str]:
        return [self._categories[number] for number in sorted(self._categories)]


def _runs(tree: Tree, height: int, width: int) -> np.ndarray:
    size = [number.integer(0, 1 << 20) for number in tree["size"].items()]
    if size != [height, width]:
        stated = "x".join(map(str, size))
        raise tree.error(f"its size is {stated}, the image's {height}x{width} (height x width)")
    counts = tree["counts"]
    runs = counts.text() if isinstance(counts.value, str) else [run.integer() for run in counts.items()]
    try:
        return decode_runs(runs, height, width)
    except DataError as error:
        raise tree.error(str(error)) from None
