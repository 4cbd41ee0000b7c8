"""Data sets: where the pairs of image and mask are. Reading and checking them is the same for all.

A data set is `Name(root, split, *, its own arguments)` with `.samples` and `.read_raw(i, …)`.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from paddlefcn.data.images import SUFFIXES, image_files, read_image
from paddlefcn.data.labels import LabelReader
from paddlefcn.errors import DataError, RunError, UserError
from paddlefcn.files import read_text

_LONGEST_LINE = 2 * 4096  # two paths as long as Linux takes them
_LARGEST_LIST = 1 << 28


@dataclasses.dataclass(frozen=True)
class Sample:
    """A pair. `name` is unique in its data set; `image` and `label` are None where they are generated."""

    name: str
    image: Path | None
    label: Path | None


class Source(Protocol):
    """What a data set class provides."""

    samples: list[Sample]

    def read_raw(self, index: int, channels: int, labels: LabelReader) -> tuple[np.ndarray, np.ndarray]:
        """The image HxWxC and what stands in the mask, HxW or HxWx3. Raises DataError."""
        ...


class FilePairs:
    """A source whose images and masks are files."""

    samples: list[Sample]
    # list entries and files that have no partner or stand twice: checks report them, training need not
    remarks: list[str]

    def read_raw(self, index: int, channels: int, labels: LabelReader) -> tuple[np.ndarray, np.ndarray]:
        sample = self.samples[index]
        if sample.image is None:
            raise DataError(f"mask {sample.label}: has no image; add it, or remove the mask")
        if sample.label is None:
            raise DataError(f"image {sample.image}: has no mask; add it, or remove the image")
        return read_image(sample.image, channels, labels.max_pixels), labels.read_raw(sample.label)


class VOC(FilePairs):
    """The layout of PASCAL VOC: JPEGImages, SegmentationClass, ImageSets/Segmentation/NAME.txt.

    `root` is that folder, or a folder above it (with VOCdevkit/VOC2012 or VOC2012 in it). `train`,
    `val` and `test` name the list of each split, or several of them.

    Raises:
        DataError: no such folder or list, or an empty one.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        train: str | Sequence[str] = "train",
        val: str | Sequence[str] = "val",
        test: str | Sequence[str] | None = None,
    ) -> None:
        self.root = _voc_folder(Path(root))
        self.samples, self.remarks = [], []
        for name in _names(split, train=train, val=val, test=test):
            path = self.root / "ImageSets" / "Segmentation" / f"{name.removesuffix('.txt')}.txt"
            for number, line in read_lines(path):
                words = line.split()
                if len(words) != 1:
                    raise DataError(f"{path}:{number}: {line[:80]!r}: expected one image id a line")
                self.samples.append(Sample(words[0], self._image(words[0]), self._label(words[0])))
        self.remarks += _doubles(self.samples)

    @staticmethod
    def download(root: Path) -> None:
        """Downloads VOC 2012 below `root` unless it is there, with a progress bar."""
        from paddlefcn.data.download import bar, download_voc2012

        with bar("VOC 2012") as progress:
            download_voc2012(root, progress)

    def _image(self, name: str) -> Path:
        usual = self.root / "JPEGImages" / f"{name}.jpg"
        others = (usual.parent / f"{name}{suffix}" for suffix in (".png", ".jpeg", ".tif", ".npy"))
        # not Path.exists, which raises on a name that is too long
        return next((path for path in (usual, *others) if os.path.exists(path)), usual)

    def _label(self, name: str) -> Path:
        return self.root / "SegmentationClass" / f"{name}.png"


