"""Two folders, of images and of masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paddlefcn.data.datasets.base import FilePairs, Sample
from paddlefcn.data.datasets.lists import split_names
from paddlefcn.data.images import SUFFIXES, image_files, read_mask
from paddlefcn.data.splits import HeldOut
from paddlefcn.errors import DataError


class Folder(FilePairs):
    """Two folders without lists: images and masks that share a name (without its suffix).

    With `train` and `val`, both folders hold a subfolder of that name for each split; without, the
    pairs are split by `seed`: `val_fraction` of them (at least one) are held out, the same ones on
    every machine. `label_suffix` is what a mask's name has more, such as `_mask`. `group_by`, `stratify`,
    `folds` and `fold` are those of `HeldOut`: by folder or name, with all classes on both sides, in folds.

    Raises:
        DataError: no such folder, no pair in it, or two images with one name.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        images: str = "images",
        labels: str = "labels",
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        label_suffix: str = "",
        val_fraction: float = 0.2,
        seed: int = 0,
        group_by: str | None = None,
        stratify: bool = False,
        folds: int | None = None,
        fold: int = 0,
    ) -> None:
        held_out = HeldOut(val_fraction, seed, group_by, stratify, folds, fold)
        if (train is None) != (val is None):
            raise ValueError("train and val: give a subfolder for both, or for none (a split by seed)")
        image_folder, label_folder = Path(root) / images, Path(root) / labels
        self.remarks = []
        if train is not None:
            (name,) = split_names(split, train=train, val=val, test=test)
            self.samples = self._pairs(image_folder / name, label_folder / name, label_suffix)
        else:
            pairs = self._pairs(image_folder, label_folder, label_suffix)
            self.samples = held_out.take(pairs, split, lambda index: _values(pairs[index]))
        if not self.samples:
            raise DataError(f"{image_folder}: no image for split {split!r} ({', '.join(SUFFIXES)})")

    def _pairs(self, image_folder: Path, label_folder: Path, label_suffix: str) -> list[Sample]:
        images = _by_stem(image_folder, "")
        labels = _by_stem(label_folder, label_suffix)
        if images and labels and not set(images) & set(labels):
            raise DataError(
                f"{image_folder}, {label_folder}: no image has a mask of the same name ({min(images)!r}, "
                f"{min(labels)!r}); rename them, or set data.label_suffix"
            )
        for stem in sorted(set(labels) - set(images)):
            self.remarks.append(f"mask {labels[stem]}: has no image; add it, or remove the mask")
        return [Sample(stem, images[stem], labels.get(stem)) for stem in sorted(images)]


class Predictions(FilePairs):
    """Images and the masks that `predict` or `infer` wrote for them: NAME.png, or NAME.tif.

    Raises:
        DataError: no such folder, or no image with a mask of its name.
    """

    def __init__(self, images: Path, masks: Path) -> None:
        self.remarks = []
        found = _by_stem(images, "")
        usual = ((stem, masks / f"{stem}{suffix}") for stem in found for suffix in (".png", ".tif"))
        labels = {stem: path for stem, path in usual if path.is_file()}
        self.samples = [Sample(stem, found[stem], labels[stem]) for stem in sorted(labels)]
        if not self.samples:
            raise DataError(f"{images}, {masks}: no image has a mask of the same name")


def _by_stem(folder: Path, suffix: str) -> dict[str, Path]:
    """Path below `folder` without its file suffix (and without `suffix`) -> file."""
    found: dict[str, Path] = {}
    for path in image_files(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if suffix and not stem.endswith(suffix):
            continue
        stem = stem[: len(stem) - len(suffix)]
        if stem in found:
            raise DataError(f"{found[stem]} and {path}: one name for two files; remove or rename one")
        found[stem] = path
    return found


def _values(pair: Sample) -> list[int]:
    """What stands in a pair's mask, to stratify by."""
    try:
        mask = read_mask(pair.label) if pair.label is not None else np.zeros(0, np.uint8)
    except DataError:
        return []  # reading it says so
    codes = mask if mask.ndim < 3 else mask.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    return [int(value) for value in np.unique(codes)]
