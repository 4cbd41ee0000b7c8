"""What predicts, with all that belongs to it: the same object for a trained network and for an export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from paddlefcn.classes import Classes
from paddlefcn.deploy.tiling import Tiling
from paddlefcn.preprocess import Preprocess
from paddlefcn.refine.refinement import Refinement


@dataclass(frozen=True)
class Network:
    """What predicts: a trained network, or an export.

    Args:
        run: [N, C, h, w] -> scores [N, num_classes, h, w] float32, or class ids [N, h, w].
        gives: which: "logits", "probabilities" or "labels".
        preprocess, classes, max_pixels: what belongs to it.
        tiling: how it may be run in tiles; None if it cannot.
        batch: how many images of one size it takes at a time.
        refinement: what makes class ids of its scores.
    """

    run: Callable[[np.ndarray], np.ndarray]
    gives: str
    preprocess: Preprocess
    classes: Classes
    max_pixels: int
    tiling: Tiling | None = None
    batch: int = 8
    refinement: Refinement = field(default_factory=Refinement)
