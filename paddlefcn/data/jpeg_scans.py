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
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15, without tables and reserved ones
_SEQUENTIAL = (0xC0, 0xC1)
_WITH_LENGTH = {*range(0xC0, 0xFF)} - {*range(0xD0, 0xDA)}  # a restart, a start and an end have none
_HEAD_SEGMENTS = 100
_START, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


def is_jpeg(head: bytes) -> bool:
    """Whether the first bytes are those of a JPEG."""
    return head[:2] == _START


def check_scans(data: bytes) -> None:
    """Counts the scans of a JPEG (bytes, or a map of its file) up to its end.

    Raises:
        DataError: more scans or segments than any picture has.
    """
    if _has_one_scan(data):
        return
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


def _has_one_scan(data: bytes) -> bool:
    """Whether the first scan of a sequential JPEG holds every component: decoders refuse to read a second.

    Most files are like this, and their heads are quickly read; what is not plain says False.
    """
    place, components = 2, 0
    for _ in range(_HEAD_SEGMENTS):
        segment = data[place : place + 10]
        if len(segment) < 10 or segment[0] != 0xFF or segment[1] not in _WITH_LENGTH:
            return False
        length = int.from_bytes(segment[2:4], "big")
        if length < 2:
            return False
        if segment[1] == _SCAN[1]:
            return segment[4] == components
        if segment[1] in _FRAMES:
            components = segment[9] if segment[1] in _SEQUENTIAL else 0
        place += 2 + length
    return False
