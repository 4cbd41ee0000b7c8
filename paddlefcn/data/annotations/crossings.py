"""Outlines that cross themselves: drawn by accident, and filled otherwise than their author thinks."""

from __future__ import annotations

import numpy as np

_AT_ONCE = 1 << 20  # pairs of edges


def first_crossing(ring: np.ndarray) -> tuple[float, float] | None:
    """Where an outline [N, 2] of (x, y), closed, first crosses itself; None if it does not.

    Edges that only touch, or run over each other, do not cross: a bridge to a hole goes there and back.
    """
    start = np.asarray(ring, np.float64)
    along = np.roll(start, -1, axis=0) - start
    rows = max(1, _AT_ONCE // max(1, len(start)))
    for first in range(0, len(start), rows):
        part = slice(first, first + rows)
        others = _sides(start[part], along[part], start)  # [edges of the part, corners of all]
        other_ends = np.roll(others, -1, axis=1)
        begins = _sides(start, along, start[part]).T  # [corners of the part, edges of all]
        ends = _sides(start, along, start[part] + along[part]).T
        crossing = (others * other_ends < 0) & (begins * ends < 0)
        if crossing.any():
            i, j = np.argwhere(crossing)[0]
            share = begins[i, j] / (begins[i, j] - ends[i, j])
            x, y = start[first + i] + share * along[first + i]
            return float(x), float(y)
    return None


def _sides(start: np.ndarray, along: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """[edges, corners]: on which side of an edge's line a corner lies, by sign; 0 is on it."""
    away = corners[None] - start[:, None]
    return along[:, None, 0] * away[:, :, 1] - along[:, None, 1] * away[:, :, 0]
