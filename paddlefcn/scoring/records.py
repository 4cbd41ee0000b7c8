"""The JSON of `val` and `score`, read again as counts per image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paddlefcn.errors import DataError
from paddlefcn.metrics import CONVENTIONS
from paddlefcn.scoring.statistics import Counts

_REGION = ("true", "predicted", "hit")
_BORDERS = ("band_true", "band_predicted", "band_hit", "f1", "nsd", "hausdorff95")


@dataclass(frozen=True)
class Record:
    """Names, counts and convention of a scored split; `file` is what errors name."""

    file: str
    names: tuple[str, ...]
    counts: Counts
    convention: str


def read_record(path: str | Path) -> Record:
    """Reads what `--json` wrote.

    Raises:
        DataError: no such file, not JSON, or not a report with `per_image`.
    """
    try:
        tree = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({' '.join(str(error).split())[:200]})") from error
    try:
        return _record(tree, str(path))
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: is no report with per_image ({reason}); make it with val or score --json"
        ) from error


def paired(a: Record, b: Record) -> tuple[Record, Record]:
    """Both with the images in the order of A's.

    Raises:
        DataError: not the same images, truth or convention.
    """
    strange = sorted(set(a.names) ^ set(b.names))
    if strange:
        where = a.file if strange[0] in a.names else b.file
        raise DataError(
            f"{a.file}, {b.file}: {len(strange)} images are in one alone, as {strange[0]!r} in {where}; "
            "score both on the same images"
        )
    if a.convention != b.convention:
        raise DataError(
            f"{a.file} is by {a.convention}, {b.file} by {b.convention}; score both by one convention"
        )
    if a.counts.true.shape[1] != b.counts.true.shape[1]:
        sizes = f"{a.counts.true.shape[1]} classes, {b.file} {b.counts.true.shape[1]}"
        raise DataError(f"{a.file} has {sizes}; score both with the same classes")
    position = {name: index for index, name in enumerate(b.names)}
    order = [position[name] for name in a.names]
    arrays = {key: None if value is None else value[order] for key, value in vars(b.counts).items()}
    counts = Counts(**arrays)  # type: ignore[arg-type]  # the first three are never None
    b = replace(b, names=a.names, counts=counts)
    other = np.flatnonzero((a.counts.true != b.counts.true).any(axis=1))
    if len(other):
        raise DataError(
            f"{a.file}, {b.file}: the truth of {a.names[other[0]]!r} differs ({len(other)} images); "
            "score both against the same labels"
        )
    return a, b


def _record(tree: Any, file: str) -> Record:
    if not isinstance(tree, Mapping):
        raise TypeError("expected a mapping")
    images, convention = tree["per_image"], tree["convention"]
    if convention not in CONVENTIONS:
        raise ValueError(f"convention {convention!r}")
    if not isinstance(images, list) or not images:
        raise ValueError("no images")
    names = tuple(str(image["image"]) for image in images)
    if len(set(names)) < len(names):
        raise ValueError("an image stands twice")
    arrays = {key: _array([image[key] for image in images], key) for key in _REGION}
    if all(image.get("borders") is not None for image in images):
        borders = [image["borders"] for image in images]
        arrays.update({key: _array([each[key] for each in borders], key) for key in _BORDERS})
    if len({array.shape for array in arrays.values()}) > 1:
        raise ValueError("lists of different lengths")
    return Record(file, names, Counts(**arrays), convention)


def _array(rows: list[Any], key: str) -> np.ndarray:
    """[images, classes]; None becomes NaN where a class may have no score."""
    array = np.array(rows, np.float64)
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"{key}: expected a list of numbers for each image")
    if key in ("f1", "nsd", "hausdorff95"):
        return array
    if not (array >= 0).all():
        raise ValueError(f"{key}: expected pixel counts")
    return array
