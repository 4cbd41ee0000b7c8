"""Tiled, deflated TIFF written piece by piece: a mask of any size in little memory."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from paddlefcn.data.georeference import Georeference
from paddlefcn.errors import RunError
from paddlefcn.files import atomic_file, naming_errors

_CLASSIC_LIMIT = 3 << 30  # bytes of pixels from which offsets may need more than 32 bits
_KINDS = {"u": 1, "i": 2, "f": 3}


class TiffWriter:
    """A TIFF of HxW or HxWxC pixels, complete at the end of its `with` block or absent.

    Tiles may come in any order (`write_window`), or rows from top to bottom (`write_rows`); a mixture of
    both is not meant. From 3 GB of pixels on it is a BigTIFF.

    Args:
        height, width, channels: of the picture.
        dtype: uint8, uint16, int16, int32, float32 …
        tile: side of a tile in pixels, a multiple of 16.
        palette: [red, green, blue] of 0..255 for the first values of a uint8 picture of one channel.
        georeference: carried over from the image that this is a mask of.

    Raises:
        ValueError: arguments that make no TIFF, or pieces that do not fit the grid of tiles.
        OutputError: the place cannot be written to. RunError: the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        height: int,
        width: int,
        *,
        channels: int = 1,
        dtype: Any = np.uint8,
        tile: int = 512,
        palette: Sequence[Sequence[int]] | None = None,
        georeference: Georeference | None = None,
    ) -> None:
        self.path, self.height, self.width, self.channels = Path(path), height, width, channels
        self.dtype = np.dtype(dtype).newbyteorder("<")
        if min(height, width, channels) < 1 or tile < 16 or tile % 16:
            raise ValueError(f"TIFF of {height}x{width}x{channels} in tiles of {tile} (a multiple of 16)")
        if self.dtype.kind not in _KINDS or self.dtype.itemsize > 8:
            raise ValueError(f"TIFF of {self.dtype}: expected integers or floats")
        if palette is not None and (self.dtype != np.uint8 or channels != 1 or len(palette) > 256):
            raise ValueError("a palette goes with one channel of uint8, and has at most 256 colours")
        self._palette, self._georeference = palette, georeference
        self.tile = tile
        self._down, self._across = -(-height // tile), -(-width // tile)
        self._offsets = np.zeros(self._down * self._across, np.uint64)
        self._counts = np.zeros(self._down * self._across, np.uint64)
        self._big = height * width * channels * self.dtype.itemsize > _CLASSIC_LIMIT
        self._rows: list[np.ndarray] = []  # of `write_rows`, until they fill a row of tiles
        self._next_row = 0
        self._stream: IO[bytes]

    def __enter__(self) -> TiffWriter:
        with contextlib.ExitStack() as stack:
            self._stream = stack.enter_context(atomic_file(self.path))
            self._stream.write(b"II+\0\x08\0\0\0" + bytes(8) if self._big else b"II*\0" + bytes(4))
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open:  # whatever leaves this block by an exception leaves the file that stood there
            if error is not None:
                raise error
            self._finish()

    def write_rows(self, rows: np.ndarray) -> None:
        """The next rows, nxW or nxWxC, from the top down; any number at a time."""
        block = self._shaped(rows)
        if block.shape[1] != self.width:
            raise ValueError(f"rows of {block.shape[1]} pixels for a picture of {self.width}")
        self._rows.append(block)
        held = sum(len(part) for part in self._rows)
        while held >= self.tile or (held and self._next_row + held >= self.height):
            whole = np.concatenate(self._rows)
            self.write_window(self._next_row, 0, whole[: self.tile])
            self._rows = [whole[self.tile :].copy()]
            self._next_row += min(self.tile, held)
            held = max(0, held - self.tile)

    def write_window(self, top: int, left: int, block: np.ndarray) -> None:
        """Whole tiles: `top`, `left` and the size are multiples of `tile`, or end at the border."""
        pixels = self._shaped(block)
        bottom, right = top + pixels.shape[0], left + pixels.shape[1]
        for start, end, length in ((top, bottom, self.height), (left, right, self.width)):
            if start % self.tile or (end % self.tile and end != length) or not 0 <= start < end <= length:
                raise ValueError(f"window {top}:{bottom}, {left}:{right} does not fit tiles of {self.tile}")
        for y in range(top, bottom, self.tile):
            for x in range(left, right, self.tile):
                part = pixels[y - top : y - top + self.tile, x - left : x - left + self.tile]
                self._put_tile(y // self.tile * self._across + x // self.tile, part)

    def _shaped(self, block: np.ndarray) -> np.ndarray:
        pixels = block[:, :, None] if block.ndim == 2 else block
        if pixels.ndim != 3 or pixels.shape[2] != self.channels:
            raise ValueError(f"block of shape {block.shape} for a picture of {self.channels} channels")
        return pixels.astype(self.dtype, copy=False)

    def _put_tile(self, index: int, part: np.ndarray) -> None:
        whole = np.zeros((self.tile, self.tile, self.channels), self.dtype)
        whole[: part.shape[0], : part.shape[1]] = part
        data = zlib.compress(whole.tobytes(), 6)
        self._offsets[index], self._counts[index] = self._stream.tell(), len(data)
        with naming_errors(self.path):
            self._stream.write(data)

    def _finish(self) -> None:
        missing = int((self._counts == 0).sum())
        if missing:
            raise ValueError(f"{self.path}: {missing} of {len(self._counts)} tiles were not written")
        if not self._big and self._stream.tell() > (4 << 30) - (64 << 20):
            raise RunError(f"writing {self.path} failed: it outgrew 4 GB")  # deflate adds next to nothing
        if self._stream.tell() % 2:
            self._stream.write(b"\0")  # directories begin at even places
        start = self._stream.tell()
        self._stream.write(self._directory(start))
        self._stream.seek(8 if self._big else 4)
        self._stream.write(struct.pack("<Q" if self._big else "<I", start))

    def _tags(self) -> dict[int, tuple[int, int, bytes]]:
        """Tag -> (field type, number of values, their bytes)."""

        def shorts(*values: int) -> tuple[int, int, bytes]:
            return 3, len(values), struct.pack(f"<{len(values)}H", *values)

        def longs(*values: int) -> tuple[int, int, bytes]:
            return 4, len(values), struct.pack(f"<{len(values)}I", *values)

        places = (16, "<u8") if self._big else (4, "<u4")
        photometric = 3 if self._palette is not None else 2 if self.channels in (3, 4) else 1
        extra = self.channels - (3 if photometric == 2 else 1)
        tags = {
            256: longs(self.width),
            257: longs(self.height),
            258: shorts(*[8 * self.dtype.itemsize] * self.channels),
            259: shorts(8),
            262: shorts(photometric),
            277: shorts(self.channels),
            284: shorts(1),
            322: longs(self.tile),
            323: longs(self.tile),
            324: (places[0], len(self._offsets), self._offsets.astype(places[1]).tobytes()),
            325: (places[0], len(self._counts), self._counts.astype(places[1]).tobytes()),
            339: shorts(*[_KINDS[self.dtype.kind]] * self.channels),
        }
        if extra:
            tags[338] = shorts(*[0] * extra)
        if self._palette is not None:
            colors = np.zeros((3, 256), "<u2")
            colors[:, : len(self._palette)] = np.asarray(self._palette, np.uint16).T * 257
            tags[320] = (3, 768, colors.tobytes())
        return {**tags, **(self._georeference.tags if self._georeference else {})}

    def _directory(self, start: int) -> bytes:
        tags = self._tags()
        entry, head, inline = ("<HHQ", "<Q", 8) if self._big else ("<HHI", "<H", 4)
        place = start + struct.calcsize(head) + len(tags) * (struct.calcsize(entry) + inline) + inline
        out, values = struct.pack(head, len(tags)), b""
        for tag in sorted(tags):
            kind, number, data = tags[tag]
            out += struct.pack(entry, tag, kind, number)
            if len(data) <= inline:
                out += data.ljust(inline, b"\0")
            else:
                out += struct.pack("<Q" if self._big else "<I", place + len(values))
                values += data + b"\0" * (len(data) % 2)
        return out + bytes(inline) + values
