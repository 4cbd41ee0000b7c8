"""TIFF files that Pillow does not read: any number of samples a pixel, 8 to 64 bit, integers or floats.

Baseline layout (TIFF 6.0): strips or tiles are interleaved or planar, uncompressed or deflated.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from paddlefcn.errors import DataError

_SIZES = {1: "B", 2: "B", 3: "H", 4: "I", 16: "Q"}
_TYPES = ("u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8")
_MAX_BYTES = 8 << 30


def is_tiff(path: Path) -> bool:
    """Whether the first bytes are those of a classic TIFF."""
    with open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*")


def read_tiff(path: Path, check_pixels: Callable[[int, int], None]) -> np.ndarray:
    """HxWxC of the first page. `check_pixels(height, width)` is asked before anything is decoded.

    Raises:
        DataError: a kind of TIFF that is not read here.
    """
    data = np.memmap(path, np.uint8, "r")
    order = "<" if bytes(data[:2]) == b"II" else ">"
    tags = _directory(data.data, order)
    height, width = _one(tags, 257), _one(tags, 256)
    check_pixels(height, width)
    samples = _one(tags, 277, 1)
    bits = set(tags.get(258, (1,)))
    kinds = set(tags.get(339, (1,)))
    if len(bits) != 1 or len(kinds) != 1 or not 1 <= samples <= 4096:
        raise DataError("a TIFF whose channels differ in type; save it as .npy")
    name = f"{order}{ {1: 'u', 2: 'i', 3: 'f'}.get(kinds.pop(), '?') }{bits.pop() // 8}"
    if 322 in tags or _one(tags, 317, 1) != 1 or name[1:] not in _TYPES:
        raise DataError("a TIFF with tiles, a predictor or unusual samples; save it as .npy")
    dtype = np.dtype(name)
    size = height * width * samples * dtype.itemsize
    if size > _MAX_BYTES:
        raise DataError(f"a TIFF of {height}x{width}x{samples} is too large")
    raw = _strips(data, tags, size)
    if _one(tags, 284, 1) == 2:
        return np.frombuffer(raw, dtype).reshape(samples, height, width).transpose(1, 2, 0)
    return np.frombuffer(raw, dtype).reshape(height, width, samples)


def _strips(data: np.ndarray, tags: dict[int, tuple[int, ...]], size: int) -> bytes:
    compression = _one(tags, 259, 1)
    if compression not in (1, 8, 32946):
        raise DataError(f"a TIFF with compression {compression} and unusual channels; save it as .npy")
    parts, total = [], 0
    for offset, count in zip(tags.get(273, ()), tags.get(279, ())):
        part = data[offset : offset + count].tobytes()
        if compression != 1:
            part = zlib.decompressobj().decompress(part, size - total + 1)
        parts.append(part)
        total += len(part)
        if total > size:
            break
    if total != size:
        raise DataError("a truncated TIFF")
    return b"".join(parts)


def _directory(data: memoryview, order: str) -> dict[int, tuple[int, ...]]:
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    tags: dict[int, tuple[int, ...]] = {}
    for index in range(count):
        place = start + 2 + 12 * index
        tag, kind, number = struct.unpack_from(order + "HHI", data, place)
        if kind not in _SIZES or number > 1 << 22:
            continue  # texts and fractions: nothing that the pixels depend on
        form = f"{order}{number}{_SIZES[kind]}"
        where = place + 8
        if struct.calcsize(form) > 4:
            (where,) = struct.unpack_from(order + "I", data, where)
        tags[tag] = struct.unpack_from(form, data, where)
    return tags


def _one(tags: dict[int, tuple[int, ...]], tag: int, default: int | None = None) -> int:
    values = tags.get(tag)
    if not values:
        if default is None:
            raise DataError(f"a TIFF without tag {tag}")
        return default
    return values[0]
