"""Slices of medical volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paddlefcn.data.datasets.base import FilePairs, Sample
from paddlefcn.data.datasets.lists import ListFile
from paddlefcn.data.decoding import naming_errors, plain_dtype
from paddlefcn.data.images import check_number, mask_values, match_channels
from paddlefcn.data.labels import LabelReader
from paddlefcn.data.medical import Volume
from paddlefcn.errors import DataError


class Slices(FilePairs):
    """Every slice of every case is a sample; a case has a volume for each channel, and one of the mask."""

    def __init__(self, cases: Sequence[tuple[str, Sequence[Path], Path]], axis: int) -> None:
        check_number("axis", axis, 0, 2, integer=True)
        self.axis, self.samples, self.remarks = axis, [], []
        self._cases: list[tuple[Sequence[Path], int]] = []
        for name, images, label in cases:
            for index in range(self._check(images, label)):
                self.samples.append(Sample(f"{name}#{index}", images[0], label))
                self._cases.append((images, index))

    def _check(self, images: Sequence[Path], label: Path) -> int:
        """How many slices the case has; all its volumes have one shape."""
        first = self._open(images[0], "image")
        for path in (*images[1:], label):
            other = self._open(path, "mask" if path == label else "image")
            shapes = [(v.slices, v.height, v.width) for v in (first, other)]
            if shapes[0] != shapes[1]:
                raise DataError(
                    f"{path}: {shapes[1]} slices, rows and columns, but {images[0]} has {shapes[0]}; make "
                    f"them one grid, or correct the pair"
                )
        return first.slices

    def _open(self, path: Path, what: str) -> Volume:
        with naming_errors(path, what):
            if not path.is_file():
                raise DataError("no such file")
            return Volume(path, self.axis)

    def _slice(self, path: Path, index: int, what: str, max_pixels: int) -> np.ndarray:
        volume = self._open(path, what)
        with naming_errors(path, what):
            if volume.height * volume.width > max_pixels:
                raise DataError(f"slices of {volume.height}x{volume.width}, more than data.max_pixels")
            values = volume.read_slice(index)
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise DataError(f"slice {index} holds values that are not finite")
            return values

    def read_image(self, index: int, channels: int, max_pixels: int) -> np.ndarray:
        paths, number = self._cases[index]
        planes = [self._slice(path, number, "image", max_pixels) for path in paths]
        image = plain_dtype(np.stack(planes, axis=2))
        # one kind of number in all slices of a volume, whatever values they hold
        return match_channels(
            image if image.dtype == np.uint8 else image.astype(np.float32), channels, paths[0]
        )

    def read_mask(self, index: int, labels: LabelReader) -> np.ndarray:
        path = self.samples[index].label
        assert path is not None
        values = self._slice(path, self._cases[index][1], "mask", labels.max_pixels)
        return mask_values(values[:, :, None], path)


class Volumes(Slices):
    """List files of NIfTI volumes: `IMAGE LABEL` in each line, as in `ListFile`; each slice is a sample.

    Several channels of a case are joined by commas: `t1.nii.gz,t2.nii.gz mask.nii.gz`. Slices of `.nii`
    are read alone, `.nii.gz` is unpacked as a whole first.

    Args:
        axis: along which the volume is cut; 2 gives axial slices of most files.
        train, val, test, separator: as in `ListFile`.

    Raises:
        DataError: a list or a volume that cannot be read, or volumes of several shapes in one case.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        axis: int = 2,
        train: str | Sequence[str] = "train.txt",
        val: str | Sequence[str] = "val.txt",
        test: str | Sequence[str] | None = None,
        separator: str | None = None,
    ) -> None:
        pairs = ListFile(root, split, train=train, val=val, test=test, separator=separator)
        cases = []
        for pair in pairs.samples:
            assert pair.label is not None
            cases.append(
                (pair.name, [Path(root) / name.strip() for name in pair.name.split(",")], pair.label)
            )
        super().__init__(cases, axis)
        self.remarks = pairs.remarks
