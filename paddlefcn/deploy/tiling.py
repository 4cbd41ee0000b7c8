"""Images of any size in tiles: equal to the whole image where the network allows it, blended elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from paddlefcn.data.scenes import Scene
from paddlefcn.label_maps import label_map, softmax
from paddlefcn.refine.refinement import Refinement


@dataclass(frozen=True)
class Tiling:
    """How a network may be run in tiles.

    Args:
        stride: tiles begin at multiples of this, in pixels.
        halo: pixels around a tile that its inside depends on; a multiple of `stride`.
        exact: whether the inside of a tile with its halo equals the whole image's. If not, every pixel
            sees the whole image, and tiles are windows that are blended.
        largest_logit_error: of the largest logit, as measured with the true weights; None if not measured.
    """

    stride: int
    halo: int
    exact: bool
    largest_logit_error: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= 4096 or not 0 <= self.halo <= 1 << 16 or self.halo % self.stride:
            raise ValueError(f"tiling: stride {self.stride} and halo {self.halo} do not fit together")

    def to_dict(self) -> dict[str, Any]:
        """For deploy.yaml."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tiling:
        """What `to_dict` gave: KeyError, TypeError or ValueError if it is not."""
        error = values.get("largest_logit_error")
        return cls(
            int(values["stride"]),
            int(values["halo"]),
            bool(values["exact"]),
            None if error is None else float(error),
        )

    def inside(self, tile: int) -> int:
        """The side of a tile's inside: what was asked for, rounded up to a multiple of the stride."""
        return -(-tile // self.stride) * self.stride

    def margin(self, tile: int) -> int:
        """Pixels that a tile reads on each side of its inside: the halo, or what windows overlap by."""
        return self.halo if self.exact else -(-self.inside(tile) // (4 * self.stride)) * self.stride


@dataclass(frozen=True)
class Window:
    """The inside of a tile [top, bottom) x [left, right) and where its halo begins and ends."""

    top: int
    bottom: int
    left: int
    right: int
    outer_top: int
    outer_bottom: int
    outer_left: int
    outer_right: int


def rows_of_windows(
    height: int, width: int, inside: int, margin: int, start: int = 0
) -> Iterator[list[Window]]:
    """The tiles of an image, a row at a time, from the row that begins at `start` on."""
    for top in range(start, height, inside):
        bottom = min(top + inside, height)
        outer = max(0, top - margin), min(height, bottom + margin)
        yield [
            Window(
                *(top, bottom, left, min(left + inside, width)),
                *(*outer, max(0, left - margin), min(width, min(left + inside, width) + margin)),
            )
            for left in range(0, width, inside)
        ]


def label_bands(
    scene: Scene,
    run: Callable[[np.ndarray], np.ndarray],
    prepare: Callable[[np.ndarray], np.ndarray],
    tiling: Tiling,
    tile: int,
    *,
    start: int = 0,
    on_tile: Callable[[], None] | None = None,
    refinement: Refinement | None = None,
) -> Iterator[np.ndarray]:
    """The class ids of a scene as bands [rows, width] from top to bottom.

    Args:
        scene: read by windows, the next one while the network is at work.
        run: [1, C, h, w] -> scores [1, num_classes, h, w], or class ids [1, h, w] where `tiling` is exact.
        prepare: a window [h, w, C] -> [C, h, w] float32, pixel by pixel (no resizing).
        tiling: of the network.
        tile: side of a tile's inside; rounded up to the network's stride.
        start: the row of the image to begin with, the end of an earlier band.
        on_tile: called after each tile.
        refinement: what makes class ids of logits, a tile with its margin at a time; small components are
            not its business here.

    Memory: the image of two tiles with their margins and the scores of one; where `tiling` is not exact,
    the scores of a row of windows.
    """
    inside, margin = tiling.inside(tile), tiling.margin(tile)
    rows = rows_of_windows(scene.height, scene.width, inside, margin, start)
    if not tiling.exact:
        yield from _blended_bands(scene, run, prepare, inside, margin, start, on_tile, refinement)
        return
    with _Ahead(scene, prepare) as ahead:
        for row in rows:
            band: np.ndarray | None = None
            for window, pixels, image in ahead.read(row):
                scores = run(image[None])[0]
                if refinement is not None and refinement.options.needs_scores:
                    scores = refinement.probabilities(pixels, scores, gives="logits")
                labels = _inside_labels(scores, window, refinement)
                if band is None:
                    band = np.empty((labels.shape[0], scene.width), labels.dtype)
                band[:, window.left : window.right] = labels
                if on_tile is not None:
                    on_tile()
            assert band is not None
            yield band


def _inside_labels(scores: np.ndarray, window: Window, refinement: Refinement | None) -> np.ndarray:
    top, left = window.top - window.outer_top, window.left - window.outer_left
    rows = slice(top, top + window.bottom - window.top)
    columns = slice(left, left + window.right - window.left)
    if scores.ndim == 2:
        return scores[rows, columns]
    return _labels(scores[:, rows, columns], refinement)


def _labels(scores: np.ndarray, refinement: Refinement | None) -> np.ndarray:
    """Of logits, or of probabilities where unsure pixels are left out."""
    return label_map(scores) if refinement is None else refinement.sure_labels(scores)


def _blended_bands(
    scene: Scene,
    run: Callable[[np.ndarray], np.ndarray],
    prepare: Callable[[np.ndarray], np.ndarray],
    inside: int,
    margin: int,
    start: int,
    on_tile: Callable[[], None] | None,
    refinement: Refinement | None,
) -> Iterator[np.ndarray]:
    """Probabilities of overlapping windows, weighted less and less towards a window's edge."""
    total: np.ndarray | None = None  # [num_classes, rows, width] from the row `done` on
    weight = np.zeros((0, scene.width), np.float32)
    # the row of windows above reaches below `start`: it is computed again, its own band is not given again
    begin = max(0, (start + margin) // inside - 1) * inside if start else 0
    done = max(0, begin - margin)
    with _Ahead(scene, prepare) as ahead:
        for row in rows_of_windows(scene.height, scene.width, inside, margin, begin):
            bottom = row[0].outer_bottom
            for window, pixels, image in ahead.read(row):
                scores = run(image[None])[0]
                if refinement is not None and refinement.options.needs_scores:
                    scores = refinement.probabilities(pixels, scores, gives="logits")
                else:
                    scores = softmax(scores)
                if total is None:
                    total = np.zeros((len(scores), 0, scene.width), np.float32)
                total, weight = _with_rows(total, weight, bottom - done)
                ramp = _ramp(window, scene, 2 * margin)
                rows = slice(window.outer_top - done, window.outer_bottom - done)
                columns = slice(window.outer_left, window.outer_right)
                total[:, rows, columns] += scores * ramp
                weight[rows, columns] += ramp
                if on_tile is not None:
                    on_tile()
            assert total is not None
            # rows that the next row of windows cannot touch
            final = (scene.height if bottom == scene.height else row[0].bottom - margin) - done
            first = max(0, start - done)
            if final > first:
                yield _labels(total[:, first:final] / weight[first:final], refinement)
            total, weight, done = total[:, final:].copy(), weight[final:].copy(), done + final


def _ramp(window: Window, scene: Scene, overlap: int) -> np.ndarray:
    """[h, w] above 0 to 1: 1 inside, falling linearly over the overlap, but not at the image's own edge."""

    def side(begin: int, end: int, length: int) -> np.ndarray:
        places = np.arange(end - begin, dtype=np.float32) + 0.5
        rising = np.ones_like(places) if begin == 0 else np.minimum(1, places / max(1, overlap))
        falling = np.ones_like(places) if end == length else np.minimum(1, places[::-1] / max(1, overlap))
        return np.minimum(rising, falling)

    rows = side(window.outer_top, window.outer_bottom, scene.height)
    return rows[:, None] * side(window.outer_left, window.outer_right, scene.width)


def _with_rows(total: np.ndarray, weight: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    missing = rows - total.shape[1]
    if missing <= 0:
        return total, weight
    more = np.zeros((len(total), missing, total.shape[2]), total.dtype)
    below = np.zeros((missing, weight.shape[1]), weight.dtype)
    return np.concatenate([total, more], axis=1), np.concatenate([weight, below])


class _Ahead:
    """Reads and prepares the next window in a thread, while the network runs over this one."""

    def __init__(self, scene: Scene, prepare: Callable[[np.ndarray], np.ndarray]) -> None:
        self._scene, self._prepare = scene, prepare
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> _Ahead:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def read(self, row: list[Window]) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
        """Each window of the row with its pixels [h, w, C], and prepared [C, h, w]."""
        pending = self._pool.submit(self._window, row[0])
        for index, window in enumerate(row):
            pixels, image = pending.result()
            if index + 1 < len(row):
                pending = self._pool.submit(self._window, row[index + 1])
            yield window, pixels, image

    def _window(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        height, width = window.outer_bottom - window.outer_top, window.outer_right - window.outer_left
        pixels = self._scene.read_window(window.outer_top, window.outer_left, height, width)
        return pixels, self._prepare(pixels)
