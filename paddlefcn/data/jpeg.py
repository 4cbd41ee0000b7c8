"""JPEG by imagecodecs: the decoder library is Pillow's, without its copies on the way to an array."""

from __future__ import annotations

import struct

import numpy as np

_END = b"\xff\xd9"  # the marker at the end of every complete file
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive, all with Huffman codes
_EXIF, _ADOBE, _SCAN = 0xE1, 0xEE, 0xDA
_TAIL = 64  # bytes of padding that writers may leave behind it


def plain_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a grey or YCbCr file as cameras and VOC have it.

    None where more has to be thought of: EXIF (an orientation), Adobe's colours, more than 8 bits, CMYK, or
    a file that is no JPEG.
    """
    place = 2
    while data[place : place + 1] == b"\xff" and place + 10 <= len(data):
        kind = data[place + 1]
        if kind in _FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, place + 4)
            return (height, width) if bits == 8 and channels in (1, 3) and height and width else None
        if kind in (_EXIF, _ADOBE) or not 0xC0 <= kind <= 0xFE or kind == _SCAN:
            return None
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def decode_jpeg(data: bytes, height: int, width: int) -> np.ndarray | None:
    """The pixels HxWx3 (RGB) or HxWx1 of a whole grey or colour file, its orientation not applied.

    None where Pillow has to decide: imagecodecs is not installed or refuses the file, there is no end marker
    (truncated: the decoder would fill the rest with grey), or it holds other than height x width pixels.
    """
    if _END not in data[-_TAIL:]:
        return None
    try:
        import imagecodecs
    except ImportError:
        return None
    try:
        array = imagecodecs.jpeg8_decode(data)
    except (imagecodecs.Jpeg8Error, ValueError):
        return None
    if array.shape[:2] != (height, width) or array.dtype != np.uint8:
        return None
    return array if array.ndim == 3 else array[:, :, None]
