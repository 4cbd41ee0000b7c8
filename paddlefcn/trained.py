"""A trained network: a recipe's model with weights that fit it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from paddlefcn.build import build_model
from paddlefcn.config import Config
from paddlefcn.config.compare import differences
from paddlefcn.config.stages import MODEL_KEY, STAGE_KEY
from paddlefcn.errors import ConfigError, WeightsError
from paddlefcn.weights import check_normalize, load_into, read_state_and_metadata, resolve_weights
from paddlefcn.yaml_files import load_yaml

if TYPE_CHECKING:
    from paddle import nn


def load_network(config: Config, weights: str | Path) -> nn.Layer:
    """The config's network with the weights, in eval mode.

    Args:
        config: its `model` and `data` sections say what is built.
        weights: a .safetensors or .pdparams file, a checkpoint folder, or a run's folder (its `best/`,
            else its last checkpoint).

    Raises:
        WeightsError: the weights do not fit the network, or were made for other images.
    """
    path = resolve_weights(weights)
    state, metadata = read_state_and_metadata(path)
    check_normalize(metadata, config.data.normalize, what=str(path))
    model = build_model(config, pretrained=False)
    try:
        load_into(model, state, what=str(path))
    except WeightsError as error:
        own = _own_recipe(path, config)
        if own:
            raise WeightsError(f"{error}; {own}") from error
        if STAGE_KEY not in metadata or metadata.get(MODEL_KEY) == config.model.type:
            raise
        # a config with stages stands for the last one's network
        wanted = f"-o stages.-1.model={metadata[MODEL_KEY]}"
        raise WeightsError(f"{error}; they are of {metadata[STAGE_KEY]}: use {wanted}") from error
    model.eval()
    return model


def _own_recipe(path: Path, config: Config) -> str | None:
    """How the recipe of the run that the weights are of differs in what makes the network."""
    for folder in path.absolute().parents:
        file = folder / "config.yml"
        if file.is_file():
            break
    else:
        return None
    try:
        tree = load_yaml(file)
    except ConfigError:  # not a recipe: it has nothing to say
        return None
    sections = ("model", "data.classes", "data.normalize", "stages")
    found = [
        each
        for each in differences(tree, config.tree)
        if any(each.key == section or each.key.startswith(f"{section}.") for section in sections)
    ]
    if not found:
        return None
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"their own recipe {file} has {'; '.join(each.describe() for each in found[:3])}{more}"
