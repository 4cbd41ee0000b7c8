"""Pictures that are read by windows: TIFF files larger than memory, mapped arrays, and any other image.

Windows are exempt from `max_pixels`, which bounds what is decoded at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from paddlefcn.data.decoding import check_file, decode, map_npy, naming_errors
from paddlefcn.data.georeference import Georeference
from paddlefcn.data.images import MAX_PIXELS
from paddlefcn.data.tiff import TiffScene
from paddlefcn.data.tiff_tags import is_tiff
from paddlefcn.errors import DataError


class Scene(Protocol):
    """A picture of height x width pixels and `channels` channels, read by windows.

    `dtype` is uint8, uint16 or float32, and any integer type for a mask. `georeference` is None where the
    file does not say where on Earth it lies.
    """

    height: int
    width: int
    channels: int
    dtype: np.dtype
    georeference: Georeference | None

    def read_window(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """height x width x channels of `dtype`; the window lies inside. Raises DataError."""
        ...


class ArrayScene:
    """A scene over an array HxWxC, which may be mapped from a file."""

    georeference: Georeference | None = None

    def __init__(self, array: np.ndarray, *, mask: bool = False) -> None:
        self._array = array
        self.height, self.width, self.channels = array.shape
        native = array.dtype.newbyteorder("=")
        keeps = native in (np.uint8, np.uint16) or (mask and native.kind in "iu")
        self.dtype = np.dtype(np.uint8) if native.kind == "b" else native if keeps else np.dtype(np.float32)

    def read_window(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A copy of the window, as `Scene.read_window`."""
        window = self._array[top : top + height, left : left + width]
        if window.dtype.kind == "f" and not np.isfinite(window).all():
            raise DataError(f"holds values that are not finite in the window at ({top}, {left})")
        return np.array(window, self.dtype)


class _FileScene:
    """A scene whose errors name its file."""

    def __init__(self, scene: Scene, path: Path, what: str) -> None:
        self._scene, self._path, self._what = scene, path, what
        self.height, self.width, self.channels = scene.height, scene.width, scene.channels
        self.dtype, self.georeference = scene.dtype, scene.georeference

    def read_window(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        with naming_errors(self._path, self._what):
            return self._scene.read_window(top, left, height, width)


@contextlib.contextmanager
def open_scene(
    path: str | Path, *, mask: bool = False, colors: bool = False, max_pixels: int = MAX_PIXELS
) -> Iterator[Scene]:
    """A picture to be read by windows, closed at the end of the `with` block.

    TIFF and .npy are read window by window, other files once and whole (at most `max_pixels`).

    Args:
        mask: palette indices and integers are kept as they are.
        colors: for a mask: the colours of a palette instead of its indices.

    Raises:
        DataError: as `read_image`; so does `read_window`. Both name the file.
    """
    file, what = Path(path), "mask" if mask else "image"
    with contextlib.ExitStack() as stack:
        with naming_errors(file, what):
            scene = _open(file, "colors" if mask and colors else what, max_pixels, stack)
        yield _FileScene(scene, file, what)


def _open(file: Path, kind: str, max_pixels: int, stack: contextlib.ExitStack) -> Scene:
    check_file(file)
    if file.suffix.lower() == ".npy":
        return ArrayScene(map_npy(file), mask=kind != "image")
    with open(file, "rb") as stream:
        head = stream.read(4)
    if is_tiff(head):
        scene = stack.enter_context(TiffScene(file, kind, max_pixels=max_pixels))
        if not scene.converted:
            return scene
    return ArrayScene(decode(file, kind, max_pixels), mask=kind != "image")
