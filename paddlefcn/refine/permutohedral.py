"""Gaussian filtering in many dimensions on the permutohedral lattice.

Adams, Baek, Davis, Fast High-Dimensional Filtering Using the Permutohedral Lattice, Eurographics 2010. Every
point gives its value to the d + 1 corners of its simplex (splat), the corners are blurred along d + 1
directions, and every point takes its value back (slice): a cost that grows linearly with the points.
"""

from __future__ import annotations

import numpy as np

try:  # three times as fast; without it the same sums in numpy
    from scipy import sparse
except ImportError:
    sparse = None


class Lattice:
    """The lattice of points at `features` [N, d], in units of the Gaussian's standard deviation."""

    def __init__(self, features: np.ndarray) -> None:
        points = np.asarray(features, np.float32)
        self.points, self.dimensions = points.shape
        base, rank, shares = _simplices(points)
        # few simplices hold many points: the corners are looked for among those alone
        _, first, simplex = np.unique(_simplex_hash(base, rank), return_index=True, return_inverse=True)
        hashes = _corner_hashes(base[first], rank[first])
        known, corner = np.unique(hashes.ravel(), return_inverse=True)
        self.corners = len(known)
        self._neighbours = _neighbours(known, self.dimensions)
        spread = _Runs if sparse is None else _Matrix
        self._spread = spread(corner.reshape(hashes.shape), simplex.ravel(), shares, self.corners)

    def filter(self, values: np.ndarray) -> np.ndarray:
        """sum_j exp(-|f_i - f_j|^2 / 2) values_j up to a factor: [N, C] float32 -> [N, C]."""
        held = self._spread.splat(values)
        for before, after in self._neighbours:
            # the last row is what a corner that is not there holds: nothing
            held[:-1] += np.float32(0.5) * (held[before] + held[after])
        return self._spread.slice(held)


