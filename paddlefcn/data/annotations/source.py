"""What the data sets of annotation tools share: names become ids, regions are drawn in a stated order."""

from __future__ import annotations

import abc
import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from paddlefcn.data.annotations.crossings import first_crossing
from paddlefcn.data.annotations.regions import Annotation, Region
from paddlefcn.data.datasets.base import FilePairs, Sample
from paddlefcn.data.images import image_files
from paddlefcn.data.labels import LabelReader
from paddlefcn.data.splits import HeldOut
from paddlefcn.errors import DataError

BACKGROUND = "background"


class Annotations(FilePairs, abc.ABC):
    """Pictures with regions. What no region covers is `background`; later regions cover earlier ones.

    `train`, `val` and `test` say where each split's annotations are, relative to `root` (what they name is
    the tool's own: a folder, a file). Without `val` they are split by `seed`, as in `Folder`.

    Args:
        classes: the names in the order of their ids; filled in from the recipe. None: `classes` becomes
            background and the names that the annotations have, in the tool's own order.
        ignore_index: the id of what is neither learned nor scored; filled in from the recipe.
        images: the folder of the images, relative to `root`.
        background: the class of pixels without a region: a class, or "ignore". None: the first one.
        ignore: labels whose regions are neither learned nor scored.
        rename: label in the annotations -> class; several labels may become one.
        order: "file" draws regions as they stand in it, "area" the largest first.
        crowd: whether regions that stand for a crowd are ignored or drawn like others.
        val_fraction, seed, group_by, stratify, folds, fold: as in `HeldOut`.

    Raises:
        DataError: annotations that cannot be read. ValueError: an argument that cannot be right.
    """

    default_images = "images"
    default_train: str | None = None
    ignored_labels: tuple[str, ...] = ()
    background_labels: tuple[str, ...] = ()

    # one constructor for five tools: more arguments than elsewhere, but none of them twice
    def __init__(
        self,
        root: Path,
        split: str,
        *,
        classes: Sequence[str] | None = None,
        ignore_index: int = 255,
        images: str | None = None,
        train: str | Sequence[str] | None = None,
        val: str | Sequence[str] | None = None,
        test: str | Sequence[str] | None = None,
        background: str | None = None,
        ignore: Sequence[str] = (),
        rename: Mapping[str, str] | None = None,
        order: Literal["file", "area"] = "file",
        crowd: Literal["ignore", "draw"] = "ignore",
        val_fraction: float = 0.2,
        seed: int = 0,
        group_by: str | None = None,
        stratify: bool = False,
        folds: int | None = None,
        fold: int = 0,
    ) -> None:
        held_out = HeldOut(val_fraction, seed, group_by, stratify, folds, fold)
        self.root, self.images = Path(root), Path(root) / (images or self.default_images)
        self.samples, self.remarks = [], []
        self._entries: dict[str, object] = {}  # name of the sample -> what `annotation` needs
        self._order, self._crowd, self._rename = order, crowd, dict(rename or {})
        self._ignore = {*ignore, *self.ignored_labels}
        self._ignore_index = ignore_index
        known = {"train": train or self.default_train, "val": val, "test": test}
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set data.root (below $PADDLEFCN_DATA, or ./data)")
        if val is None and split in ("train", "val"):
            self._load(known["train"])
            everything = self._find_classes(background) if classes is None else []
            self.samples = held_out.take(self.samples, split, self._present if stratify else None)
        elif known.get(split):
            self._load(known[split])
            everything = self._find_classes(background) if classes is None else []
        else:
            given = ", ".join(name for name, value in known.items() if value) or "none of its own"
            raise DataError(f"no split {split!r}; this data set has {given} (set data.{split})")
        if not self.samples:
            raise DataError(f"{self.root}: no annotated image for split {split!r}")
        self.classes = everything if classes is None else list(classes)
        self._background = self._background_id(background)

    # ---- what a tool's class says ------------------------------------------------------------------------

    @abc.abstractmethod
    def _load(self, place: str | Sequence[str] | None) -> None:
        """Adds the pictures that `place` names (None: all below `root`) by `_add`."""

    @abc.abstractmethod
    def annotation(self, sample: Sample, max_pixels: int) -> Annotation:
        """The regions of a sample. Raises DataError."""

    @abc.abstractmethod
    def labels(self) -> Iterable[str]:
        """The labels that are annotated, in the order in which they become ids."""

    # ---- what is the same for all ------------------------------------------------------------------------

    def _add(self, name: str, image: Path, label: Path, entry: object) -> None:
        if name in self._entries:
            raise DataError(f"{label}: {name} is annotated twice; keep one of the two")
        self._entries[name] = entry
        self.samples.append(Sample(name, image, label))

    def _find_classes(self, background: str | None) -> list[str]:
        found = dict.fromkeys(self._rename.get(label, label) for label in self.labels())
        names = [name for name in found if name not in self._ignore and name not in self.background_labels]
        first = [] if background == "ignore" else [background or BACKGROUND]
        return [*first, *(name for name in names if name not in first)]

    def _background_id(self, background: str | None) -> int:
        if background == "ignore":
            return self._ignore_index
        if background is not None and background not in self.classes:
            raise ValueError(f"background: {background!r} is none of the classes {', '.join(self.classes)}")
        return self.classes.index(background) if background is not None else 0

    def read_mask(self, index: int, labels: LabelReader) -> np.ndarray:
        """The class ids HxW that the regions of a sample draw."""
        sample = self.samples[index]
        annotation = self.annotation(sample, labels.max_pixels)
        height, width = annotation.height, annotation.width
        if height * width > labels.max_pixels:
            most = labels.max_pixels
            raise DataError(
                f"{annotation.where}: says {height}x{width} pixels, more than data.max_pixels {most}"
            )
        largest = max(len(self.classes), self._ignore_index)
        ids = np.full((height, width), self._background, np.uint8 if largest < 256 else np.int32)
        regions = annotation.regions
        if self._order == "area":
            regions = sorted(regions, key=lambda region: -region.area)
        for region in regions:
            value = self._id(region, annotation.where)
            try:
                box, inside = region.draw(height, width)
            except DataError as error:
                raise DataError(f"{annotation.where}: {region.label}: {error}") from None
            except (ValueError, OverflowError, MemoryError) as error:
                raise DataError(
                    f"{annotation.where}: {region.label}: cannot be drawn ({type(error).__name__}: {error})"
                ) from None
            ids[box][inside] = value
        return ids

    def doubts(self, index: int, labels: LabelReader) -> list[str]:
        """What a check should report of a sample that can be read: outlines that cross themselves."""
        annotation = self.annotation(self.samples[index], labels.max_pixels)
        lines = []
        for region in annotation.regions:
            found = next(filter(None, map(first_crossing, region.outlines)), None)
            if found is not None:
                lines.append(
                    f"{annotation.where}: {region.label}: its outline crosses itself at ({found[0]:.1f}, "
                    f"{found[1]:.1f}), so what it surrounds twice may be left out; redraw it in the tool"
                )
        return lines

    def _id(self, region: Region, where: str) -> int:
        label = self._rename.get(region.label, region.label)
        if label in self._ignore or region.label in self._ignore:
            return self._ignore_index
        if region.crowd and self._crowd == "ignore":
            return self._ignore_index
        if label in self.classes:
            return self.classes.index(label)
        if label in self.background_labels:
            return self._background
        near = difflib.get_close_matches(label, self.classes, 1)
        meant = near[0] if near else self.classes[-1]
        raise DataError(
            f"{where}: label {label[:80]!r} is none of the classes {', '.join(self.classes)[:200]}; "
            f"set data.rename: {{{label[:80]}: {meant}}} or data.ignore: [{label[:80]}], or add it to "
            f"data.classes"
        )

    def _present(self, index: int) -> list[str]:
        """The classes of a sample, to stratify by."""
        try:
            annotation = self.annotation(self.samples[index], 1 << 40)
        except DataError:
            return []  # reading it says so
        return sorted({self._rename.get(region.label, region.label) for region in annotation.regions})


def images_by_name(folder: Path) -> dict[str, Path]:
    """Image files below a folder by their path in it, and by their bare name where only one has it."""
    files = image_files(folder)
    by_path = {path.relative_to(folder).as_posix(): path for path in files}
    bare: dict[str, list[Path]] = {}
    for path in files:
        bare.setdefault(path.name, []).append(path)
    return {**{name: paths[0] for name, paths in bare.items() if len(paths) == 1}, **by_path}
