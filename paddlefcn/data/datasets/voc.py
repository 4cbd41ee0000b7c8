"""The layout of PASCAL VOC."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from paddlefcn.data.datasets.base import FilePairs, Sample
from paddlefcn.data.datasets.lists import doubled_names, read_lines, split_names
from paddlefcn.errors import DataError


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
        self.root = voc_folder(Path(root))
        self.samples, self.remarks = [], []
        for name in split_names(split, train=train, val=val, test=test):
            path = self.root / "ImageSets" / "Segmentation" / f"{name.removesuffix('.txt')}.txt"
            for number, line in read_lines(path):
                words = line.split()
                if len(words) != 1:
                    raise DataError(f"{path}:{number}: {line[:80]!r}: expected one image id a line")
                self.samples.append(Sample(words[0], self._image(words[0]), self._label(words[0])))
        self.remarks += doubled_names(self.samples)

    @staticmethod
    def download(root: Path) -> None:
        """Downloads VOC 2012 below `root` unless it is there, with a progress bar."""
        from paddlefcn.bars import byte_bar
        from paddlefcn.data.download import download_voc2012

        with byte_bar("VOC 2012") as progress:
            download_voc2012(root, progress)

    def _image(self, name: str) -> Path:
        usual = self.root / "JPEGImages" / f"{name}.jpg"
        others = (usual.parent / f"{name}{suffix}" for suffix in (".png", ".jpeg", ".tif", ".npy"))
        # not Path.exists, which raises on a name that is too long
        return next((path for path in (usual, *others) if os.path.exists(path)), usual)

    def _label(self, name: str) -> Path:
        return self.root / "SegmentationClass" / f"{name}.png"


def voc_folder(root: Path) -> Path:
    """VOC's own folder at or below `root`. Raises DataError."""
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
