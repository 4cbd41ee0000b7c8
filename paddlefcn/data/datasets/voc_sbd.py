"""PASCAL VOC 2012 with the additional masks of SBD (Hariharan et al. 2011, Semantic contours)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from paddlefcn.data.datasets.base import FilePairs, Sample
from paddlefcn.data.datasets.lists import read_lines
from paddlefcn.data.datasets.voc import voc_folder
from paddlefcn.data.decoding import check_file, naming_errors
from paddlefcn.data.labels import LabelReader
from paddlefcn.errors import DataError


class VOCSBD(FilePairs):
    """VOC 2012 and SBD: `train` is every picture that either annotates and that `val` does not name.

    With `val: val` that is "trainaug", 10,582 pictures. With `val: seg11valid` (the 736 of VOC 2011 that the
    FCN papers score on, a list that is not shipped) it is all that leaves those unseen. VOC's own mask counts
    where there is one; SBD's are read from its .mat files (needs scipy, the extra `sbd`).

    Args:
        val: a list of ids: ImageSets/Segmentation/NAME.txt, or NAME.txt or lists/NAME.txt below `root`.
        sbd: the folder of SBD below `root`, with img, cls, train.txt and val.txt.

    Raises:
        DataError: no such folder or list.
    """

    def __init__(
        self, root: Path, split: str, *, val: str = "val", sbd: str = "benchmark_RELEASE/dataset"
    ) -> None:
        if split not in ("train", "val"):
            raise DataError(f"no split {split!r}; this data set has train and val")
        self.root, self.sbd, self.remarks = voc_folder(Path(root)), Path(root) / sbd, []
        self._lists = self.root / "ImageSets" / "Segmentation"
        usual = [folder / f"{val}.txt" for folder in (self._lists, Path(root), Path(root) / "lists")]
        held = _ids(next((path for path in usual if path.exists()), usual[0]))
        if split == "val":
            self.samples = [self._sample(name) for name in held]
            return
        parts = [folder / f"{name}.txt" for folder in (self._lists, self.sbd) for name in ("train", "val")]
        annotated = dict.fromkeys(name for path in parts for name in _ids(path))
        self.samples = [self._sample(name) for name in sorted(set(annotated) - set(held))]

    def _sample(self, name: str) -> Sample:
        image, mask = self.root / f"JPEGImages/{name}.jpg", self.root / f"SegmentationClass/{name}.png"
        if not os.path.exists(image):
            image = self.sbd / f"img/{name}.jpg"
        if not os.path.exists(mask):
            mask = self.sbd / f"cls/{name}.mat"
        return Sample(name, image, mask)

    def read_mask(self, index: int, labels: LabelReader) -> np.ndarray:
        path = self.samples[index].label
        assert path is not None
        if path.suffix != ".mat":
            return super().read_mask(index, labels)
        with naming_errors(path, "mask"):
            check_file(path)
            return _read_mat(path)


def _ids(path: Path) -> list[str]:
    return [line.split()[0] for _, line in read_lines(path)]


def _read_mat(path: Path) -> np.ndarray:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DataError("SBD's .mat files need scipy: pip install 'paddlefcn[sbd]'") from None
    mask = np.asarray(loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0])
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise DataError(f"holds a mask of shape {mask.shape} and {mask.dtype}; expected ids of 8 bits")
    return mask
