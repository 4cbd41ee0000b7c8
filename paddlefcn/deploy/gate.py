"""The gate: an exported program against the live network, before it is put in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from paddlefcn.data.images import Normalize
from paddlefcn.errors import RunError
from paddlefcn.label_maps import label_map

# odd sizes, no multiple of 32 but one, one side and both smaller than 32
PARITY_SIZES = ((17, 23), (64, 96), (31, 157), (113, 75), (135, 201), (241, 187))
LOGIT_TOLERANCE = 1e-4  # of the largest logit
PIXEL_TOLERANCE = 1e-4  # of the pixels of all sizes together


@dataclass(frozen=True)
class Parity:
    """How far an engine's output is from the live network's, over all sizes.

    `largest_logit_error` is relative to the largest logit of the same image; `pixels_differing`
    leaves out ties, pixels whose two classes are closer than the tolerance.
    """

    engine: str
    largest_logit_error: float
    pixels_differing: int
    ties: int
    pixels: int

    @property
    def passed(self) -> bool:
        """Within both tolerances; never for NaN."""
        close = self.largest_logit_error <= LOGIT_TOLERANCE
        return close and self.pixels_differing <= PIXEL_TOLERANCE * self.pixels

    def __str__(self) -> str:
        return (
            f"{self.engine}: largest logit error {self.largest_logit_error:.1e} of the largest "
            f"logit, {self.pixels_differing} of {self.pixels} pixels differ ({self.ties} ties aside)"
        )


def check_parity(
    model: nn.Layer,
    create_engine: Callable[[], Callable[[np.ndarray], np.ndarray]],
    normalize: Normalize,
    name: str,
    sizes: Sequence[tuple[int, int]] = PARITY_SIZES,
) -> Parity:
    """Runs the written program against the live network, in eval mode.

    Args:
        model: returns a list, the main logits [N, num_classes, H, W] first.
        create_engine: loads the program; the engine takes [N, C, H, W] and returns the same logits.
        normalize: tells which values the network is used to.
        name: what the engine is called in the figures.
        sizes: (height, width) of the images.

    Raises:
        RunError: the engine cannot run the program.
    """
    logit_error, differing, ties, pixels = 0.0, 0, 0, 0
    try:
        engine = create_engine()
        for image in parity_images(normalize, sizes):
            with paddle.no_grad():
                live = model(paddle.to_tensor(image[None]))[0].numpy()[0]
            error, apart, tied = compare(live, engine(image[None])[0])
            logit_error = max(logit_error, error) if error == error else float("nan")
            differing, ties, pixels = differing + apart, ties + tied, pixels + live[0].size
            if error != error:
                break
    except (RuntimeError, NotImplementedError, ValueError, OSError) as problem:
        first = " ".join(str(problem).split())[:300]
        raise RunError(f"export: {name} cannot run the program: {first}") from problem
    return Parity(name, logit_error, differing, ties, pixels)


def compare(live: np.ndarray, deployed: np.ndarray) -> tuple[float, int, int]:
    """Largest logit error (relative), pixels that differ, and ties, of two logits [C, H, W]."""
    if live.shape != deployed.shape:
        raise ValueError(f"the program returns shape {deployed.shape}, the network {live.shape}")
    largest = float(np.abs(live).max())
    error = float(np.abs(live - deployed).max())
    ours, theirs = label_map(live), label_map(deployed)
    rows, columns = np.nonzero(ours != theirs)
    best = live[ours[rows, columns], rows, columns]
    margin = best - live[theirs[rows, columns], rows, columns]
    ties = int((margin <= LOGIT_TOLERANCE * largest).sum())
    relative = 0.0 if error == 0 else error / largest if largest else float("inf")
    return relative, len(rows) - ties, ties


def parity_images(normalize: Normalize, sizes: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
    """Blotches with noise, so that there are smooth parts and edges: [C, h, w] normalised."""
    rng = np.random.default_rng(0)
    for height, width in sizes:
        coarse = rng.random((height // 16 + 1, width // 16 + 1, normalize.channels))
        blotches = coarse.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
        noisy = blotches + 0.1 * rng.normal(size=blotches.shape)
        # the range the normalisation expects: as much above zero as scale, or as its mean tells
        top = 255.0 if normalize.scale == 1 else normalize.scale
        yield normalize((np.clip(noisy, 0, 1) * top).astype(np.float32))
