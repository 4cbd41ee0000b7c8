"""Masks from any data set, and annotations of a tool from masks: pixels stay what they were."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from PIL import Image

from paddlefcn.classes import Classes
from paddlefcn.data.annotations.regions import Draw, encode_runs, outline, sketch
from paddlefcn.data.datasets.base import Sample, SegmentationDataset
from paddlefcn.errors import DataError
from paddlefcn.files import json_text, write_bytes, write_text

Progress = Callable[[int, int], None]
IGNORED = {"labelme": "__ignore__", "coco": "void"}  # what ignored pixels are called in each tool


def write_masks(
    datasets: Mapping[str, SegmentationDataset],
    classes: Classes,
    folder: Path,
    progress: Progress | None = None,
) -> list[str]:
    """Class-id PNGs with a palette below `folder`/masks, and a list `IMAGE LABEL` for each split.

    Returns:
        One line for each picture that could not be converted; the others are there.

    Raises:
        DataError: two samples whose masks would have one name. OutputError, RunError: as `write_bytes`.
    """
    bad: list[str] = []
    taken: dict[str, str] = {}
    for split, dataset in datasets.items():
        lines = []
        for index, sample in enumerate(dataset.samples):
            name = f"masks/{_file_name(sample.name, taken)}.png"
            try:
                _, ids = dataset.read(index)
            except DataError as error:
                bad.append(str(error))
                continue
            write_bytes(folder / name, _palette_png(ids, classes))
            lines.append(f"{_relative(sample, folder)}\t{name}")
            if progress is not None:
                progress(index + 1, len(dataset))
        write_text(folder / f"{split}.txt", "\n".join(lines) + "\n" * bool(lines))
    return bad


def write_labelme(
    pairs: Sequence[tuple[Sample, np.ndarray]], classes: Classes, folder: Path, *, min_area: int = 0
) -> int:
    """A JSON file of labelme for each picture, with a shape for each connected region that is no background.

    A region is a polygon where labelme draws it back to the same pixels, else a mask (those with holes).

    Args:
        pairs: a sample with an image file, and its class ids HxW.
        min_area: regions of fewer pixels are left out.

    Returns:
        The number of shapes.
    """
    count = 0
    taken: dict[str, str] = {}
    for sample, ids in pairs:
        shapes = [
            _shape(_label(value, classes, "labelme"), top, left, region)
            for value, top, left, region in _regions(ids, min_area)
        ]
        count += len(shapes)
        target = folder / f"{_file_name(sample.name, taken)}.json"
        tree = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": _relative(sample, target.parent),
            "imageData": None,
            "imageHeight": ids.shape[0],
            "imageWidth": ids.shape[1],
        }
        write_text(target, json_text(tree, indent=1) + "\n")
    return count


def write_coco(
    pairs: Sequence[tuple[Sample, np.ndarray]], classes: Classes, file: Path, *, min_area: int = 0
) -> int:
    """One JSON file of COCO; a region is a polygon along its pixels' edges, run lengths if it has holes.

    Returns:
        The number of annotations.
    """
    names = [*classes.names, IGNORED["coco"]]
    categories = [{"id": index, "name": name} for index, name in enumerate(names) if index]
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for number, (sample, ids) in enumerate(pairs, 1):
        height, width = ids.shape
        images.append(
            {"id": number, "file_name": _relative(sample, file.parent), "height": height, "width": width}
        )
        for value, top, left, region in _regions(ids, min_area):
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": number,
                    "category_id": names.index(_label(value, classes, "coco")),
                    "segmentation": _segmentation(region, top, left, ids.shape),
                    "area": int(region.sum()),
                    "bbox": [left, top, region.shape[1], region.shape[0]],
                    "iscrowd": 0,
                }
            )
    tree = {"images": images, "annotations": objects, "categories": categories}
    write_text(file, json_text(tree) + "\n")
    return len(objects)


def output_names(datasets: Mapping[str, SegmentationDataset], to: str) -> list[str]:
    """The files that are going to be written, below the output folder. Raises DataError for equal names."""
    if to == "coco":
        return ["annotations.json"]
    taken: dict[str, str] = {}
    names = [_file_name(sample.name, taken) for dataset in datasets.values() for sample in dataset.samples]
    if to == "labelme":
        return [f"{name}.json" for name in names]
    return [*(f"masks/{name}.png" for name in names), *(f"{split}.txt" for split in datasets)]


# ---- names and files ------------------------------------------------------------------------------------


def _file_name(name: str, taken: dict[str, str]) -> str:
    """Where a sample's file goes, without suffix: its own path, inside of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part not in ("/", "..", ".")]
    stem = "/".join(parts)
    if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy", ".dcm"):
        stem = stem[: -len(path.suffix)]
    first = taken.setdefault(stem, name)
    if first != name:
        raise DataError(f"{first} and {name}: their files would have one name, {stem}; rename one")
    return stem


