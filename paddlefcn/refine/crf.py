"""A fully connected CRF that draws the borders of a prediction along the edges of its image.

Krähenbühl and Koltun, Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials, NIPS 2011:
mean field over Q_i(l) ~ exp(log p_i(l) + sum_m w_m sum_j k_m(i, j) Q_j(l)), a Potts model with

    k_smooth     exp(-|x_i - x_j|^2 / 2 smooth_sigma^2)
    k_bilateral  exp(-|x_i - x_j|^2 / 2 bilateral_sigma^2 - |c_i - c_j|^2 / 2 color_sigma^2)

each normalised symmetrically, k(i, j) / sqrt(sum_a k(i, a) sum_b k(j, b)), as the authors' later code and the
tutorials on it do, whose values are the defaults. The smooth kernel is an exact blur, the bilateral one goes
through the permutohedral lattice.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from paddlefcn.refine.permutohedral import Lattice
from paddlefcn.refine.settings import CrfSettings

_LEAST = 1e-5  # of a probability: a class that the network excludes can still be chosen
# pixels of the largest image that is refined at once; about 1 GB with 21 classes
_WHOLE = 1_000_000
_TILE = 768
_MARGIN = 128


class DenseCRF:
    """Refines class probabilities by the image they belong to.

    Args:
        settings: of the kernels and the mean field.
        value_range: what white is in the image's own values: 255 for 8 bits, `normalize.scale` in general.
    """

    def __init__(self, settings: CrfSettings | None = None, value_range: float = 255.0) -> None:
        if not value_range > 0:
            raise ValueError(f"value_range {value_range}: expected a number above 0")
        self.settings = settings or CrfSettings()
        self.value_range = float(value_range)

    def __call__(self, image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """The refined probabilities; large images are refined by overlapping tiles.

        Args:
            image: [H, W, channels] of any number of channels and any numeric type.
            probabilities: [C, H, W] float, of sum 1 over the classes.

        Returns:
            [C, H, W] float32.

        Raises:
            ValueError: the two differ in size.
        """
        height, width = probabilities.shape[1:]
        image = image[:, :, None] if image.ndim == 2 else image
        if image.shape[:2] != (height, width):
            raise ValueError(
                f"image is {image.shape[:2]}, its probabilities {(height, width)}; must be equal"
            )
        if height * width <= _WHOLE:
            return self._refine(image, probabilities)
        result = np.empty(probabilities.shape, np.float32)
        for rows, inner_rows in _spans(height):
            for cols, inner_cols in _spans(width):
                part = self._refine(image[rows, cols], probabilities[:, rows, cols])
                place = (slice(None), _shifted(inner_rows, rows.start), _shifted(inner_cols, cols.start))
                result[:, inner_rows, inner_cols] = part[place]
        return result

    def _refine(self, image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        classes, height, width = probabilities.shape
        log_p = np.log(np.maximum(probabilities.reshape(classes, -1).T, np.float32(_LEAST)), dtype=np.float32)
        log_p = np.ascontiguousarray(log_p)
        kernels = list(self._kernels(image))
        q = _softmax(log_p.copy())
        for _ in range(self.settings.steps if kernels else 0):
            energy = log_p.copy()
            for weight, kernel in kernels:
                energy += np.float32(weight) * kernel(q)
            q = _softmax(energy)
        return np.ascontiguousarray(q.T).reshape(classes, height, width)

    def _kernels(self, image: np.ndarray) -> Iterator[tuple[float, _Normalised]]:
        settings, size = self.settings, image.shape[:2]
        if settings.smooth_weight:
            yield settings.smooth_weight, _Normalised(_Blur(size, settings.smooth_sigma))
        if settings.bilateral_weight:
            rows, cols = np.mgrid[: size[0], : size[1]].astype(np.float32) / np.float32(
                settings.bilateral_sigma
            )
            factor = np.float32(255 / self.value_range / settings.color_sigma)
            colours = np.nan_to_num(image.astype(np.float32)) * factor
            features = np.dstack([cols, rows, colours]).reshape(size[0] * size[1], -1)
            yield settings.bilateral_weight, _Normalised(Lattice(features))


class _Blur:
    """The spatial Gaussian, exact up to four sigmas, with nothing outside of the image."""

    def __init__(self, size: tuple[int, int], sigma: float) -> None:
        self.size, self.points = size, size[0] * size[1]
        reach = np.arange(-int(np.ceil(4 * sigma)), int(np.ceil(4 * sigma)) + 1)
        self.kernel = np.exp(-0.5 * (reach / sigma) ** 2).astype(np.float32)

    def filter(self, values: np.ndarray) -> np.ndarray:
        """[N, C] float32 -> [N, C]."""
        maps = values.reshape(*self.size, -1)
        blurred = cv2.sepFilter2D(maps, cv2.CV_32F, self.kernel, self.kernel, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(blurred).reshape(values.shape)


class _Normalised:
    """A kernel divided by the roots of its row and column sums."""

    def __init__(self, kernel: _Blur | Lattice) -> None:
        self.kernel = kernel
        sums = kernel.filter(np.ones((kernel.points, 1), np.float32))
        self.root = 1 / np.sqrt(np.maximum(sums, np.float32(1e-20)))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """[N, C] float32 -> [N, C]."""
        return self.kernel.filter(values * self.root) * self.root


def _softmax(energy: np.ndarray) -> np.ndarray:
    """Over the last axis, in place."""
    energy -= energy.max(axis=1, keepdims=True)
    np.exp(energy, out=energy)
    energy /= energy.sum(axis=1, keepdims=True)
    return energy


def _spans(length: int) -> Iterator[tuple[slice, slice]]:
    """Overlapping spans of one side, each with the part of it that is kept."""
    step = _TILE - 2 * _MARGIN
    for start in range(0, length, step):
        stop = min(start + step, length)
        yield slice(max(0, start - _MARGIN), min(length, stop + _MARGIN)), slice(start, stop)


def _shifted(span: slice, by: int) -> slice:
    return slice(span.start - by, span.stop - by)
