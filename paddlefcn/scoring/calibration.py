"""Whether a probability of 0.8 is right in 80 of 100 pixels: reliability, its error, and a temperature.

Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017: the expected calibration
error over 15 bins (section 2), and one temperature for all logits (section 4.2), found where the likelihood
of held-out pixels is highest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

BINS = 15
_LOWEST, _HIGHEST = 0.05, 20.0  # of a temperature that is looked for


@dataclass(frozen=True)
class Bin:
    """Pixels whose class has a probability within low..high: how many, its mean, the share that is right."""

    low: float
    high: float
    pixels: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Reliability:
    """How far probabilities are from the shares that are right; `nll` is the mean over pixels, in nats."""

    expected_calibration_error: float | None
    nll: float | None
    pixels: int
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**asdict(self), "bins": [asdict(each) for each in self.bins]}


class ReliabilityCounter:
    """Collects pixels for a reliability table."""

    def __init__(self, bins: int = BINS) -> None:
        self.bins = bins
        self._pixels, self._confidence, self._right = np.zeros(bins), np.zeros(bins), np.zeros(bins)
        self._nll = 0.0

    def add(self, probabilities: np.ndarray, labels: np.ndarray) -> None:
        """Pixels with their truth: [n, C] of sum 1, and [n] class ids."""
        confidence = probabilities.max(axis=1).astype(np.float64)
        right = probabilities.argmax(axis=1) == labels
        place = np.minimum((confidence * self.bins).astype(np.int64), self.bins - 1)
        for sums, weights in ((self._pixels, None), (self._confidence, confidence), (self._right, right)):
            sums += np.bincount(place, weights, minlength=self.bins)
        of_truth = probabilities[np.arange(len(labels)), labels]
        self._nll -= float(np.log(np.maximum(of_truth, 1e-12), dtype=np.float64).sum())

    def result(self) -> Reliability:
        """The table so far."""
        total = float(self._pixels.sum())
        rows = []
        for index in range(self.bins):
            pixels = float(self._pixels[index])
            confidence = self._confidence[index] / pixels if pixels else None
            accuracy = self._right[index] / pixels if pixels else None
            rows.append(Bin(index / self.bins, (index + 1) / self.bins, int(pixels), confidence, accuracy))
        error = float(np.abs(self._confidence - self._right).sum()) / total if total else None
        return Reliability(error, self._nll / total if total else None, int(total), tuple(rows))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that makes the labels likeliest, within 0.05 to 20.

    The mean negative log likelihood is convex in 1 / T, so a search by golden sections finds its minimum.

    Args:
        logits: [n, C].
        labels: [n] class ids.

    Raises:
        ValueError: no pixel.
    """
    if not len(labels):
        raise ValueError("no labelled pixel to fit a temperature on")
    centred = (logits - logits.max(axis=1, keepdims=True)).astype(np.float32)
    of_truth = centred[np.arange(len(labels)), labels].astype(np.float64)

    def loss(log_t: float) -> float:
        inverse = np.float32(np.exp(-log_t))
        normaliser = np.log(np.exp(centred * inverse).sum(axis=1), dtype=np.float64)
        return float((normaliser - of_truth * float(inverse)).mean())

    low, high = np.log(_LOWEST), np.log(_HIGHEST)
    ratio = (np.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-4:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return float(np.exp((low + high) / 2))
