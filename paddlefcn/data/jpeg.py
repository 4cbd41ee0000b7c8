"""JPEG by imagecodecs: the decoder library is Pillow's, without its copies on the way to an array."""

from __future__ import annotations

import numpy as np

_END = b"\xff\xd9"  # the marker at the end of every complete file
_TAIL = 64  # bytes of padding that writers may leave behind it


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
