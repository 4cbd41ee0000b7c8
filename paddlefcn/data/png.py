"""Masks from PNG files in the plainest form, as most label tools write them: one byte a pixel, no filter.

Several times as fast as a decoder that has every form to think of. All other files are left to Pillow.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3


def decode_plain_png(data: bytes, max_pixels: int) -> np.ndarray | None:
    """Palette indices or grey values HxWx1, uint8; None unless the file is whole, plain and small enough."""
    if not data.startswith(SIGNATURE) or data[12:16] != b"IHDR" or len(data) < 33:
        return None
    width, height, bits, color, compression, method, interlace = struct.unpack(">IIBBBBB", data[16:29])
    if bits != 8 or color not in (_GREY, _PALETTE) or compression or method or interlace:
        return None
    if not 0 < height * width <= max_pixels:
        return None
    packed = _image_data(data)
    if packed is None:
        return None
    try:
        import imagecodecs
    except ImportError:
        return None
    size = height * (width + 1)
    try:  # into as much as there should be, whatever the file says
        raw = imagecodecs.deflate_decode(packed, out=size)
    except (imagecodecs.DeflateError, ValueError):
        return None
    if len(raw) != size:
        return None
    rows = np.frombuffer(raw, np.uint8).reshape(height, width + 1)  # each row after its filter
    if rows[:, 0].any():
        return None
    return np.ascontiguousarray(rows[:, 1:])[:, :, None]


def _image_data(data: bytes) -> bytes | None:
    """The IDAT chunks' content, every checksum compared; None for a file that is damaged or holds EXIF."""
    parts: list[bytes] = []
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 8 + length
        if end + 4 > len(data) or kind == b"eXIf":  # an orientation may stand in it
            return None
        (checksum,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(data[at + 4 : end]) != checksum:
            return None
        if kind == b"IEND":
            return b"".join(parts)
        if kind == b"IDAT":
            parts.append(data[at + 8 : end])
        at = end + 4
    return None
