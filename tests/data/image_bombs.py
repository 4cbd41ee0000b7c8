"""Image files of a few kilobytes whose decoding takes gigabytes or minutes."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def tiff(entries: list[tuple[int, int, int, int]], body: bytes, order: str = "<") -> bytes:
    """A classic TIFF: the body first, then one page of (tag, kind, number, value)."""
    body += b"\0" * (len(body) % 2)
    start = 8 + len(body)
    shift = 16 if order == ">" else 0  # a short stands at the field's left
    rows = [(tag, kind, n, value << shift if kind == 3 else value) for tag, kind, n, value in sorted(entries)]
    table = b"".join(struct.pack(order + "HHII", *row) for row in rows)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return head + body + struct.pack(order + "H", len(entries)) + table + b"\0\0\0\0"


def sizes(height: int, width: int, *, bits: int = 8, samples: int = 1, compression: int = 1):
    """The entries that every image has."""
    found = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, compression)]
    return [*found, (262, 3, 1, 1), (277, 3, 1, samples)]


def many_tags(count: int = 400, block: int = 1 << 20) -> bytes:
    """Every tag names the same block."""
    data = [(40000 + index, 7, block, 8) for index in range(count)]
    return tiff([*sizes(1, 1), (273, 4, 1, 8), (279, 4, 1, 1), *data], bytes(block))


def many_numbers(count: int = 400, block: int = 1 << 20, samples: int = 9) -> bytes:
    """So many samples that Pillow hands over to the reader of this library."""
    data = [(40000 + index, 1, block, 8) for index in range(count)]
    shape = sizes(1, 1, samples=samples)
    return tiff([*shape, (273, 4, 1, 8), (279, 4, 1, samples), *data], bytes(block))


def shared_strips(rows: int = 5000, empty: int = 1 << 20, samples: int = 9) -> bytes:
    """Every row is the same megabyte of deflated nothing."""
    nothing = b"\x78\x01" + b"\0\0\0\xff\xff" * (empty // 5)
    offsets = struct.pack(f"<{rows}I", *[8] * rows)
    counts = struct.pack(f"<{rows}I", *[len(nothing)] * rows)
    place = 8 + len(nothing)
    entries = [(273, 4, rows, place), (278, 4, 1, 1), (279, 4, rows, place + len(offsets))]
    shape = sizes(rows, 4, samples=samples, compression=8)
    return tiff([*shape, *entries], nothing + offsets + counts)


def huge_tile(side: int = 30_000) -> bytes:
    """An image of one pixel in a tile of 900 million."""
    body = zlib.compress(bytes(1000))
    tile = [(322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 8), (325, 4, 1, len(body))]
    return tiff([*sizes(1, 1, compression=8), *tile], body)


def deflated_strip(megabytes: int = 400) -> bytes:
    """One row whose strip inflates to 400 MB."""
    squeeze = zlib.compressobj(9)
    body = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(megabytes)) + squeeze.flush()
    return tiff([*sizes(1, 4, compression=8), (273, 4, 1, 8), (279, 4, 1, len(body))], body)


def scans_in_a_tiff() -> bytes:
    """The JPEG of many scans as a strip."""
    body = many_scans(3000, 1000)
    entries = [(273, 4, 1, 8), (278, 4, 1, 1000), (279, 4, 1, len(body))]
    return tiff([*sizes(1000, 1000, compression=7), *entries], body)


def endless_pages() -> bytes:
    """Thousands of pages."""
    content = tiff([*sizes(1, 1), (273, 4, 1, 8), (279, 4, 1, 1)], bytes(2))
    page = content[10:-4]
    result = content[:-4]
    for _ in range(3000):
        result += struct.pack("<I", len(result) + 4) + page
    return result + b"\0\0\0\0"


def many_scans(count: int = 3000, side: int = 1000) -> bytes:
    """A progressive JPEG that refines every pixel again and again."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 2, (side, side), np.uint8) * 20
    Image.fromarray(noise).save(stream, "JPEG", progressive=True, quality=10)
    content = stream.getvalue()
    start = content.rindex(b"\xff\xda")
    head = 2 + int.from_bytes(content[start + 2 : start + 4], "big")
    scan = content[start : start + head]
    return content[:start] + scan * count + b"\xff\xd9"


def many_segments(count: int = 200_000) -> bytes:
    """Comments without text."""
    stream = io.BytesIO()
    Image.new("L", (4, 4)).save(stream, "JPEG")
    content = stream.getvalue()
    return content[:2] + b"\xff\xfe\x00\x02" * count + content[2:]


BOMBS = {
    "tags on one block.tif": many_tags,
    "numbers on one block.tif": many_numbers,
    "strips on one block.tif": shared_strips,
    "a huge tile.tif": huge_tile,
    "a deflated strip.tif": deflated_strip,
    "thousands of scans.tif": scans_in_a_tiff,
    "thousands of pages.tif": endless_pages,
    "thousands of scans.jpg": many_scans,
    "thousands of segments.jpg": many_segments,
}
