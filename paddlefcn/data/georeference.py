"""Where on Earth a picture lies: the tags of GeoTIFF (OGC 19-008), carried from an image to its mask."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

# ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory, GeoDoubleParams, GeoAsciiParams
GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
_DOUBLES, _SHORTS, _TEXT = (33550, 33922, 34264, 34736), (34735,), (34737,)


@dataclasses.dataclass(frozen=True)
class Georeference:
    """The tags as they stand in a file: tag -> (field type, number of values, their bytes, little-endian)."""

    tags: dict[int, tuple[int, int, bytes]]

    @classmethod
    def from_tiff(cls, page: Any) -> Georeference | None:
        """Those of a `tifffile` page; None if it has none, or if they are not of the types they must be."""
        tags = {}
        for code in GEO_TAGS:
            tag = page.tags.get(code)
            if tag is None:
                continue
            try:
                tags[code] = _encoded(code, tag.value)
            except (TypeError, ValueError, struct.error):
                return None
        return cls(tags) if tags else None

    def shifted(self, top: int, left: int) -> Georeference | None:
        """That of a part whose upper left pixel is (top, left) of this picture.

        Tie points move; None where the place is given by a transformation's matrix or several points.
        """
        if (top, left) == (0, 0):
            return self
        points = self.tags.get(33922)
        if points is None or points[1] != 6 or 34264 in self.tags:
            return None
        i, j, *rest = struct.unpack("<6d", points[2])
        moved = struct.pack("<6d", i - left, j - top, *rest)
        return Georeference({**self.tags, 33922: (12, 6, moved)})


def _encoded(code: int, value: Any) -> tuple[int, int, bytes]:
    if code in _TEXT:
        text = value if isinstance(value, bytes) else str(value).encode("utf-8")
        text = text.rstrip(b"\0") + b"\0"
        return 2, len(text), text
    numbers = value if isinstance(value, tuple) else (value,)
    if code in _SHORTS:
        return 3, len(numbers), struct.pack(f"<{len(numbers)}H", *numbers)
    assert code in _DOUBLES
    return 12, len(numbers), struct.pack(f"<{len(numbers)}d", *numbers)
