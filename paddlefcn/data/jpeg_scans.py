"""JPEG files whose decoding takes minutes for a few kilobytes: refused before a decoder sees them.

A progressive JPEG may hold thousands of scans, each of which goes over every pixel again.
"""

from __future__ import annotations

import re

from paddlefcn.errors import DataError

_MAX_SCANS = 100  # a progressive JPEG has about 10
_MAX_SEGMENTS = 10_000
# a marker: not a stuffed FF 00, no restart, no fill byte (ITU T.81, annex B)
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_START, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


def is_jpeg(head: bytes) -> bool:
    """Whether the first bytes are those of a JPEG."""
    return head[:2] == _START


def check_scans(data: bytes) -> None:
    """Counts the scans of a JPEG (bytes, or a map of its file) up to its end.

    Raises:
        DataError: more scans or segments than any picture has.
    """
    place, scans = 2, 0
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, place)
        if found is None or found.group() == _END:
            return  # what stands behind the end (a film, a map of depth) is not decoded
        scans += found.group() == _SCAN
        if scans > _MAX_SCANS:
            raise DataError(f"a JPEG of more than {_MAX_SCANS} scans; save it anew")
        length = data[found.end() : found.end() + 2]
        if len(length) < 2:
            return
        place = found.end() + int.from_bytes(length, "big")
    raise DataError(f"a JPEG of more than {_MAX_SEGMENTS} segments; save it anew")
