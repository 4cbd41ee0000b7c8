"""What predicts, with all that belongs to it: the same object for a trained network and for an export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from paddlefcn.classes import Classes
from paddlefcn.deploy.options import Request, Views
from paddlefcn.deploy.scales import AveragedScales
from paddlefcn.deploy.tiling import Tiling
from paddlefcn.preprocess import Preprocess
from paddlefcn.refine.refinement import Refinement

if TYPE_CHECKING:
    from paddlefcn.deploy.predictor import Predictor
    from paddlefcn.inference import Inference
    from paddlefcn.trained import Trained


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


def trained_network(trained: Trained, inference: Inference, request: Request, images: int = 1) -> Network:
    """A trained network: it gives scores, or class ids where the scores of an image are too many.

    Where many `images` wait for it on a processor, it goes on as its own export.
    """
    import paddle

    from paddlefcn.deploy.fast_path import fast_network
    from paddlefcn.deploy.reach import find_tiling
    from paddlefcn.inference import SlidingWindow

    preprocess = trained.preprocess
    in_tiles = request.tile is not None and not preprocess.resize
    tiling = find_tiling(trained.model, preprocess.channels) if in_tiles else None
    model = fast_network(trained.model, preprocess.normalize, images)
    # windows are decided band by band, so that an image of any size takes the memory of a row of windows
    by_bands = isinstance(inference, SlidingWindow) and not preprocess.resize and not request.needs_scores

    def run(batch: np.ndarray) -> np.ndarray:
        image = paddle.to_tensor(batch)
        return inference.label_map(model, image) if by_bands else inference(model, image).numpy()

    white = preprocess.normalize.white
    return Network(
        run=run,
        gives="labels" if by_bands else "probabilities" if inference.probabilities else "logits",
        preprocess=preprocess,
        classes=trained.classes,
        max_pixels=trained.max_pixels,
        tiling=tiling,
        batch=1,
        refinement=Refinement(trained.refine, request.refine, trained.classes.ignore_index, white),
    )


def exported_network(predictor: Predictor, views: Views, request: Request) -> Network:
    """An export, each image seen as often as the views say."""
    deployment = predictor.deployment
    white = deployment.preprocess.normalize.white
    return Network(
        run=predictor.run if views.once else AveragedScales(predictor.run, views.scales, views.flip),
        gives=deployment.target.outputs if views.once else "probabilities",
        preprocess=deployment.preprocess,
        classes=deployment.classes,
        max_pixels=deployment.max_pixels,
        tiling=deployment.tiling,
        refinement=Refinement(deployment.refine, request.refine, deployment.classes.ignore_index, white),
    )
