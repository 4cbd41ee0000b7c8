"""From scores to class ids at the size asked for.

Shared by evaluation, prediction and deployment, so that all three decide alike. Numpy only.
"""

from __future__ import annotations

import numpy as np

# output pixels of one block times classes: bounds the memory of enlarged scores to about 64 MB
_BLOCK_VALUES = 4_000_000


def label_map(scores: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
    """The class of the highest score of each pixel, the lowest id among equals.

    Args:
        scores: [C, h, w] float.
        size: (height, width) of the result; if it differs from (h, w), the scores are resized
            bilinearly (half-pixel centres, edges repeated) before the decision, a block of rows
            at a time, so that the memory does not grow with the size.

    Returns:
        [height, width], uint8 for up to 256 classes, int32 beyond.
    """
    height, width = size or scores.shape[1:]
    kind = np.uint8 if len(scores) <= 256 else np.int32
    result = np.empty((height, width), kind)
    rows = max(1, _BLOCK_VALUES // max(1, len(scores) * width))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        result[top:bottom] = _best(_resized_rows(scores, top, bottom, (height, width)))
    return result


def resized_scores(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[C, h, w] -> [C, *size], bilinearly, as `label_map` resizes before the decision."""
    return _resized_rows(scores, 0, size[0], size)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Logits to probabilities over the first axis."""
    powers = np.exp(scores - scores.max(axis=0))
    return powers / powers.sum(axis=0)


def _resized_rows(scores: np.ndarray, top: int, bottom: int, size: tuple[int, int]) -> np.ndarray:
    """Rows top..bottom of the scores as they are at `size`: [C, bottom - top, width]."""
    if scores.shape[1:] == tuple(size):
        return scores[:, top:bottom]
    low, high, share = _positions(scores.shape[1], size[0], top, bottom)
    part = scores[:, low] * (1 - share)[:, None] + scores[:, high] * share[:, None]
    low, high, share = _positions(scores.shape[2], size[1], 0, size[1])
    return part[:, :, low] * (1 - share) + part[:, :, high] * share


def _positions(have: int, want: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two inputs between which each of the outputs start..stop lies, and the second's share."""
    centre = (np.arange(start, stop, dtype=np.float64) + 0.5) * (have / want) - 0.5
    centre = np.clip(centre, 0, have - 1)
    low = np.floor(centre).astype(np.int64)
    return low, np.minimum(low + 1, have - 1), (centre - low).astype(np.float32)


def _best(scores: np.ndarray) -> np.ndarray:
    """argmax over the first axis; faster than numpy's, which walks across memory."""
    best = scores.max(axis=0)
    result = np.zeros(best.shape, np.uint8 if len(scores) <= 256 else np.int32)
    for index in range(len(scores) - 1, -1, -1):
        np.copyto(result, index, where=scores[index] == best)
    return result
