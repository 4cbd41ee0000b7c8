"""Weights, images and noise that every environment makes alike: drawn by name, none is stored."""

from __future__ import annotations

import zlib

import numpy as np

STEP = 3  # outputs are kept at every third row and column; 3 shares no factor with any stride


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 tensor of this name: He normal weights, BatchNorm statistics near the usual ones."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith(("running_var", "_variance")):
        value = rng.uniform(0.5, 1.5, shape)
    elif name.endswith(("running_mean", "_mean", "bias")):
        value = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1:
        value = rng.uniform(0.7, 1.3, shape)
    else:
        value = rng.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
    return value.astype("float32")


def image(size: tuple[int, int], channels: int = 3) -> np.ndarray:
    """float32 ``[2,channels,height,width]`` in multiples of 1/8, which every precision holds."""
    rng = np.random.RandomState(size[0] * 1000 + size[1])
    return (rng.randint(-16, 17, (2, channels, *size)) / 8).astype("float32")


def noise(number: int, shape: tuple[int, ...]) -> np.ndarray:
    """What output ``number`` is multiplied with before its mean becomes the loss."""
    return np.random.RandomState(7 + number).standard_normal(shape).astype("float32")
