"""Image files whose decoding takes far more than their bytes and pixels: refused before a decoder sees them.

A few kilobytes of TIFF can name one block in hundreds of tags, each of which a reader copies; a JPEG can
hold thousands of scans, each of which goes over every pixel. Here the tables alone are read.
"""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from paddlefcn.errors import DataError

_MAX_SCANS = 100  # a progressive JPEG has about 10
_MAX_SEGMENTS = 10_000
_MAX_PAGES = 1000
_MAX_TAGS = 1000
_SLACK = 32 << 20  # bytes that tables may name beyond the file's own size
_MAX_TILE = 1 << 24  # pixels
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WIDTH, _HEIGHT, _STRIP_BYTES, _TILE_WIDTH, _TILE_HEIGHT, _TILE_BYTES = 256, 257, 279, 322, 323, 325
# a marker: not a stuffed FF 00, no restart, no fill byte
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def check_image_file(path: Path) -> None:
    """Looks at the tables of a TIFF or JPEG; files of other kinds pass.

    Raises:
        DataError: decoding it would take more memory or time than an image of its size may.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(4)
        if head[:2] == b"\xff\xd8":
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _check_jpeg(data)
        elif head in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _check_tiff(data)


def _check_jpeg(data: mmap.mmap) -> None:
    place, scans = 2, 0
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, place)
        if found is None or found.group() == b"\xff\xd9":
            return
        place = found.end()
        if found.group() == b"\xff\xda":
            scans += 1
            if scans > _MAX_SCANS:
                raise DataError(f"a JPEG of more than {_MAX_SCANS} scans; save it anew")
        if place + 2 > len(data):
            return
        place += int.from_bytes(data[place : place + 2], "big")
    raise DataError(f"a JPEG of more than {_MAX_SEGMENTS} segments; save it anew")


@dataclass(frozen=True)
class _Layout:
    """Where a TIFF's numbers stand: classic, or BigTIFF with its wider ones."""

    order: str
    big: bool

    def number(self, data: mmap.mmap, place: int, kind: str) -> int:
        return int(struct.unpack_from(self.order + kind, data, place)[0])

    @property
    def offset(self) -> str:
        return "Q" if self.big else "I"


def _check_tiff(data: mmap.mmap) -> None:
    layout = _Layout("<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+"))
    try:
        place = layout.number(data, 8 if layout.big else 4, layout.offset)
        named, seen = 0, set()
        while place and place not in seen:
            seen.add(place)
            if len(seen) > _MAX_PAGES:
                raise DataError(f"a TIFF of more than {_MAX_PAGES} pages; save them as single files")
            size, place = _check_page(data, layout, place)
            named += size
            if named > len(data) + _SLACK:
                raise DataError(f"a TIFF whose tags name {named} bytes in a file of {len(data)}; save it anew")
    except struct.error:
        return  # cut short: the decoder says so


def _check_page(data: mmap.mmap, layout: _Layout, place: int) -> tuple[int, int]:
    """Bytes that the page's tags name, and the next page's place."""
    count = layout.number(data, place, "Q" if layout.big else "H")
    place += 8 if layout.big else 2
    if count > _MAX_TAGS:
        raise DataError(f"a TIFF page of {count} tags; at most {_MAX_TAGS} are read")
    entry, named, sizes = 20 if layout.big else 12, 0, {}
    for _ in range(count):
        tag, kind = layout.number(data, place, "H"), layout.number(data, place + 2, "H")
        number = layout.number(data, place + 4, layout.offset)
        value = place + (12 if layout.big else 8)
        length = number * _SIZES.get(kind, 1)
        if length > (8 if layout.big else 4):
            named += length
            value = layout.number(data, value, layout.offset)
        if tag in (_STRIP_BYTES, _TILE_BYTES):
            _check_blocks(data, layout, kind, number, value)
        elif number == 1 and kind in (3, 4, 16):
            sizes[tag] = layout.number(data, value, {3: "H", 4: "I", 16: "Q"}[kind])
        place += entry
    tile = sizes.get(_TILE_WIDTH, 0) * sizes.get(_TILE_HEIGHT, 0)
    if tile > max(_MAX_TILE, 4 * sizes.get(_WIDTH, 0) * sizes.get(_HEIGHT, 0)):
        raise DataError(f"a TIFF with tiles of {tile} pixels; save it anew")
    return named, layout.number(data, place, layout.offset)


def _check_blocks(data: mmap.mmap, layout: _Layout, kind: int, number: int, place: int) -> None:
    """Refuses strips or tiles that name the same bytes again and again, each to be decoded."""
    code = {3: "H", 4: "I", 16: "Q"}.get(kind)
    if code is None or number * struct.calcsize(code) > len(data):
        return  # the decoder refuses it
    total = sum(struct.unpack_from(f"{layout.order}{number}{code}", data, place))
    if total > 2 * len(data) + _SLACK:
        raise DataError(f"a TIFF whose blocks name {total} bytes in a file of {len(data)}; save it anew")
