"""Regions as annotation tools save them: polygons with holes and parts, run lengths, pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from paddlefcn.errors import DataError

_SCALE = 5  # how much finer than pixels COCO's rule traces an outline
_MOST_STEPS = 50_000_000  # of an outline, in fifths of a pixel
Box = tuple[slice, slice]
Draw = Callable[[int, int], tuple[Box, np.ndarray]]  # (height, width) -> where, and which pixels there


@dataclasses.dataclass(frozen=True)
class Region:
    """A labelled region. `draw(height, width)` gives the box it lies in and the pixels in it, boolean.

    `area` orders regions by size; `crowd` marks one that stands for several objects. `outlines` are its
    polygons [N, 2] of (x, y), if it is made of any.
    """

    label: str
    draw: Draw
    area: float
    crowd: bool = False
    outlines: Sequence[np.ndarray] = ()


@dataclasses.dataclass(frozen=True)
class Annotation:
    """One picture's regions, in the order of their file. `height` and `width` are the annotation's own."""

    where: str  # what errors name
    height: int
    width: int
    regions: Sequence[Region]


def check_points(points: np.ndarray, height: int, width: int) -> None:
    """DataError (without the file) for points that cannot belong to a picture of this size."""
    if len(points) == 0:
        return
    far = (points[:, 0] < -width) | (points[:, 0] > 2 * width) | (points[:, 1] < -height)
    far |= points[:, 1] > 2 * height
    if far.any():
        x, y = points[far][0]
        raise DataError(
            f"the point ({x:g}, {y:g}) lies far outside of the {height}x{width} image (height x width); the "
            f"annotation may belong to another size"
        )


def polygon_area(points: np.ndarray) -> float:
    """The area within an outline [N, 2] (shoelace formula)."""
    x, y = points[:, 0], points[:, 1]
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def outline(parts: Sequence[Sequence[np.ndarray]]) -> Draw:
    """Draws polygons by COCO's rule; each part is an outline [N, 2] of (x, y) and its holes.

    Within a part overlaps cancel out (so holes are left out, and so is what a self-crossing outline
    surrounds twice); parts are united.
    """

    def draw(height: int, width: int) -> tuple[Box, np.ndarray]:
        for part in parts:
            for ring in part:
                check_points(ring, height, width)
        box = _box([ring for part in parts for ring in part], height, width)
        mask = np.zeros((box[0].stop - box[0].start, box[1].stop - box[1].start), bool)
        for part in parts:
            inside = np.zeros_like(mask)
            for ring in part:
                inside ^= fill(ring, box, height, width)
            mask |= inside
        return box, mask

    return draw


def _box(rings: Sequence[np.ndarray], height: int, width: int) -> Box:
    """The pixels that the outlines may touch, cut to the picture."""
    points = np.concatenate([*rings, np.zeros((0, 2))])
    if len(points) == 0:
        return slice(0, 0), slice(0, 0)
    low, high = np.floor(points.min(axis=0)) - 1, np.ceil(points.max(axis=0)) + 1
    left, right = (int(np.clip(v, 0, width)) for v in (low[0], high[0]))
    top, bottom = (int(np.clip(v, 0, height)) for v in (low[1], high[1]))
    return slice(top, bottom), slice(left, right)


def fill(ring: np.ndarray, box: Box, height: int, width: int) -> np.ndarray:
    """The pixels within an outline [N, 2] of (x, y), cut to `box`: the rule of COCO's mask API.

    The outline is traced at a fifth of a pixel; where it passes the middle of a column, pixels from there
    on downwards change between outside and inside. Overlaps of the outline with itself cancel out.
    """
    tall, wide = box[0].stop - box[0].start, box[1].stop - box[1].start
    if len(ring) < 1 or not tall or not wide:
        return np.zeros((tall, wide), bool)
    x, y = _trace(ring)
    moved = np.flatnonzero(x[1:] != x[:-1])
    column = (np.minimum(x[moved], x[moved + 1]) + 0.5) / _SCALE - 0.5
    row = np.ceil(np.clip((np.minimum(y[moved], y[moved + 1]) + 0.5) / _SCALE - 0.5, 0, height))
    # only columns of the box count: what lies left or right of it changes nothing in it
    kept = (column == np.floor(column)) & (column >= box[1].start) & (column <= box[1].stop - 1)
    rows = np.clip(row[kept].astype(np.int64) - box[0].start, 0, tall)
    columns = column[kept].astype(np.int64) - box[1].start
    changes = np.zeros((tall + 1, wide), np.int64)
    np.add.at(changes, (rows, columns), 1)
    return (np.cumsum(changes[:-1], axis=0) % 2).astype(bool)


def _trace(ring: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The outline's points, closed, one for each fifth of a pixel along its longer direction."""
    corners = (_SCALE * ring + 0.5).astype(np.int64)
    start, end = corners, np.roll(corners, -1, axis=0)
    steps = np.abs(end - start).max(axis=1)
    if steps.sum() > _MOST_STEPS:
        raise DataError(f"an outline of {len(ring)} points that is {steps.sum() / _SCALE:g} pixels long")
    edge = np.repeat(np.arange(len(steps)), steps + 1)
    place = np.arange(len(edge)) - np.repeat(np.cumsum(steps + 1) - (steps + 1), steps + 1)
    length = np.maximum(steps, 1)[edge]
    # an edge is walked from its lower end, so that both neighbours of an edge trace the same pixels
    delta = end - start
    long_axis = np.where(np.abs(delta[:, 0]) >= np.abs(delta[:, 1]), 0, 1)
    backwards = np.take_along_axis(delta, long_axis[:, None], 1)[:, 0] < 0
    first = np.where(backwards[:, None], end, start)[edge]
    slope = np.where(backwards[:, None], -delta, delta)[edge]
    along = np.where(backwards[edge], length - place, place)
    along = np.where(steps[edge] == 0, 0, along)
    traced = np.trunc(first + slope / length[:, None] * along[:, None] + 0.5).astype(np.int64)
    on_axis = np.take_along_axis(first, long_axis[edge][:, None], 1)[:, 0] + along
    x = np.where(long_axis[edge] == 0, on_axis, traced[:, 0])
    y = np.where(long_axis[edge] == 1, on_axis, traced[:, 1])
    return x, y


