"""Label maps as polygons: GeoJSON along the sides of pixels, labelme through their centres."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from paddlefcn.classes import Classes
from paddlefcn.refine.components import Components, components
from paddlefcn.refine.map_units import MapTransform

BACKGROUND = "background"
# directions in the order of right turns: east, south, west, north, as steps of (column, row)
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


@dataclass(frozen=True)
class Polygon:
    """A component: its class, its pixels, and its rings [n, 2] of pixel corners (column, row).

    The first ring is the outline, clockwise as seen, the rest are holes, counter-clockwise; none repeats its
    first point. The area within is exactly `area` pixels.
    """

    label: int
    area: int
    rings: tuple[np.ndarray, ...]


def polygons(labels: np.ndarray, *, leave_out: tuple[int, ...] = ()) -> list[Polygon]:
    """The components (pixels of one class that touch at their sides) of a label map, as polygons.

    Args:
        labels: [H, W] class ids.
        leave_out: classes without polygons.

    Returns:
        Class by class, in the order in which rows meet the components.
    """
    if not labels.size:
        return []
    parts = components(labels)
    found: dict[int, list[np.ndarray]] = {}
    for component, ring in _rings(parts.index):
        found.setdefault(component, []).append(ring)
    result = []
    for component, rings in sorted(found.items()):
        label = int(parts.classes[component])
        if label not in leave_out:
            rings.sort(key=lambda ring: signed_area(ring) < 0)  # the outline is the one that is clockwise
            result.append(Polygon(label, int(parts.areas[component]), tuple(rings)))
    return result


def signed_area(ring: np.ndarray) -> float:
    """Within a ring [n, 2] (shoelace formula); positive for clockwise as seen where rows go down."""
    x, y = ring[:, 0].astype(np.float64), ring[:, 1].astype(np.float64)
    return float(np.dot(x, np.roll(y, -1)) - np.dot(np.roll(x, -1), y)) / 2


def geojson(
    labels: np.ndarray,
    classes: Classes,
    transform: MapTransform | None = None,
    *,
    simplify: float = 0.0,
) -> dict[str, Any]:
    """A label map as a GeoJSON FeatureCollection (RFC 7946): a polygon with holes for each component.

    Args:
        labels: [H, W] class ids; the class named "background" and `ignore_index` have no polygons.
        classes: names.
        transform: gives map coordinates; without it x is the column and y the row, in pixels, downwards.
        simplify: how far an outline may leave the sides of the pixels, in pixels; neighbours then no longer
            share their border exactly.
    """
    features = []
    for polygon in polygons(labels, leave_out=_without_polygons(classes)):
        rings = [ring for ring in (_simplified(ring, simplify) for ring in polygon.rings) if ring is not None]
        # an outline that vanishes takes its holes with it
        if not rings or signed_area(rings[0]) <= 0:
            continue
        coordinates = [_coordinates(ring, transform, outline=i == 0) for i, ring in enumerate(rings)]
        area = polygon.area * (transform.pixel_area if transform else 1)
        properties = {"class": classes.name(polygon.label), "id": polygon.label, "area": area}
        geometry = {"type": "Polygon", "coordinates": coordinates}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    tree: dict[str, Any] = {"type": "FeatureCollection"}
    if transform is not None and transform.epsg is not None:
        # RFC 7946 knows WGS 84 alone; GIS programs read the member that its forerunner had
        name = f"urn:ogc:def:crs:EPSG::{transform.epsg}"
        tree["crs"] = {"type": "name", "properties": {"name": name}}
    return {**tree, "features": features}


def labelme(labels: np.ndarray, classes: Classes, image: str, *, simplify: float = 0.0) -> dict[str, Any]:
    """A label map as the JSON that labelme opens beside the image.

    labelme has no holes: what lies within another component follows it and is drawn over it, background
    as `_background_`, `ignore_index` as `__ignore__`. Background at the edge of the image has no shape.
    """
    parts = components(labels)
    shapes: list[tuple[float, dict[str, Any]]] = []
    for component, (contour, area) in enumerate(_outlines(parts)):
        label = int(parts.classes[component])
        background = label < len(classes) and classes.names[label].lower() == BACKGROUND
        if background and _touches_edge(contour, labels.shape):
            continue
        points = _simplified(contour, simplify)
        points = contour if points is None else points
        points = np.concatenate([points, points[-1:], points[-1:]]) if len(points) < 3 else points
        name = "_background_" if background else classes.name(label)
        name = "__ignore__" if label == classes.ignore_index else name
        shapes.append((area, {"label": name, "points": points.astype(float).tolist(), "group_id": None}))
    shapes.sort(key=lambda shape: -shape[0])
    more = {"description": "", "shape_type": "polygon", "flags": {}}
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": [{**shape, **more} for _, shape in shapes],
        "imagePath": image,
        "imageData": None,
        "imageHeight": labels.shape[0],
        "imageWidth": labels.shape[1],
    }


def _without_polygons(classes: Classes) -> tuple[int, ...]:
    names = [index for index, name in enumerate(classes.names) if name.lower() == BACKGROUND]
    return (*names, classes.ignore_index)


def _coordinates(ring: np.ndarray, transform: MapTransform | None, *, outline: bool) -> list[list[float]]:
    """A closed ring: outlines counter-clockwise, holes clockwise, in the coordinates' own sense."""
    points = transform(ring.astype(np.float64)) if transform is not None else ring.astype(np.float64)
    if (signed_area(points) > 0) != outline:
        points = points[::-1]
    return [*points.tolist(), points[0].tolist()]


