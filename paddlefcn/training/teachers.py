"""The teacher that a recipe's `distillation` names: a trained network, or an export."""

from __future__ import annotations

from typing import TYPE_CHECKING

import paddle

from paddlefcn.config import load_config
from paddlefcn.engine.distillation import Distillation, Guide, no_guide
from paddlefcn.errors import ConfigError
from paddlefcn.trained import load_network

if TYPE_CHECKING:
    from paddle import nn

    from paddlefcn.config import Config
    from paddlefcn.config.recipe import DistillationConfig


def build_guide(config: Config, network: nn.Layer) -> Guide:
    """What teaches the network beside its labels; nothing where the recipe has no `distillation`.

    Raises:
        UserError: a teacher that cannot be loaded, or that knows other classes or other images.
    """
    wanted = config.distillation
    if wanted is None:
        return no_guide
    if wanted.export is not None:
        return _from_export(config, wanted)
    assert wanted.config is not None  # checked with the section
    assert wanted.weights is not None
    recipe = load_config(wanted.config)
    _check(config, f"{wanted.config}", len(recipe.data.classes), recipe.data.normalize)
    teacher = load_network(recipe, wanted.weights)
    return Distillation(
        lambda image: teacher(image)[0],
        weight=wanted.weight,
        temperature=wanted.temperature,
        features=wanted.features,
        student_backbone=network.backbone,
        teacher_backbone=teacher.backbone,
    )


def _from_export(config: Config, wanted: DistillationConfig) -> Guide:
    from paddlefcn.deploy.predictor import Predictor

    predictor = Predictor(wanted.export or "", device=paddle.get_device())
    deployment = predictor.deployment
    if deployment.target.outputs != "logits":
        raise ConfigError(f"{config.file}: distillation.export: {wanted.export} gives class ids, not logits")
    _check(config, f"{wanted.export}", len(deployment.classes.names), deployment.preprocess.normalize)
    return Distillation(
        lambda image: paddle.to_tensor(predictor.run(image.numpy())),
        weight=wanted.weight,
        temperature=wanted.temperature,
    )


def _check(config: Config, teacher: str, classes: int, normalize: object) -> None:
    """ConfigError unless teacher and student see the same images and tell the same number of classes."""
    where = f"{config.file}: distillation"
    if classes != config.data.num_classes:
        raise ConfigError(f"{where}: teacher {teacher} has {classes} classes, not {config.data.num_classes}")
    if normalize != config.data.normalize:
        raise ConfigError(
            f"{where}: teacher {teacher} was trained with {normalize}, this recipe has "
            f"{config.data.normalize}; give both the same data.normalize"
        )
