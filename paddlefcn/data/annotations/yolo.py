"""YOLO's segmentation labels: NAME.txt, each line a class number and an outline in shares of the image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from paddlefcn.data.annotations.regions import Annotation, Region, outline, polygon_area
from paddlefcn.data.annotations.source import Annotations
from paddlefcn.data.annotations.trees import read_text
from paddlefcn.data.datasets.base import Sample
from paddlefcn.data.images import image_files, image_size
from paddlefcn.errors import DataError

_MOST_YAML = 1 << 20


class YOLOSeg(Annotations):
    """The layout of YOLO's segmentation sets: `images/train/a.jpg` and `labels/train/a.txt`, `data.yaml`.

    `train` and `val` are folders of images; the labels lie in the same place below `labels` instead of
    `images`. `names` in `data.yaml` says the classes, in the order of their numbers. An image without a
    label file has no object. Outlines are drawn by COCO's rule, in the order of the lines.
    """

    default_train = "images/train"

    def _load(self, place: str | Sequence[str] | None) -> None:
        self._names = _names(self.root)
        for name in [place] if isinstance(place, str) else list(place or ()):
            folder = self.root / name
            if "images" not in Path(name).parts:
                raise DataError(f"{folder}: expected a folder below 'images'; labels lie below 'labels'")
            parts = list(Path(name).parts)
            parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
            for image in image_files(folder):
                relative = image.relative_to(folder)
                label = self.root.joinpath(*parts, relative).with_suffix(".txt")
                shown = label if label.exists() else image  # without a file: no object
                self._add((Path(name) / relative).as_posix(), image, shown, label)

    def annotation(self, sample: Sample, max_pixels: int) -> Annotation:
        assert sample.image is not None
        label = self._entries[sample.name]
        assert isinstance(label, Path)
        height, width = image_size(sample.image)
        lines = read_text(label).splitlines() if label.exists() else []
        regions = []
        for number, line in enumerate(lines, 1):
            if line.strip():
                regions.append(self._region(line, f"{label}:{number}", height, width))
        return Annotation(str(label), height, width, regions)

    def _region(self, line: str, where: str, height: int, width: int) -> Region:
        words = line.split()
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            raise DataError(f"{where}: {line[:60]!r}: expected a class number and shares of 0 to 1") from None
        if len(numbers) < 7 or len(numbers) % 2 == 0:
            what = "a box; this needs outlines" if len(numbers) == 5 else f"{len(numbers)} numbers"
            raise DataError(f"{where}: {what}; expected a class number and x, y of three or more points")
        if numbers[0] not in self._names:
            raise DataError(f"{where}: class {words[0][:20]} is not in names of data.yaml")
        points = np.array(numbers[1:]).reshape(-1, 2)
        if not (np.abs(points) <= 1.5).all():
            most = np.abs(points).max()
            raise DataError(f"{where}: coordinates are shares of the image, 0 to 1, got {most:g}")
        points *= (width, height)
        name = self._names[int(numbers[0])]
        return Region(name, outline([[points]]), polygon_area(points), outlines=[points])

    def labels(self) -> Iterable[str]:
        return [self._names[number] for number in sorted(self._names)]


def _names(root: Path) -> dict[int, str]:
    """Class number -> name, from data.yaml (or the only .yaml file)."""
    files = [root / "data.yaml"] if (root / "data.yaml").exists() else sorted(root.glob("*.y*ml"))
    if len(files) != 1:
        raise DataError(f"{root}: expected data.yaml, which names the classes")
    text = read_text(files[0])
    if len(text) > _MOST_YAML:
        raise DataError(f"{files[0]}: {len(text)} characters; expected names of classes")
    try:
        names = (yaml.safe_load(text) or {}).get("names")
    except (yaml.YAMLError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(f"{files[0]}: is no YAML ({' '.join(str(error).split())[:200]})") from None
    pairs = (
        names.items() if isinstance(names, Mapping) else enumerate(names) if isinstance(names, list) else ()
    )
    found = {number: name for number, name in pairs if type(number) is int and isinstance(name, str)}
    if not found or len(found) != len(names or ()) or "" in found.values():
        raise DataError(f"{files[0]}: names: expected the classes as a list, or number: name")
    return found
