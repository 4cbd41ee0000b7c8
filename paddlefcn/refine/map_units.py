"""From pixels to the map of a georeferenced image: the affine transform in its GeoTIFF tags (OGC 19-008)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from paddlefcn.data.georeference import Georeference

_SCALE, _TIE, _MATRIX, _KEYS = 33550, 33922, 34264, 34735
_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1025, 2048, 3072
_USER_DEFINED = 32767


@dataclass(frozen=True)
class MapTransform:
    """x = a column + b row + c, y = d column + e row + f, at the upper left corner of a pixel.

    `epsg` is the code of the coordinate system, None where the tags do not name one.
    """

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float
    epsg: int | None = None

    @property
    def pixel_area(self) -> float:
        """Of a pixel, in square map units."""
        return abs(self.a * self.e - self.b * self.d)

    def __call__(self, corners: np.ndarray) -> np.ndarray:
        """[n, 2] of (column, row) -> [n, 2] of (x, y)."""
        column, row = corners[:, 0], corners[:, 1]
        x = self.a * column + self.b * row + self.c
        y = self.d * column + self.e * row + self.f
        return np.stack([x, y], axis=1)

    @classmethod
    def from_georeference(cls, georeference: Georeference | None) -> MapTransform | None:
        """That of the tags; None if they give no affine transform (several tie points, say)."""
        if georeference is None:
            return None
        tags = georeference.tags
        keys = _geo_keys(tags[_KEYS][2]) if _KEYS in tags else {}
        matrix = _doubles(tags, _MATRIX)
        scale, tie = _doubles(tags, _SCALE), _doubles(tags, _TIE)
        if len(matrix) == 16:
            a, b, c, d, e, f = (matrix[i] for i in (0, 1, 3, 4, 5, 7))
        elif len(scale) >= 2 and len(tie) == 6:
            a, b, d, e = scale[0], 0.0, 0.0, -scale[1]
            c, f = tie[3] - a * tie[0], tie[4] - e * tie[1]
        else:
            return None
        if keys.get(_RASTER_TYPE) == 2:  # the tie is the centre of a pixel
            c, f = c - (a + b) / 2, f - (d + e) / 2
        if not np.isfinite([a, b, c, d, e, f]).all() or a * e == b * d:
            return None
        codes = (keys.get(_PROJECTED), keys.get(_GEOGRAPHIC))
        epsg = next((code for code in codes if code and code != _USER_DEFINED), None)
        return cls(a, b, c, d, e, f, epsg)


def _doubles(tags: dict[int, tuple[int, int, bytes]], code: int) -> tuple[float, ...]:
    if code not in tags:
        return ()
    content = tags[code][2]
    return struct.unpack(f"<{len(content) // 8}d", content[: len(content) // 8 * 8])


def _geo_keys(content: bytes) -> dict[int, int]:
    """The keys whose value stands in the directory itself."""
    shorts = struct.unpack(f"<{len(content) // 2}H", content[: len(content) // 2 * 2])
    entries = (shorts[i : i + 4] for i in range(4, len(shorts) - 3, 4))
    return {key: value for key, place, _, value in entries if place == 0}
