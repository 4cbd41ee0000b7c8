"""TIFF files, whole or by windows: tiles or strips, any compression of `imagecodecs`, 1 to N channels.

`tifffile` reads the tags and decodes one strip or tile at a time; a window costs the memory of the strips
or tiles it touches, whatever the size of the picture.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from paddlefcn.data.georeference import Georeference
from paddlefcn.data.jpeg_scans import check_scans, is_jpeg
from paddlefcn.data.tiff_tags import count_pictures
from paddlefcn.errors import DataError

_MAX_BYTES = 8 << 30  # of a decoded window
_MOST_CHANNELS = 4096
_LARGEST_TILE = 1 << 22  # pixels of a tile that is larger than the picture
_SHARED_BYTES = 32 << 20  # writers let equal tiles share their bytes
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_JPEG = (7, 33007, 34892)
_FAX_AND_OLD_JPEG = (2, 3, 4, 6)  # compressions that `imagecodecs` has not always known, and Pillow has
# colour spaces that only Pillow turns into RGB, and only whole: CMYK, YCbCr without JPEG, the Lab family
_CONVERTED = (5, _YCBCR, 8, 9, 10)


class TiffScene:
    """A TIFF file that is read by windows. Use it in a `with` block, in one thread.

    Attributes:
        height, width: pixels, as a viewer shows the picture (tag 274, its orientation, is applied).
        channels: of what `read_window` gives; 3 for a palette file read as image.
        dtype: of what `read_window` gives: uint8, uint16 or float32; for a mask the file's own integers.
        georeference: where on Earth the picture lies, None if the file does not say.
        converted: the colours or the compression are of a kind that only Pillow reads; no windows then.

    Args:
        source: a path, or a file's bytes.
        kind: "image"; "mask" keeps palette indices and integers; "colors" gives a palette's colours.
        max_pixels: a strip or tile of more pixels is refused; the picture itself may have more.

    Raises:
        DataError: no TIFF, damaged, of several pages, or of a kind that is not read. Without the name of
            the file, which the caller knows.
    """

    def __init__(self, source: Path | bytes, kind: str = "image", *, max_pixels: int) -> None:
        import tifffile

        # what it remarks on odd files stays unsaid: what matters is raised
        logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)
        self._data = source if isinstance(source, bytes) else None
        self._stream: Any = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")  # noqa: SIM115
        try:
            size = self._stream.seek(0, os.SEEK_END)
            self._stream.seek(0)
            pages = count_pictures(self._stream, size)
            if pages > 1:
                raise DataError(f"holds {pages} pages; save them as {pages} files, or as one HxWxC .npy")
            self._stream.seek(0)
            self._page: Any = tifffile.TiffFile(self._stream, _multifile=False).pages[0]
            self._kind = kind
            self._file_size = size
            self._describe(max_pixels)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> TiffScene:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()

    def _describe(self, max_pixels: int) -> None:
        page = self._page
        self._native = page.dtype
        samples = int(page.samplesperpixel)
        if not 1 <= samples <= _MOST_CHANNELS or page.imagedepth != 1:
            raise DataError(f"a TIFF of {samples} channels and depth {page.imagedepth}")
        if page.imagelength < 1 or page.imagewidth < 1:
            raise DataError(f"has no pixels ({page.imagelength}x{page.imagewidth})")
        photometric, compression = int(page.photometric or 0), int(page.compression)
        self.converted = compression in _FAX_AND_OLD_JPEG or (
            photometric in _CONVERTED and not (photometric == _YCBCR and compression in _JPEG)
        )
        if self._native is None or self._native.kind not in "buif":
            raise DataError("a TIFF whose samples are of no common kind of number; save it as .npy")
        self._palette = self._colors() if photometric == _PALETTE and self._kind != "mask" else None
        self._inverted = photometric == _WHITE_IS_ZERO and self._native.kind in "bu"
        tag = page.tags.get(274)
        self._orientation = int(tag.value) if tag is not None and tag.value in range(1, 9) else 1
        self._size = (int(page.imagelength), int(page.imagewidth))
        self.height, self.width = self._size[::-1] if self._orientation > 4 else self._size
        self.channels = 3 if self._palette is not None else samples
        self.dtype = self._read_dtype()
        self.georeference = Georeference.from_tiff(page) if self._orientation == 1 else None
        self._grid(samples, max_pixels)

    def _grid(self, samples: int, max_pixels: int) -> None:
        """Where the strips or tiles lie, of each plane where the channels are stored apart."""
        page = self._page
        self._planes = samples if int(page.planarconfig or 1) == 2 and samples > 1 else 1
        if page.is_tiled:
            self._step = (int(page.tilelength), int(page.tilewidth))
        else:
            self._step = (min(int(page.rowsperstrip), self._size[0]), self._size[1])
        if min(self._step) < 1:
            raise DataError(f"a TIFF with strips or tiles of {self._step[0]}x{self._step[1]}")
        self._check_blocks()
        self._mapped = self._map(samples)
        if self._mapped is None and self._step[0] * self._step[1] > max_pixels:
            raise DataError(
                f"strips or tiles of {self._step[0]}x{self._step[1]} pixels are more than data.max_pixels "
                f"{max_pixels}; save it with smaller tiles"
            )
        self._down, self._across = (-(-n // step) for n, step in zip(self._size, self._step))

    def _check_blocks(self) -> None:
        """Refuses tiles far larger than the picture, and blocks that are the same bytes again and again."""
        area, picture = self._step[0] * self._step[1], self._size[0] * self._size[1]
        if area > max(_LARGEST_TILE, 4 * picture):
            raise DataError(f"a TIFF of {picture} pixels in tiles of {area}; save it anew")
        total = sum(self._page.databytecounts)
        if total > 2 * self._file_size + _SHARED_BYTES:
            raise DataError(f"a TIFF whose blocks name {total} bytes, the file has {self._file_size}")

    def _map(self, samples: int) -> np.ndarray | None:
        """The pixels as they lie in the file, where they do so in one piece."""
        page = self._page
        if not page.is_memmappable:
            return None
        shape = (samples, *self._size) if self._planes > 1 else (*self._size, samples)
        dtype = np.dtype(page.parent.byteorder + self._native.char)
        start = int(page.dataoffsets[0])
        if start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize > self._file_size:
            raise DataError("a truncated TIFF")
        if self._data is not None:
            flat = np.frombuffer(self._data, dtype, int(np.prod(shape)), start).reshape(shape)
        else:
            flat = np.memmap(self._stream.name, dtype, "r", start, shape)
        return flat.transpose(1, 2, 0) if self._planes > 1 else flat

    def _colors(self) -> np.ndarray:
        colors = np.asarray(self._page.colormap)
        if colors.ndim != 2 or colors.shape[0] != 3:
            raise DataError("a palette TIFF without its colours")
        return (colors.T >> 8).astype(np.uint8)

    def _read_dtype(self) -> np.dtype:
        if self._palette is not None:
            return np.dtype(np.uint8)
        native = self._native.newbyteorder("=")
        if native.kind == "b":
            return np.dtype(np.uint8)
        if native in (np.uint8, np.uint16) or (self._kind != "image" and native.kind in "iu"):
            return native
        return np.dtype(np.float32)

    def read(self) -> np.ndarray:
        """The whole picture HxWxC in the file's own kind of number. The caller has looked at its size."""
        return self._read(0, 0, self.height, self.width)

    def read_window(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """HxWxC of `dtype`: the window whose upper left pixel is (top, left). It must lie inside.

        Raises:
            DataError: damaged data, or values that are not finite.
        """
        out = self._read(top, left, height, width)
        if out.dtype.kind == "f" and not np.isfinite(out).all():
            raise DataError(f"holds values that are not finite in the window at ({top}, {left})")
        return out.astype(self.dtype, copy=False)

    def _read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        if self.converted:
            raise DataError("a TIFF of this kind is not read by windows; save it as RGB with LZW")
        inside = 0 <= top <= top + height <= self.height and 0 <= left <= left + width <= self.width
        if not inside or height < 1 or width < 1:
            raise ValueError(f"window ({top}, {left}) {height}x{width} of {self.height}x{self.width}")
        if height * width * self.channels * self._native.itemsize > _MAX_BYTES:
            raise DataError(f"a window of {height}x{width}x{self.channels} is too large")
        turned, down, across = _orientation_steps(self._orientation)
        first = self.height - top - height if down else top
        second = self.width - left - width if across else left
        if turned:
            out = self._stored(second, first, width, height).transpose(1, 0, 2)
        else:
            out = self._stored(first, second, height, width)
        return np.ascontiguousarray(self._shown(out[:: -1 if down else 1, :: -1 if across else 1]))

    def _shown(self, stored: np.ndarray) -> np.ndarray:
        """Sample values as they are meant: white is high, a bit is 0 or 1 (255 in an image)."""
        if self._palette is not None:
            if stored.max() >= len(self._palette):
                raise DataError("a palette TIFF with indices outside of its palette")
            return self._palette[stored[:, :, 0]]
        if self._native.kind == "b":
            bits = (stored != self._inverted).astype(np.uint8)
            return bits if self._kind == "mask" else bits * np.uint8(255)
        if self._inverted:
            bits_per_sample = int(np.max(self._page.bitspersample))
            return stored.dtype.type((1 << bits_per_sample) - 1) - stored
        return stored

    def _stored(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A window in the file's own orientation, HxWxC in native byte order."""
        if self._mapped is not None:
            window = self._mapped[top : top + height, left : left + width]
            return np.array(window, self._native.newbyteorder("="))
        samples = int(self._page.samplesperpixel)
        out = np.zeros((height, width, samples), self._native.newbyteorder("="))
        for plane, row, column in self._touched(top, left, height, width):
            index = (plane * self._down + row) * self._across + column
            block = self._segment(index)
            if block is None:
                continue  # left out by the writer: zeros
            y, x = row * self._step[0] - top, column * self._step[1] - left
            part = block[max(0, -y) : height - y, max(0, -x) : width - x]
            y, x = max(0, y), max(0, x)
            into = slice(plane, plane + 1) if self._planes > 1 else slice(None)
            out[y : y + part.shape[0], x : x + part.shape[1], into] = part
        return out

    def _touched(self, top: int, left: int, height: int, width: int) -> Iterator[tuple[int, int, int]]:
        rows = range(top // self._step[0], (top + height - 1) // self._step[0] + 1)
        columns = range(left // self._step[1], (left + width - 1) // self._step[1] + 1)
        return ((p, r, c) for p in range(self._planes) for r in rows for c in columns)

    def _segment(self, index: int) -> np.ndarray | None:
        """A decoded strip or tile, cut to the picture; None where the file holds none."""
        page = self._page
        if index >= len(page.dataoffsets) or index >= len(page.databytecounts):
            raise DataError("a truncated TIFF: strips or tiles are missing")
        offset, count = int(page.dataoffsets[index]), int(page.databytecounts[index])
        if count == 0:
            return None
        if offset + count > self._file_size:
            raise DataError("a truncated TIFF")
        self._stream.seek(offset)
        data = self._stream.read(count)  # before the decoder is made, which may read the file too
        if is_jpeg(data):
            check_scans(data)
        block, (_, _, y, x, _), _ = page.decode(
            data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader
        )
        return None if block is None else block[0, : self._size[0] - y, : self._size[1] - x]


def _orientation_steps(orientation: int) -> tuple[bool, bool, bool]:
    """Whether the stored picture is first turned about its diagonal, then mirrored down, then across."""
    return orientation in (5, 6, 7, 8), orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
