"""Pictures that stand in two splits in disguise: mirrored, encoded anew, scaled, cropped to four fifths.

Small grey copies are compared: first every window of one picture with the other one as a whole, at 8x8
cells (one matrix product), then what looks alike by its details, with the window's edges moved until they
fit best.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

SIDE = 64  # of the small copies, in pixels
_CELLS = 8
_STEP = 3  # between windows, in pixels of a small copy
_SMALLEST = 0.77 * SIDE * SIDE  # crops that keep 80 % of the area, with room for their rounding
_ALIKE = 0.9  # correlation of the cells from which two pictures are looked at closely
_SAME_DETAILS = 0.75  # correlation of the details from which they are one picture
_MOST_LOOKS = 8  # pictures of the other set that one picture is compared with closely
_LEAST_KEPT = 0.72  # of the area, once the window fits; a fifth may be missing
_DETAIL_SIDE = 48
_FLAT = 4.0  # grey levels; pictures with less contrast have nothing to compare
_BLOCK = 256  # pictures whose windows are compared at once
_FLIPS = ((1, 1), (1, -1), (-1, 1), (-1, -1))


@dataclasses.dataclass(frozen=True)
class Likeness:
    """Two pictures, by their places, and how the second was made of the first (or the first of it)."""

    first: int
    second: int
    mirrored: bool
    kept: float  # share of the larger one's area
    score: float  # correlation of the details, up to 1

    def words(self) -> str:
        """How the two differ."""
        how = [
            *(["mirrored"] if self.mirrored else []),
            *([f"cropped to {self.kept:.0%}"] if self.kept < 0.97 else []),
        ]
        return ", ".join(how) or "scaled or encoded anew"


def small_copy(image: np.ndarray) -> np.ndarray:
    """An image HxWxC of any range as SIDE x SIDE grey levels of uint8, its contrast stretched."""
    plane = image[:, :, :3].mean(axis=2, dtype=np.float32) if image.shape[2] > 1 else image[:, :, 0]
    small = cv2.resize(np.asarray(plane, np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    low, high = float(small.min()), float(small.max())
    span = 255 / (high - low) if high > low else 0.0
    if image.dtype == np.uint8:
        low, span = 0.0, 1.0  # a dull picture stays dull
    return np.clip((small - low) * span, 0, 255).astype(np.uint8)


def find_near_duplicates(first: np.ndarray, second: np.ndarray) -> list[Likeness]:
    """Pairs of pictures of two sets that are one picture.

    Args:
        first, second: small copies [N, SIDE, SIDE] and [M, SIDE, SIDE] (`small_copy`).

    Returns:
        The pairs in the order of `second`; the best likeness of each picture of `second`.
    """
    best: dict[int, Likeness] = {}
    for swapped, (large, whole) in enumerate(((first, second), (second, first))):
        for i, j, window, flip in _candidates(large, whole):
            score, kept = _details(large[i], window, whole[j][:: flip[0], :: flip[1]])
            if score < _SAME_DETAILS or kept < _LEAST_KEPT:
                continue
            places = (j, i) if swapped else (i, j)
            found = Likeness(*places, flip != (1, 1), kept, score)
            if places[1] not in best or score > best[places[1]].score:
                best[places[1]] = found
    return [best[index] for index in sorted(best)]


def _windows() -> list[tuple[int, int, int, int]]:
    """(top, left, height, width) of every window that is compared."""
    sizes = range(SIDE, SIDE // 2, -_STEP)
    return [
        (top, left, height, width)
        for height in sizes
        for width in sizes
        if height * width >= _SMALLEST
        for top in range(0, SIDE - height + 1, _STEP)
        for left in range(0, SIDE - width + 1, _STEP)
    ]


def _candidates(
    large: np.ndarray, whole: np.ndarray
) -> list[tuple[int, int, tuple[int, ...], tuple[int, int]]]:
    """(picture of `large`, picture of `whole`, window of the former, flip of the latter) that look alike."""
    windows = _windows()
    flipped = np.concatenate([_cells(whole[:, ::dy, ::dx]) for dy, dx in _FLIPS])  # [4 M, cells]
    found: dict[int, list[tuple[float, int, tuple[int, ...], tuple[int, int]]]] = {}
    for start in range(0, len(large), _BLOCK):
        block = large[start : start + _BLOCK]
        best = np.full((len(block), len(flipped)), -1.0, np.float32)
        which = np.zeros(best.shape, np.int16)
        for number, (top, left, height, width) in enumerate(windows):
            likeness = _cells(block[:, top : top + height, left : left + width]) @ flipped.T
            better = likeness > best
            np.copyto(best, likeness, where=better)
            which[better] = number
        for i, column in zip(*np.nonzero(best >= _ALIKE)):
            flip, j = divmod(int(column), len(whole))
            look = (float(best[i, column]), start + int(i), windows[which[i, column]], _FLIPS[flip])
            found.setdefault(j, []).append(look)
    return [
        (i, j, window, flip)
        for j, looks in sorted(found.items())
        for _, i, window, flip in sorted(looks, reverse=True)[:_MOST_LOOKS]
    ]


def _cells(pictures: np.ndarray) -> np.ndarray:
    """[N, h, w] -> [N, cells], each of mean 0 and length 1; 0 for pictures without contrast."""
    rows, columns = (_shares(size) for size in pictures.shape[1:])
    cells = np.einsum("ah,nhw,bw->nab", rows, pictures.astype(np.float32), columns, optimize=True)
    flat = cells.reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(length < _FLAT * _CELLS, 0, flat / np.maximum(length, 1e-6)).astype(np.float32)


def _shares(size: int) -> np.ndarray:
    """[cells, size]: how much of a cell each pixel makes up."""
    edges = np.linspace(0, size, _CELLS + 1)
    pixels = np.arange(size)
    low = np.maximum(edges[:-1, None], pixels)
    high = np.minimum(edges[1:, None], pixels + 1)
    return (np.maximum(high - low, 0) / (size / _CELLS)).astype(np.float32)


def _details(large: np.ndarray, window: tuple[int, ...], whole: np.ndarray) -> tuple[float, float]:
    """The best correlation of the details near a window, and the share of `large` that it keeps."""
    wanted = _fine(
        cv2.resize(whole.astype(np.float32), (_DETAIL_SIDE, _DETAIL_SIDE), interpolation=cv2.INTER_AREA)
    )
    picture = large.astype(np.float32)
    top, left, height, width = window
    edges = [float(top), float(left), float(top + height), float(left + width)]
    best = _correlation(picture, edges, wanted)
    for step in (1.5, 0.75, 0.4):
        for _ in range(2):
            for place in range(4):
                for shift in (-step, step):
                    moved = [*edges]
                    moved[place] = float(np.clip(moved[place] + shift, 0, SIDE))
                    score = _correlation(picture, moved, wanted)
                    if score > best:
                        best, edges = score, moved
    return best, (edges[2] - edges[0]) * (edges[3] - edges[1]) / SIDE**2


def _correlation(picture: np.ndarray, edges: list[float], wanted: np.ndarray) -> float:
    top, left, bottom, right = edges
    down, across = (bottom - top) / _DETAIL_SIDE, (right - left) / _DETAIL_SIDE
    if min(down, across) <= 0.5:
        return -1.0
    matrix = np.array([[across, 0, left + across / 2 - 0.5], [0, down, top + down / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    part = cv2.warpAffine(
        picture, matrix, (_DETAIL_SIDE, _DETAIL_SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return float((_fine(part) * wanted).sum())


def _fine(picture: np.ndarray) -> np.ndarray:
    """What is left without the slow changes of brightness, of length 1."""
    details = picture - cv2.GaussianBlur(picture, (0, 0), 3)
    details = details - details.mean()
    return details / max(float(np.linalg.norm(details)), 1e-6)