def _relative(sample: Sample, folder: Path) -> str:
    """The image's path from `folder`, as lists and tools write it."""
    if sample.image is None:
        raise DataError(f"{sample.name}: has no image file, which lists and annotations name")
    return Path(os.path.relpath(sample.image.resolve(), folder.resolve())).as_posix()


def _palette_png(ids: np.ndarray, classes: Classes) -> bytes:
    buffer = io.BytesIO()
    if ids.max(initial=0) > 255:
        Image.fromarray(ids.astype(np.uint16)).save(buffer, "PNG")
        return buffer.getvalue()
    picture = Image.fromarray(ids.astype(np.uint8), "P")
    colors = np.full((256, 3), 224, np.uint8)  # void is shown bright, as VOC does
    colors[: min(256, len(classes))] = np.array(classes.palette, np.uint8)[:256]
    picture.putpalette(colors.tobytes())
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _label(value: int, classes: Classes, tool: str) -> str:
    if value == classes.ignore_index:
        return IGNORED[tool]
    if value >= len(classes):
        raise DataError(f"value {value} is none of the {len(classes)} classes and not {classes.ignore_index}")
    return classes.names[value]


# ---- regions and outlines -------------------------------------------------------------------------------


def _regions(ids: np.ndarray, min_area: int) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """(class id, top, left, boolean picture) of each connected region of each class but 0."""
    for value in np.unique(ids):
        if value == 0:
            continue
        # pixels that touch at a corner alone are two regions: no outline crosses itself
        count, numbers, stats, _ = cv2.connectedComponentsWithStats(
            (ids == value).astype(np.uint8), connectivity=4
        )
        for index in range(1, count):
            left, top, width, height, area = (int(v) for v in stats[index])
            if area >= min_area:
                part = numbers[top : top + height, left : left + width] == index
                yield int(value), top, left, part


def _shape(label: str, top: int, left: int, region: np.ndarray) -> dict[str, Any]:
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    points = contours[0][:, 0, :].astype(float)
    if len(contours) == 1 and len(points) > 2 and _redraws(sketch("polygon", points), region):
        shifted = (points + np.array([left, top])).tolist()
        return _labelme_shape(label, "polygon", shifted, None)
    buffer = io.BytesIO()
    Image.fromarray(region.astype(np.uint8)).save(buffer, "PNG")
    corners = [[left, top], [left + region.shape[1] - 1, top + region.shape[0] - 1]]
    return _labelme_shape(label, "mask", corners, base64.b64encode(buffer.getvalue()).decode())


def _labelme_shape(label: str, kind: str, points: list[Any], mask: str | None) -> dict[str, Any]:
    shape = {"label": label, "points": points, "group_id": None, "description": "", "shape_type": kind}
    return {**shape, "flags": {}, "mask": mask}


def _redraws(draw: Draw, region: np.ndarray) -> bool:
    """Whether a tool that draws the outline gets the region's pixels back."""
    box, inside = draw(*region.shape)
    drawn = np.zeros(region.shape, bool)
    drawn[box] = inside
    return np.array_equal(drawn, region)


def _segmentation(region: np.ndarray, top: int, left: int, size: tuple[int, ...]) -> Any:
    loops = edge_loops(region)
    if len(loops) == 1 and _redraws(outline([[loops[0].astype(float)]]), region):
        return [(loops[0] + (left, top)).ravel().tolist()]
    whole = np.zeros(size, bool)
    whole[top : top + region.shape[0], left : left + region.shape[1]] = region
    return {"size": [int(size[0]), int(size[1])], "counts": encode_runs(whole)}


def edge_loops(region: np.ndarray) -> list[np.ndarray]:
    """The outlines along the pixels' edges of a region HxW, [N, 2] of (x, y) each; holes are loops too."""
    padded = np.pad(region.astype(bool), 1)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def add(rows: np.ndarray, columns: np.ndarray, start: tuple[int, int], end: tuple[int, int]) -> None:
        for y, x in zip((rows - 1).tolist(), (columns - 1).tolist()):
            following.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))

    inside = padded[1:-1, 1:-1]
    # with the region to the right of each edge's direction
    sides = [
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    ]
    for neighbour, start, end in sides:
        rows, columns = np.nonzero(inside & ~neighbour)
        add(rows + 1, columns + 1, start, end)
    loops = []
    while following:
        first = next(iter(following))
        loop, here, came = [first], first, (0, 0)
        while True:
            choices = following[here]
            # where two pixels touch at a corner, turn to the right: the loop stays on its own pixel
            turn = (here[0] - came[1], here[1] + came[0])
            after = turn if turn in choices else choices[0]
            choices.remove(after)
            if not choices:
                del following[here]
            came, here = (after[0] - here[0], after[1] - here[1]), after
            if here == first:
                break
            loop.append(here)
        loops.append(_corners(np.array(loop)))
    return loops


def _corners(loop: np.ndarray) -> np.ndarray:
    """Without the points at which the outline goes straight on."""
    before, after = loop - np.roll(loop, 1, axis=0), np.roll(loop, -1, axis=0) - loop
    return loop[(before != after).any(axis=1)]
