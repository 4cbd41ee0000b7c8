"""How sure scores are: every score again under other weights of the images, from counts per image.

A score over a split is a function of sums over its images. Drawing the images again with replacement
(the bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13) or exchanging
two predictions of an image by chance (the permutation test, chapter 15) changes only the weights in
these sums, so one function of counts and weights serves both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np

LEVEL = 0.95
RESAMPLES = 1000
PERMUTATIONS = 10_000
REGION_SCORES = ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou", "mean_dice")
BORDER_SCORES = ("boundary_iou", "boundary_f1", "normalised_surface_distance", "hausdorff95")
# border scores are summed as multiples of this: then, as for pixels, every sum is exact in double precision
# and no order of additions (which BLAS chooses by the alignment of memory) changes a digit
_GRAIN = 2.0**-20
_ROWS = 200  # weightings at a time: bounds the memory for splits of many images


@dataclass(frozen=True)
class Counts:
    """What each image of a split adds to the scores: arrays [images, classes] but for `trimap`.

    `true`, `predicted` and `hit` are pixels of each class, void left out. The rest is there if border
    scores were counted (see paddlefcn.borders): pixels near contours, F1, surface distance and Hausdorff
    distance with NaN where a class has none; `trimap` is [images, width, (true, predicted, hit), class].
    """

    true: np.ndarray
    predicted: np.ndarray
    hit: np.ndarray
    band_true: np.ndarray | None = None
    band_predicted: np.ndarray | None = None
    band_hit: np.ndarray | None = None
    f1: np.ndarray | None = None
    nsd: np.ndarray | None = None
    hausdorff95: np.ndarray | None = None
    trimap: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.true)

    def followed_by(self, other: Counts) -> Counts:
        """The images of both; border counts if both have them."""
        joined = {}
        for field in fields(self):
            first, second = getattr(self, field.name), getattr(other, field.name)
            joined[field.name] = None if first is None or second is None else np.concatenate([first, second])
        return Counts(**joined)  # type: ignore[arg-type]  # the first three are never None


def weighted_scores(counts: Counts, weights: np.ndarray, convention: str = "paper") -> dict[str, np.ndarray]:
    """Every score of a split for each weighting of its images.

    Args:
        counts: of N images and C classes.
        weights: [B, N], how often each image counts.
        convention: see paddlefcn.metrics.

    Returns:
        name -> [B], NaN where nothing is scored; "iou" and "per_class_…" are [B, C]; "trimap" is [B, W].
    """
    parts = [_scores(counts, weights[top : top + _ROWS], convention) for top in range(0, len(weights), _ROWS)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def bootstrap(
    counts: Counts,
    convention: str = "paper",
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """The percentile interval of every score: name -> [2] (or [2, C], [2, W]), NaN where there is none.

    Images are drawn again with replacement `resamples` times; `level` of the scores lie between.
    """
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), resamples)
    tails = [(1 - level) / 2, (1 + level) / 2]
    found = weighted_scores(counts, weights.astype(np.float64), convention)
    return {name: _quantiles(values, tails) for name, values in found.items()}


@dataclass(frozen=True)
class Difference:
    """One score of two sets of predictions of the same images.

    `low` and `high` hold 95 % of the difference B - A over resampled images; `p_value` is the share of
    random exchanges of the two predictions of an image whose difference is as large as the one found.
    """

    score: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float


def paired_differences(
    a: Counts,
    b: Counts,
    convention: str = "paper",
    *,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Difference]:
    """Compares two predictions of the same images, score by score, those that both have.

    Raises:
        ValueError: not the same number of images, or of classes.
    """
    if a.true.shape != b.true.shape:
        raise ValueError(f"{a.true.shape} and {b.true.shape} images and classes; they must be the same")
    both, count = a.followed_by(b), len(a)
    rng = np.random.default_rng(seed)
    once = np.ones((1, count))
    drawn = rng.multinomial(count, np.full(count, 1 / count), resamples).astype(np.float64)

    def gain(for_a: np.ndarray) -> dict[str, np.ndarray]:
        """B - A where `for_a` of [A's, B's] predictions are weighed as A's and the others as B's."""
        halves = np.split(for_a, 2, axis=1)
        first = weighted_scores(both, for_a, convention)
        second = weighted_scores(both, np.concatenate(halves[::-1], axis=1), convention)
        return {name: second[name] - first[name] for name in first if first[name].ndim == 1}

    nothing = np.zeros_like
    spread = gain(np.concatenate([drawn, nothing(drawn)], axis=1))
    chances = []
    for top in range(0, permutations, _ROWS):
        kept = (rng.random((min(_ROWS, permutations - top), count)) < 0.5).astype(np.float64)
        chances.append(gain(np.concatenate([kept, 1 - kept], axis=1)))
    chance = {name: np.concatenate([part[name] for part in chances]) for name in spread}
    scores_a = weighted_scores(both, np.concatenate([once, nothing(once)], axis=1), convention)
    scores_b = weighted_scores(both, np.concatenate([nothing(once), once], axis=1), convention)
    found = []
    for name in spread:
        ours, theirs = float(scores_a[name][0]), float(scores_b[name][0])
        low, high = _quantiles(spread[name], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        # a difference that differs by rounding alone is as large; the pairs as found are one exchange
        as_large = np.abs(chance[name]) >= abs(theirs - ours) - 1e-12
        p_value = (1 + int(as_large.sum())) / (1 + permutations)
        found.append(Difference(name, ours, theirs, theirs - ours, float(low), float(high), p_value))
    return found


def _scores(counts: Counts, weights: np.ndarray, convention: str) -> dict[str, np.ndarray]:
    true, predicted, hit = (weights @ part for part in (counts.true, counts.predicted, counts.hit))
    found = dict(_region_scores(true, predicted, hit, convention))
    if counts.band_true is not None:
        found.update(_border_scores(counts, weights))
    if counts.trimap is not None:
        flat = counts.trimap.reshape(len(counts), -1)
        sums = (weights @ flat).reshape(len(weights), *counts.trimap.shape[1:])
        true, predicted, hit = (sums[:, :, part] for part in range(3))
        found["trimap"] = _mean(_quotient(hit, true + predicted - hit))
    return found


def _region_scores(
    true: np.ndarray, predicted: np.ndarray, hit: np.ndarray, convention: str
) -> Iterator[tuple[str, np.ndarray]]:
    """As ConfusionMatrix.scores, from [B, C] sums."""
    total = true.sum(axis=1)
    missing = 0.0 if convention == "paddleseg" else np.nan
    iou = _quotient(hit, true + predicted - hit, missing)
    yield "pixel_accuracy", _quotient(hit.sum(axis=1), total)
    yield "mean_accuracy", _mean(_quotient(hit, true, missing))
    yield "mean_iou", _mean(iou)
    yield "frequency_weighted_iou", _quotient((true * np.nan_to_num(iou)).sum(axis=1), total)
    yield "mean_dice", _mean(_quotient(2 * hit, true + predicted, missing))
    yield "iou", iou


def _border_scores(counts: Counts, weights: np.ndarray) -> Mapping[str, np.ndarray]:
    bands = (counts.band_true, counts.band_predicted, counts.band_hit)
    true, predicted, hit = (weights @ part for part in bands if part is not None)
    rows = {"boundary_iou": _quotient(hit, true + predicted - hit)}
    keys = {
        "boundary_f1": counts.f1,
        "normalised_surface_distance": counts.nsd,
        "hausdorff95": counts.hausdorff95,
    }
    for name, values in keys.items():
        assert values is not None  # counted together
        known = ~np.isnan(values)
        exact = np.rint(np.where(known, values, 0.0) / _GRAIN) * _GRAIN
        rows[name] = _quotient(weights @ exact, weights @ known.astype(np.float64))
    means = {name: _mean(values) for name, values in rows.items()}
    return {**means, **{f"per_class_{name}": values for name, values in rows.items()}}


def _quotient(over: np.ndarray, under: np.ndarray, missing: float = np.nan) -> np.ndarray:
    return np.divide(over, under, out=np.full(np.shape(over), missing, np.float64), where=under > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the last axis, NaN left out; NaN if all are."""
    known = ~np.isnan(values)
    return _quotient(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


def _quantiles(values: np.ndarray, shares: list[float]) -> np.ndarray:
    """Over the first axis, NaN left out."""
    flat = values.reshape(len(values), -1)
    columns = (column[~np.isnan(column)] for column in flat.T)
    found = [np.quantile(known, shares) if len(known) else np.full(len(shares), np.nan) for known in columns]
    return np.stack(found, axis=1).reshape(len(shares), *values.shape[1:])