def integer_polygon(rings: Sequence[np.ndarray]) -> Draw:
    """Draws an outline and its holes between pixels (x, y), the outline's own pixels included (OpenCV)."""

    def draw(height: int, width: int) -> tuple[Box, np.ndarray]:
        for ring in rings:
            check_points(ring, height, width)
        mask = np.zeros((height, width), np.uint8)
        contours = [np.rint(ring).astype(np.int32) for ring in rings if len(ring)]
        if contours:
            cv2.fillPoly(mask, contours[:1], 1)
        for hole in contours[1:]:
            cv2.fillPoly(mask, [hole], 0)
        return (slice(0, height), slice(0, width)), mask.astype(bool)

    return draw


def sketch(kind: str, points: np.ndarray) -> Draw:
    """Draws the shapes of labelme as labelme does, with Pillow: polygon, rectangle, circle, line, point."""

    def draw(height: int, width: int) -> tuple[Box, np.ndarray]:
        check_points(points, height, width)
        picture = Image.new("1", (width, height))
        pen = ImageDraw.Draw(picture)
        flat = [(float(x), float(y)) for x, y in points]
        if kind == "circle":
            (x, y), radius = flat[0], float(np.hypot(*(points[1] - points[0])))
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], outline=1, fill=1)
        elif kind == "rectangle":
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            pen.rectangle([float(left), float(top), float(right), float(bottom)], outline=1, fill=1)
        elif kind in ("line", "linestrip"):
            pen.line(flat, fill=1, width=10)
        elif kind in ("point", "points"):
            for x, y in flat:
                pen.ellipse([x - 5, y - 5, x + 5, y + 5], outline=1, fill=1)
        else:
            pen.polygon(flat, outline=1, fill=1)
        return (slice(0, height), slice(0, width)), np.asarray(picture)

    return draw


def stamp(mask: np.ndarray, top: int, left: int) -> Draw:
    """A picture of the region, boolean, whose upper left pixel lies at (top, left); cut to the image."""

    def draw(height: int, width: int) -> tuple[Box, np.ndarray]:
        rows = slice(max(0, min(top, height)), max(0, min(top + mask.shape[0], height)))
        columns = slice(max(0, min(left, width)), max(0, min(left + mask.shape[1], width)))
        part = mask[max(0, -top) :, max(0, -left) :]
        return (rows, columns), part[: rows.stop - rows.start, : columns.stop - columns.start]

    return draw


def decode_runs(counts: Sequence[int] | str, height: int, width: int) -> np.ndarray:
    """COCO's run lengths, as a list or compressed text, to a mask HxW; runs go down the columns.

    Raises:
        DataError: runs that do not add up to the picture (without the file's name).
    """
    runs = np.array(_uncompressed(counts) if isinstance(counts, str) else counts, np.float64)
    if len(runs) and (runs.min() < 0 or not np.array_equal(runs, np.rint(runs))):
        raise DataError("run lengths that are no counts")
    if runs.sum() != height * width:
        raise DataError(f"run lengths of {runs.sum():.0f} pixels for a size of {height}x{width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs.astype(np.int64)).reshape(width, height).T


def encode_runs(mask: np.ndarray) -> str:
    """A mask HxW as COCO's compressed run lengths."""
    flat = np.concatenate([[False], np.asarray(mask, bool).T.ravel()])
    ends = np.concatenate([np.flatnonzero(flat[1:] != flat[:-1]), [flat.size - 1]])
    runs = np.diff(ends, prepend=0).tolist()
    text = []
    for index, run in enumerate(runs):
        value = run - (runs[index - 2] if index > 2 else 0)
        while True:
            bits, value = value & 0x1F, value >> 5
            more = value != (-1 if bits & 0x10 else 0)
            text.append(chr((bits | 0x20 * more) + 48))
            if not more:
                break
    return "".join(text)


def _uncompressed(text: str) -> list[int]:
    """Six bits a character from "0" on: five of a value, low ones first, and whether it goes on."""
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise DataError("run lengths that are damaged")
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift  # negative
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise DataError("run lengths that end too early")
    return runs
