"""The gate: a written export against the live network, before it is put in place.

What is compared is what a user of the folder would get: images go through the preprocessing that deploy.yaml
holds, the program as it lies on the disk, and the engine that will run it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle
from paddle import nn

from paddlefcn.data.images import Normalize
from paddlefcn.deploy.targets import TOLERANCES, Tolerances
from paddlefcn.errors import RunError
from paddlefcn.label_maps import label_map
from paddlefcn.metrics import ConfusionMatrix
from paddlefcn.preprocess import Preprocess

# odd sizes, no multiple of 32 but one, one side and both smaller than 32
PARITY_SIZES = ((17, 23), (64, 96), (31, 157), (113, 75), (135, 201), (241, 187))
Run = Callable[[np.ndarray, bool], np.ndarray]


@dataclass(frozen=True)
class Parity:
    """How far an engine's output is from the live network's, over all images.

    `largest_logit_error` is relative to the largest logit of the same image, `spread_error` to the spread of
    its logits; `pixels_differing` leaves out ties, pixels whose two classes are closer than the tolerance.
    The errors are None where the program returns class ids.
    """

    engine: str
    largest_logit_error: float | None
    spread_error: float | None
    pixels_differing: int
    ties: int
    pixels: int
    milliseconds: float | None = None
    tolerances: Tolerances = field(default=TOLERANCES["fp32"], repr=False)

    @property
    def passed(self) -> bool:
        """Within all tolerances; never for NaN."""
        limits = self.tolerances
        close = self.largest_logit_error is None or self.largest_logit_error <= limits.logits
        near = self.spread_error is None or self.spread_error <= limits.spread
        return close and near and self.pixels_differing <= limits.pixels * self.pixels

    def __str__(self) -> str:
        pixels = f"{self.pixels_differing} of {self.pixels} pixels differ ({self.ties} ties aside)"
        if self.largest_logit_error is None:
            return f"{self.engine}: {pixels}"
        error = f"largest logit error {self.largest_logit_error:.1e} of the largest logit"
        return f"{self.engine}: {error}, {pixels}"

    def to_dict(self) -> dict[str, Any]:
        """For deploy.yaml."""
        return {name: value for name, value in vars(self).items() if name != "tolerances"}


def check_parity(
    live: Run,
    load: Callable[[], Run],
    images: Sequence[tuple[np.ndarray, bool]],
    name: str,
    tolerances: Tolerances = TOLERANCES["fp32"],
) -> Parity:
    """Runs a written export against the live network.

    Args:
        live: (image [H, W, C], whether it is resized) -> the network's logits [num_classes, h, w].
        load: loads the export; what it returns gives the same logits, or class ids [h, w].
        images: with whether deployment's resizing is done to it. The program must hold at any size, so that
            most are seen at their own.
        name: what the engine is called in the figures.

    Raises:
        RunError: the engine cannot run the program.
    """
    found = []
    try:
        run = load()
        for image, resized in images:
            expected = live(image, resized)
            actual = run(image, resized)
            found.append((*compare(expected, actual, tolerances.logits), expected[0].size))
        began = time.perf_counter()
        run(image, resized)  # once more: its size is new to no engine now
        seconds = time.perf_counter() - began
    except (RuntimeError, NotImplementedError, ValueError, OSError) as problem:
        first = " ".join(str(problem).split())[:300]
        raise RunError(f"export: {name} cannot run the program: {first}") from problem
    errors, spreads, apart, ties, pixels = zip(*found)
    return Parity(
        engine=name,
        largest_logit_error=None if errors[0] is None else _largest(errors),
        spread_error=None if spreads[0] is None else _largest(spreads),
        pixels_differing=sum(apart),
        ties=sum(ties),
        pixels=sum(pixels),
        milliseconds=round(1000 * seconds, 3),
        tolerances=tolerances,
    )


def _largest(errors: Sequence[float]) -> float:
    """NaN if one is."""
    return float("nan") if any(error != error for error in errors) else max(errors)


def compare(
    live: np.ndarray, deployed: np.ndarray, tolerance: float = TOLERANCES["fp32"].logits
) -> tuple[float | None, float | None, int, int]:
    """Largest logit error (relative), error of the spread, pixels that differ, and ties.

    Args:
        live: logits [C, H, W].
        deployed: the same, or class ids [H, W], of which no error is known.
    """
    wanted = live.shape if deployed.ndim == 3 else live.shape[1:]
    if wanted != deployed.shape:
        raise ValueError(f"the program returns shape {deployed.shape}, the network {wanted}")
    ours = label_map(live)
    theirs = label_map(deployed) if deployed.ndim == 3 else deployed
    if theirs.size and not 0 <= int(theirs.min()) <= int(theirs.max()) < len(live):
        raise ValueError(f"the program returns class ids up to {theirs.max()} of {len(live)} classes")
    largest = float(np.abs(live).max())
    rows, columns = np.nonzero(ours != theirs)
    best = live[ours[rows, columns], rows, columns]
    margin = best - live[theirs[rows, columns], rows, columns]
    ties = int((margin <= tolerance * largest).sum())
    if deployed.ndim == 2:
        return None, None, len(rows) - ties, ties
    difference = np.abs(live.astype(np.float64) - deployed)  # a damaged weight may overflow squares
    spread = float(np.sqrt(np.mean((live - live.mean()) ** 2)))
    error = float(np.sqrt(np.mean(difference**2)))
    return _share(float(difference.max()), largest), _share(error, spread), len(rows) - ties, ties


def _share(part: float, whole: float) -> float:
    return 0.0 if part == 0 else part / whole if whole else float("inf")


def live_logits(model: nn.Layer, preprocess: Preprocess) -> Run:
    """(image [H, W, C], whether it is resized) -> the main logits [num_classes, h, w]; for eval mode."""

    def run(image: np.ndarray, resized: bool = True) -> np.ndarray:
        tensor = preprocess(image) if resized else preprocess.normalize(image)
        with paddle.no_grad():
            return model(paddle.to_tensor(tensor[None]))[0].numpy()[0]

    return run


def parity_images(
    normalize: Normalize, sizes: Sequence[tuple[int, int]] = PARITY_SIZES
) -> Iterator[np.ndarray]:
    """Blotches with noise, so that there are smooth parts and edges: [H, W, C] as a file would hold them."""
    rng = np.random.default_rng(0)
    for height, width in sizes:
        coarse = rng.random((height // 16 + 1, width // 16 + 1, normalize.channels))
        blotches = coarse.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
        noisy = blotches + 0.1 * rng.normal(size=blotches.shape)
        # the range the normalisation expects: as much above zero as scale, or as its mean tells
        top = 255.0 if normalize.scale == 1 else normalize.scale
        yield (np.clip(noisy, 0, 1) * top).astype(np.float32)


def cut_images(
    images: Iterable[np.ndarray], sizes: Sequence[tuple[int, int]] = PARITY_SIZES
) -> Iterator[np.ndarray]:
    """Real images at the sizes of the gate: their upper left part, mirrored on where one is too small."""
    for image, (height, width) in zip(images, sizes):
        part = image[:height, :width]
        below, right = height - part.shape[0], width - part.shape[1]
        yield np.pad(part, ((0, below), (0, right), (0, 0)), mode="symmetric")


def mean_iou(
    predict: Callable[[np.ndarray], np.ndarray],
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    num_classes: int,
    ignore_index: int,
) -> float:
    """Of class ids [H, W] predicted for images [H, W, C] against labels [H, W]; 0 to 1."""
    matrix = ConfusionMatrix(num_classes, ignore_index)
    for image, label in pairs:
        matrix.update(predict(image), label)
    found = matrix.scores().mean_iou
    if found is None:
        raise RunError("export: the split has no labelled pixel to score on")
    return found
