"""Medical files: slices of NIfTI volumes and DICOM pictures, through `nibabel` and `pydicom` (an extra)."""

from __future__ import annotations

import functools
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from paddlefcn.errors import DataError

_MOST_VOXELS = 1 << 28  # of a compressed volume, which has to be unpacked as a whole


def is_dicom(head: bytes) -> bool:
    """Whether the first 132 bytes are those of a DICOM file."""
    return head[128:132] == b"DICM"


def read_dicom(source: Path | bytes, max_pixels: int) -> np.ndarray:
    """HxWx1 (HxWx3 in colour) of one frame: stored values times RescaleSlope plus RescaleIntercept.

    MONOCHROME1, in which low is white, is turned over within its values.

    Raises:
        DataError: several frames, too many pixels, or pydicom is missing.
    """
    try:
        import pydicom
    except ImportError:
        raise DataError("DICOM needs pydicom: pip install 'paddlefcn[medical]'") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its remarks on files that other programs write
        file = pydicom.dcmread(io.BytesIO(source) if isinstance(source, bytes) else source)
    height, width = int(file.get("Rows", 0)), int(file.get("Columns", 0))
    frames = int(file.get("NumberOfFrames", 1) or 1)
    if frames != 1:
        raise DataError(f"holds {frames} frames; save them as {frames} files")
    if height * width > max_pixels:
        raise DataError(f"{height}x{width} pixels are more than data.max_pixels {max_pixels}")
    pixels = np.asarray(file.pixel_array)
    if file.get("PhotometricInterpretation") == "MONOCHROME1":
        pixels = pixels.max() - (pixels - pixels.min())
    slope, intercept = float(file.get("RescaleSlope", 1) or 1), float(file.get("RescaleIntercept", 0) or 0)
    if (slope, intercept) != (1, 0):
        pixels = pixels.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


class Volume:
    """A NIfTI file whose slices are pictures.

    Slice k along `axis` has the two other axes as rows and columns, the later one as rows: for axis 2
    element (x, y, k) stands in row y, column x. Values are scaled as the header says.

    Raises:
        DataError: no volume of three axes, or nibabel is missing. Without the file's name.
    """

    def __init__(self, path: Path, axis: int) -> None:
        self._file = _load(path)
        shape = self._file.shape
        if len(shape) == 4 and shape[3] == 1:
            shape = shape[:3]
        if len(shape) != 3 or min(shape) < 1:
            raise DataError(f"a volume of shape {tuple(shape)}; expected three axes")
        self._path, self.axis, self.slices = path, axis, int(shape[axis])
        self._last = len(self._file.shape) == 4
        columns, rows = (int(n) for i, n in enumerate(shape) if i != axis)
        self.height, self.width = rows, columns
        self._voxels = int(np.prod(shape, dtype=np.float64))

    def read_slice(self, index: int) -> np.ndarray:
        """Slice `index`, height x width, in the file's kind of number. Raises DataError."""
        cut: tuple[Any, ...] = tuple(index if i == self.axis else slice(None) for i in range(3))
        cut += (0,) * self._last  # a fourth axis of one
        if self._path.name.lower().endswith(".gz"):
            if self._voxels > _MOST_VOXELS:
                raise DataError(f"a compressed volume of {self._voxels} voxels; unpack it to .nii")
            part = _unpacked(self._path, self._path.stat().st_mtime_ns)[cut]
        else:
            part = np.asanyarray(self._file.dataobj[cut])
        return np.ascontiguousarray(part.T)


def _load(path: Path) -> Any:
    try:
        import nibabel
    except ImportError:
        raise DataError("NIfTI needs nibabel: pip install 'paddlefcn[medical]'") from None
    return nibabel.load(path)


@functools.lru_cache(maxsize=5)  # four modalities and a mask, whose slices are read one after the other
def _unpacked(path: Path, changed: int) -> np.ndarray:
    return np.asanyarray(_load(path).dataobj)
