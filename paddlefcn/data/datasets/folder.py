"""Two folders, of images and of masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paddlefcn.data.datasets.base import FilePairs, Sample
from paddlefcn.data.datasets.lists import split_names
from paddlefcn.data.images import SUFFIXES, image_files
from paddlefcn.errors import DataError


class Folder(FilePairs):
    """Two folders without lists: images and masks that share a name (without its suffix).

    With `train` and `val`, both folders hold a subfolder of that name for each split; without, the
    pairs are split by `seed`: `val_fraction` of them (at least one) are held out, the same ones on
    every machine. `label_suffix` is what a mask's name has more, such as `_mask`.

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
    ) -> None:
        if not isinstance(val_fraction, (int, float)) or not 0 < val_fraction < 1:
            raise ValueError(f"val_fraction: expected a number between 0 and 1, got {val_fraction!r}")
        if type(seed) is not int or seed < 0:
            raise ValueError(f"seed: expected an integer of 0 or more, got {seed!r}")
        if (train is None) != (val is None):
            raise ValueError("train and val: give a subfolder for both, or for none (a split by seed)")
        image_folder, label_folder = Path(root) / images, Path(root) / labels
        self.remarks = []
        if train is not None:
            (name,) = split_names(split, train=train, val=val, test=test)
            self.samples = self._pairs(image_folder / name, label_folder / name, label_suffix)
        else:
            pairs = self._pairs(image_folder, label_folder, label_suffix)
            self.samples = _held_out(pairs, split, val_fraction, seed)
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


def _held_out(pairs: list[Sample], split: str, fraction: float, seed: int) -> list[Sample]:
    """The seeded split; both parts in the order of their names."""
    if split not in ("train", "val"):
        raise DataError(f"no split {split!r}; folders without lists are split into train and val")
    if len(pairs) == 1:
        raise DataError(f"{pairs[0].image}: is the only image; two are needed to hold one out")
    count = min(max(1, round(len(pairs) * fraction)), max(1, len(pairs) - 1))
    held = set(np.random.default_rng([seed]).permutation(len(pairs))[:count].tolist())
    return [pair for index, pair in enumerate(pairs) if (index in held) == (split == "val")]
