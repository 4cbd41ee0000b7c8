"""Which tool made a folder: a look at the names and the beginnings of its files."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

_MOST_FILES = 2000  # looked at by name
_HEAD = 1 << 16  # bytes of a file that are looked into


def recognize(folder: Path) -> str | None:
    """The `data.type` of a folder that an annotation tool exported, None if it looks like none.

    Only names and the beginnings of a few files are read.
    """
    if (folder / "labelmap.txt").is_file() and (folder / "SegmentationClass").is_dir():
        return "CVATMasks"
    if (folder / "data.yaml").is_file() and (folder / "labels").is_dir():
        return "YOLOSeg"
    files = list(itertools.islice(folder.rglob("*"), _MOST_FILES))
    if (folder / "meta.json").is_file() and any(path.name == "ann" for path in files):
        return "Supervisely"
    if any(path.suffix == ".xml" and "<annotations>" in _head(path) for path in _first(files, ".xml")):
        return "CVAT"
    for path in _first(files, ".json"):
        text = _head(path)
        if re.search(r'"shapes"\s*:', text):
            return "LabelMe"
        if re.search(r'"(segmentation|categories|iscrowd)"\s*:', text) or _is_coco(path):
            return "COCO"
    return None


def _first(files: list[Path], suffix: str) -> list[Path]:
    return sorted(path for path in files if path.suffix.lower() == suffix)[:3]


def _head(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD).decode("utf-8", "replace")
    except OSError:
        return ""


def _is_coco(path: Path) -> bool:
    """A COCO file may hold thousands of images before the first annotation: then all of it is read."""
    try:
        if path.stat().st_size > 1 << 28 or not re.search(r'"(images|file_name)"\s*:', _head(path)):
            return False
        tree = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(tree, dict) and {"images", "annotations", "categories"} <= set(tree)