def _simplices(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each point the simplex's lowest corner [N, d], the ranks [N, d] in it, and its shares [N, d + 1]."""
    count, d = points.shape
    elevated = _elevated(points)
    base = np.rint(elevated / (d + 1))
    total = base.sum(axis=1).astype(np.int32)
    base *= d + 1
    rest = elevated - base
    rank = np.zeros((count, d + 1), np.int32)
    for i in range(d + 1):
        for j in range(i + 1, d + 1):
            less = rest[:, i] < rest[:, j]
            rank[:, i] += less
            rank[:, j] += ~less
    rank += total[:, None]
    shift = (d + 1) * ((rank < 0).astype(np.int32) - (rank > d))
    rank += shift
    base += shift
    falling = np.sort((elevated - base) / np.float32(d + 1), axis=1)[:, ::-1]
    shares = np.empty((count, d + 1), np.float32)
    shares[:, 0] = 1 + falling[:, d] - falling[:, 0]
    shares[:, 1:] = (falling[:, :-1] - falling[:, 1:])[:, ::-1]
    return base[:, :d].astype(np.int64), rank[:, :d], shares


def _corner_hashes(base: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """A hash of each corner [S, d + 1] of simplices."""
    d = base.shape[1]
    factors = _factors(d)
    start = base.astype(np.uint64) @ factors
    steps = factors.sum(dtype=np.uint64) * np.arange(d + 1, dtype=np.uint64)
    hashes = np.empty((len(base), d + 1), np.uint64)
    for corner in range(d + 1):
        # a coordinate of corner r is its base + r, less d + 1 where its rank is above d - r
        wrapped = (rank > d - corner).astype(np.uint64) @ factors
        hashes[:, corner] = start + steps[corner : corner + 1] - np.uint64(d + 1) * wrapped
    return hashes


def _simplex_hash(base: np.ndarray, rank: np.ndarray) -> np.ndarray:
    factors = _factors(2 * base.shape[1])
    d = base.shape[1]
    return base.astype(np.uint64) @ factors[:d] + rank.astype(np.uint64) @ factors[d:]


def _elevated(points: np.ndarray) -> np.ndarray:
    """The points on the plane of d + 1 coordinates whose sum is 0, scaled so that the blur has variance 1."""
    d = points.shape[1]
    index = np.arange(d)
    scaled = points * ((d + 1) * np.sqrt(2 / 3) / np.sqrt((index + 1) * (index + 2))).astype(np.float32)
    # coordinate i is the sum of the scaled ones from i on, less i times the one before
    sums = np.cumsum(scaled[:, ::-1], axis=1)[:, ::-1]
    elevated = np.zeros((len(points), d + 1), np.float32)
    elevated[:, :d] = sums
    elevated[:, 1:] -= scaled * (index + 1).astype(np.float32)
    return elevated


def _factors(d: int) -> np.ndarray:
    """Random odd factors: the hash of a corner is linear in its coordinates, so neighbours' follow from it.

    Two of a million corners meet with a probability of 3e-8.
    """
    return np.random.default_rng(0).integers(0, 2**63, d, np.uint64) * np.uint64(2) + np.uint64(1)


def _neighbours(known: np.ndarray, d: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each direction, the places of every corner's two neighbours; `len(known)` where there is none."""
    # along direction j a coordinate changes by -1, the j-th by d; the last one is not in the hash
    steps = np.zeros(d + 1, np.uint64) - _factors(d).sum(dtype=np.uint64)
    steps[:d] += np.uint64(d + 1) * _factors(d)
    return [(_places(known, known + step), _places(known, known - step)) for step in steps[:, None]]


def _places(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    index = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[index] == wanted, index, len(known))


class _Runs:
    """Splat and slice in numpy: the points in the order of their simplices, summed run by run."""

    def __init__(self, corner: np.ndarray, simplex: np.ndarray, shares: np.ndarray, corners: int) -> None:
        self.order = np.argsort(simplex, kind="stable")
        self.starts = np.searchsorted(simplex[self.order], np.arange(len(corner)))
        self.corner, self.simplex, self.corners = corner, simplex, corners
        self.ordered, self.shares = shares[self.order], shares
        flat = corner.ravel()
        self.by_corner = np.argsort(flat, kind="stable")
        self.corner_starts = np.searchsorted(flat[self.by_corner], np.arange(corners))

    def splat(self, values: np.ndarray) -> np.ndarray:
        """[N, C] -> [corners + 1, C]."""
        held = np.zeros((self.corners + 1, values.shape[1]), np.float32)
        ordered = values[self.order]
        runs = [np.add.reduceat(ordered * part[:, None], self.starts) for part in self.ordered.T]
        sums = np.stack(runs, axis=1).reshape(-1, values.shape[1])
        np.add.reduceat(sums[self.by_corner], self.corner_starts, out=held[:-1])
        return held

    def slice(self, held: np.ndarray) -> np.ndarray:
        """[corners + 1, C] -> [N, C]."""
        result = np.zeros((len(self.simplex), held.shape[1]), np.float32)
        for part, share in zip(self.corner.T, self.shares.T):
            result += held[part][self.simplex] * share[:, None]
        return result


class _Matrix:
    """Splat and slice as a sparse matrix [points, corners + 1] and its transpose."""

    def __init__(self, corner: np.ndarray, simplex: np.ndarray, shares: np.ndarray, corners: int) -> None:
        ends = np.arange(0, shares.size + 1, shares.shape[1])
        parts = (np.ascontiguousarray(shares).ravel(), corner.astype(np.int32)[simplex].ravel(), ends)
        self.matrix = sparse.csr_matrix(parts, shape=(len(shares), corners + 1))
        self.transposed = self.matrix.T.tocsr()

    def splat(self, values: np.ndarray) -> np.ndarray:
        """[N, C] -> [corners + 1, C]."""
        return np.asarray(self.transposed @ values)

    def slice(self, held: np.ndarray) -> np.ndarray:
        """[corners + 1, C] -> [N, C]."""
        return np.asarray(self.matrix @ held)