class ListFile(FilePairs):
    """List files: every line is `IMAGE LABEL`, relative to `root`.

    `separator` is what stands between the two; by default a tab if there is one in the line, else blanks.
    `train`, `val` and `test` name the list file of each split, or several of them.

    Raises:
        DataError: a missing or empty list, or a line that is no pair.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        train: str | Sequence[str] = "train.txt",
        val: str | Sequence[str] = "val.txt",
        test: str | Sequence[str] | None = None,
        separator: str | None = None,
    ) -> None:
        base = Path(root)
        if separator is not None and (not isinstance(separator, str) or not separator):
            raise ValueError(f"separator: expected text such as ',' or a tab, got {separator!r}")
        self.samples, self.remarks = [], []
        for name in _names(split, train=train, val=val, test=test):
            path = base / name
            for number, line in read_lines(path):
                cut = separator or ("\t" if "\t" in line else None)
                parts = [part.strip() for part in line.split(cut)]
                if len(parts) != 2 or not all(parts) or "\0" in line:
                    raise DataError(
                        f"{path}:{number}: {line[:80]!r}: expected IMAGE LABEL, two paths; if a name holds "
                        f"blanks, put a tab between them or set data.separator"
                    )
                self.samples.append(Sample(parts[0], base / parts[0], base / parts[1]))
        self.remarks += _doubles(self.samples)


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
            (name,) = _names(split, train=train, val=val, test=test)
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


class SegmentationDataset:
    """The pairs of a source, read and checked: image HxWxC and class ids HxW, of one size.

    Raises:
        DataError: from `read`, naming the file, what was found and the fix.
    """

    def __init__(
        self, source: Source, labels: LabelReader, channels: int = 3, max_pixels: int | None = None
    ) -> None:
        self.source = source
        self.label_reader = labels
        self.channels = channels
        if max_pixels is not None:
            self.label_reader.max_pixels = max_pixels

    @property
    def samples(self) -> list[Sample]:
        return self.source.samples

    def __len__(self) -> int:
        return len(self.source.samples)

    def read_raw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The image HxWxC and the mask as it stands in its file, HxW or HxWx3."""
        try:
            return self.source.read_raw(index, self.channels, self.label_reader)
        except (UserError, RunError, MemoryError):
            raise
        # a data set's own bug: say which pair it happened to
        except Exception as error:
            reason = " ".join(str(error).split())[:500]
            name = self.samples[index].name
            raise RunError(f"reading {name} failed: {type(error).__name__}: {reason}") from error

    def read_image(self, sample: Sample) -> np.ndarray:
        """The image file of a pair alone, HxWxC."""
        if sample.image is None:
            raise DataError(f"{sample.name}: has no image file")
        return read_image(sample.image, self.channels, self.label_reader.max_pixels)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The image HxWxC (uint8, uint16 or float32, RGB) and its class ids HxW (uint8 or int32)."""
        image, mask = self.read_raw(index)
        sample = self.samples[index]
        check_sizes(sample, image, mask)
        return image, self.label_reader(mask, sample.label or sample.name)


def check_sizes(sample: Sample, image: np.ndarray, mask: np.ndarray) -> None:
    """DataError unless image and mask have one height and width."""
    if image.shape[:2] == mask.shape[:2]:
        return
    (h, w), (mh, mw) = image.shape[:2], mask.shape[:2]
    turned = " (the image's EXIF orientation turns it: turn the mask too)" if (h, w) == (mw, mh) else ""
    raise DataError(
        f"mask {sample.label or sample.name}: is {mh}x{mw}, its image {sample.image or ''} is {h}x{w} "
        f"(height x width){turned}; make them one size (masks by nearest neighbour), or correct the pair"
    )


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(line number, text) of every line that is not blank. Raises DataError; an empty list is one."""
    try:
        text = read_text(path, _LARGEST_LIST).removeprefix("\ufeff")
        lines = [(number, line.strip()) for number, line in enumerate(io.StringIO(text, newline=None), 1)]
    except UnicodeDecodeError as error:
        raise DataError(f"list {path}: is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except (OSError, ValueError) as error:
        raise DataError(f"list {path}: {getattr(error, 'strerror', None) or error}") from None
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise DataError(f"list {path}: is empty")
    for number, line in lines:
        if len(line) > _LONGEST_LINE:
            raise DataError(f"{path}:{number}: a line of {len(line)} characters; expected paths")
    return lines


def _names(split: str, **lists: str | Sequence[str] | None) -> list[str]:
    """The list names of a split; ValueError for a wrong kind of argument, DataError for no such split."""
    for key, value in lists.items():
        several = isinstance(value, (list, tuple)) and value and all(isinstance(name, str) for name in value)
        if value is not None and not isinstance(value, str) and not several:
            raise ValueError(f"{key}: expected a name or a list of names, got {value!r}")
    chosen = lists.get(split)
    if not chosen:
        known = ", ".join(name for name, value in lists.items() if value)
        raise DataError(f"no split {split!r}; this data set has {known} (set data.{split})")
    return [chosen] if isinstance(chosen, str) else list(chosen)


def _doubles(samples: Sequence[Sample]) -> list[str]:
    counts = collections.Counter(sample.name for sample in samples)
    doubled = sorted((name, count) for name, count in counts.items() if count > 1)
    return [f"{name}: stands {count} times in the list; remove the other lines" for name, count in doubled]


def _voc_folder(root: Path) -> Path:
    usual = ("VOCdevkit/VOC2012", "VOC2012", "TrainVal/VOCdevkit/VOC2012")
    for folder in (root, *(root / name for name in usual)):
        if (folder / "JPEGImages").is_dir():
            return folder
    more = sorted(root.glob("VOCdevkit/*/JPEGImages")) if root.is_dir() else []
    if len(more) == 1:
        return more[0].parent
    raise DataError(
        f"{root}: holds no VOCdevkit/VOC2012 and no JPEGImages; set data.root (relative to "
        f"$PADDLEFCN_DATA, or ./data), or data.download: true for VOC 2012"
    )


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
