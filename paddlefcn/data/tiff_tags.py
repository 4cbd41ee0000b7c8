"""The directories of a TIFF file, looked at before a decoder sees them: how many pictures, how much memory.

Classic TIFF and BigTIFF (TIFF 6.0, section 2; BigTIFF design). Values are not read here, only counted.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import BinaryIO

from paddlefcn.errors import DataError

# bytes of a value of each field type; 13, 16 to 18 are IFD and the types of BigTIFF
_SIZES = dict(zip((*range(1, 14), 16, 17, 18), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 8, 8, 8)))
_MOST_TAGS = 1024  # of a directory; the standard and all extensions together name fewer
_MOST_PAGES = 4096
_SUBFILE_TYPE = 254
_REDUCED, _TRANSPARENCY = 1, 4  # bits of the subfile type: overviews and masks of the picture before them


@dataclasses.dataclass(frozen=True)
class _Form:
    """How numbers of a file are written: classic or BigTIFF, of either byte order."""

    order: str
    big: bool

    def read(self, file: BinaryIO, code: str) -> tuple[int, ...]:
        size = struct.calcsize(self.order + code)
        data = file.read(size)
        if len(data) != size:
            raise DataError("a truncated TIFF")
        return struct.unpack(self.order + code, data)


def is_tiff(head: bytes) -> bool:
    """Whether the first four bytes are those of a TIFF or BigTIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def count_pictures(file: BinaryIO, size: int) -> int:
    """How many full pictures a TIFF of `size` bytes holds; overviews and masks of one are not counted.

    Raises:
        DataError: directories that lie outside of the file or run in a circle, and tags whose values
            together are larger than the file: they share their bytes, to fill a reader's memory.
    """
    head = file.read(4)
    if not is_tiff(head):
        raise DataError("is no TIFF")
    form = _Form("<" if head[:2] == b"II" else ">", head[2:4] in (b"+\0", b"\0+"))
    start = form.read(file, "HHQ")[2] if form.big else form.read(file, "I")[0]
    seen: set[int] = set()
    pictures = 0
    while start:
        if start in seen or len(seen) >= _MOST_PAGES:
            raise DataError("a TIFF whose directories run in a circle, or of more than 4096 pages")
        seen.add(start)
        kind, start = _directory(file, form, start, size)
        pictures += not kind & (_REDUCED | _TRANSPARENCY)
    return pictures


def _directory(file: BinaryIO, form: _Form, start: int, size: int) -> tuple[int, int]:
    """The subfile type of the directory at `start`, and where the next one is (0: none)."""
    if start >= size:
        raise DataError("a truncated TIFF: its directory lies behind its end")
    file.seek(start)
    (count,) = form.read(file, "Q" if form.big else "H")
    if not 0 < count <= _MOST_TAGS:
        raise DataError(f"a TIFF directory of {count} tags")
    inline = 8 if form.big else 4
    kind, total = 0, 0
    for _ in range(count):
        tag, type_code, number, value = form.read(file, "HHQQ" if form.big else "HHII")
        length = _SIZES.get(type_code, 0) * number
        if length > inline:
            total += length
        elif tag == _SUBFILE_TYPE and number == 1:
            # a short is left-aligned within the field
            shift = 8 * (inline - _SIZES[type_code]) if form.order == ">" else 0
            kind = value >> shift
    if total > size:
        raise DataError(f"a TIFF whose tags hold {total} bytes, the file {size}")
    return kind, form.read(file, "Q" if form.big else "I")[0]
