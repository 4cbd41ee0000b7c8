"""A trained network: a recipe's model with weights that fit it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paddlefcn.build import build_model, build_preprocess
from paddlefcn.config import Config
from paddlefcn.config.compare import describe_own_recipe
from paddlefcn.config.stages import MODEL_KEY, STAGE_KEY
from paddlefcn.errors import WeightsError
from paddlefcn.files import MANIFEST, checksum, read_text
from paddlefcn.weights import check_normalize, load_into, read_state_and_metadata, resolve_weights

if TYPE_CHECKING:
    from paddle import nn

    from paddlefcn.classes import Classes
    from paddlefcn.preprocess import Preprocess
    from paddlefcn.refine.settings import RefineSettings


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained network with all that belongs to it.

    Attributes:
        model: in eval mode.
        preprocess: what makes its input of an image.
        classes: what its class ids are called and drawn in.
        max_pixels: of an image that is read for it.
        refine: settings of what is done to its scores.
    """

    model: nn.Layer
    preprocess: Preprocess
    classes: Classes
    max_pixels: int
    refine: RefineSettings


def load_trained(config: Config, weights: str | Path) -> Trained:
    """The config's network with the weights, and with what the config says of its images and classes.

    Args:
        config: its `model` and `data` sections say what is built.
        weights: a .safetensors or .pdparams file, a checkpoint folder, or a run's folder (its `best/`,
            else its last checkpoint).

    Raises:
        WeightsError: the weights do not fit the network, were made for other images, are damaged or hold NaN.
    """
    path = resolve_weights(weights)
    check_whole(path)
    state, metadata = read_state_and_metadata(path)
    check_finite(state, path)
    check_normalize(metadata, config.data.normalize, what=str(path))
    model, preprocess = build_model(config, pretrained=False), build_preprocess(config)
    try:
        load_into(model, state, what=str(path))
    except WeightsError as error:
        own = describe_own_recipe(path, config.tree)
        if own:
            raise WeightsError(f"{error}; {own}") from error
        if STAGE_KEY not in metadata or metadata.get(MODEL_KEY) == config.model.type:
            raise
        # a config with stages stands for the last one's network
        wanted = f"-o stages.-1.model={metadata[MODEL_KEY]}"
        raise WeightsError(f"{error}; they are of {metadata[STAGE_KEY]}: use {wanted}") from error
    model.eval()
    return Trained(model, preprocess, config.classes, config.data.max_pixels, config.refine)


def load_network(config: Config, weights: str | Path) -> nn.Layer:
    """The network alone of `load_trained`, in eval mode."""
    return load_trained(config, weights).model


def check_whole(path: Path) -> None:
    """Compares a checkpoint's weights with the checksum that was written with them, if there is one.

    Raises:
        WeightsError: they are not as they were written.
    """
    try:
        wanted = json.loads(read_text(path.parent / MANIFEST))[path.name]["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # a file of its own, or of another tool
    if checksum(path) != wanted:
        raise WeightsError(f"{path}: is damaged: it does not match its checksum in {MANIFEST}; use another")


def check_finite(state: Mapping[str, np.ndarray], path: Path) -> None:
    """WeightsError where a tensor holds NaN or infinity: what it predicts means nothing."""
    for name, value in state.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise WeightsError(f"{path}: {name} holds values that are not finite; use an earlier checkpoint")