def _simplified(ring: np.ndarray, tolerance: float) -> np.ndarray | None:
    """Douglas and Peucker's; None for a ring that vanishes."""
    if tolerance <= 0:
        return ring
    points = cv2.approxPolyDP(np.ascontiguousarray(ring, np.int32)[:, None], tolerance, True)[:, 0]
    return points if len(points) >= 3 else None


def _rings(index: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Every ring around or within a component, which is on its right hand: [n, 2] corners (column, row)."""
    starts, ends, direction, owner = _runs(index)
    width = index.shape[1] + 1
    # a run is found by its first corner, its direction and its component
    count = int(index.max()) + 1
    key = (starts * 4 + direction) * count + owner
    order = np.argsort(key)
    after = np.full(len(key), -1)
    # of two runs that leave a corner the left turn: so no ring touches itself, but holes may touch each other
    for turn in (1, 3):
        wanted = (ends * 4 + (direction + turn) % 4) * count + owner
        place = np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)
        known = key[order][place] == wanted
        after[known] = order[place[known]]
    successor, seen = after.tolist(), np.zeros(len(key), bool)
    corners = np.stack([starts % width, starts // width], axis=1)
    for first in np.flatnonzero(direction % 2 == 0):  # every ring has a run to the east or west
        if seen[first]:
            continue
        ring = [int(first)]
        while (following := successor[ring[-1]]) != first:
            ring.append(following)
        seen[ring] = True
        yield int(owner[first]), corners[ring]


def _runs(index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Straight runs of pixel sides: first corner, last corner, direction, and the component on the right.

    Corners are numbered row by row, width + 1 in each.
    """
    framed = np.pad(index, 1, constant_values=-1)
    inner = framed[1:-1, 1:-1]
    parts = []
    # the neighbour across a side, the side's direction, its first corner within the pixel (column, row)
    sides = (
        (framed[:-2, 1:-1], 0, (0, 0)),
        (framed[1:-1, 2:], 1, (1, 0)),
        (framed[2:, 1:-1], 2, (1, 1)),
        (framed[1:-1, :-2], 3, (0, 1)),
    )
    for other, direction, (column, row) in sides:
        across = direction % 2 == 0
        edge, owner = (inner != other), inner
        if not across:
            edge, owner = edge.T, owner.T
        parts.append(_joined(edge, owner, direction, (column, row), index.shape[1] + 1, across))
    starts, ends, directions, owners = (np.concatenate(column) for column in zip(*parts))
    return starts, ends, directions, owners


def _joined(
    edge: np.ndarray, owner: np.ndarray, direction: int, offset: tuple[int, int], width: int, across: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sides of one direction that follow each other with one owner, as runs along the last axis."""
    before = np.zeros_like(edge)
    before[:, 1:] = edge[:, :-1] & (owner[:, 1:] == owner[:, :-1])
    line, low = np.nonzero(edge & ~before)
    after = np.zeros_like(edge)
    after[:, :-1] = edge[:, 1:] & (owner[:, 1:] == owner[:, :-1])
    _, high = np.nonzero(edge & ~after)
    owners = owner[line, low].astype(np.int64)
    # along the run the corners go from low to high + 1, or back
    forth = direction in (0, 1)
    first, last = (low, high + 1) if forth else (high + 1, low)
    if across:
        fixed = line + offset[1]
        return fixed * width + first, fixed * width + last, np.full(len(line), direction), owners
    fixed = line + offset[0]
    return first * width + fixed, last * width + fixed, np.full(len(line), direction), owners


def _outlines(parts: Components) -> Iterator[tuple[np.ndarray, float]]:
    """The outer contour of each component through the centres of its pixels, and the pixels within."""
    for component, (left, top, width, height) in enumerate(parts.boxes.tolist()):
        mask = (parts.index[top : top + height, left : left + width] == component).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        filled = cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED)
        yield contours[0][:, 0] + np.array([left, top]), float(filled.sum())


def _touches_edge(contour: np.ndarray, size: tuple[int, ...]) -> bool:
    low, high = contour.min(axis=0), contour.max(axis=0)
    return bool((low == 0).any() or high[0] == size[1] - 1 or high[1] == size[0] - 1)
