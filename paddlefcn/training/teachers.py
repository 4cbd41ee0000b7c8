"""The teachers that a recipe's `distillation` names: trained networks, or exports."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import paddle

from paddlefcn.config import load_config
from paddlefcn.engine.distillation import Distillation, Guide, no_guide
from paddlefcn.errors import ConfigError
from paddlefcn.trained import load_trained

if TYPE_CHECKING:
    from paddle import nn

    from paddlefcn.classes import Classes
    from paddlefcn.config.recipe import DistillationConfig
    from paddlefcn.data.images import Normalize


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Who teaches a run: of images [N, C, H, W] the logits, and the backbone whose maps can be compared.

    `classes` and `normalize` are those it was trained with.
    """

    answer: Callable[[paddle.Tensor], paddle.Tensor]
    classes: int
    normalize: Normalize
    backbone: nn.Layer | None = None


class Teachers:
    """The teachers of a run's stages, each loaded when it is wanted for the first time.

    Args:
        file: of the recipe, for errors.
        classes, normalize: of the run, which its teachers must share.
    """

    def __init__(self, file: str, classes: Classes, normalize: Normalize) -> None:
        self.where, self.classes, self.normalize = f"{file}: distillation", len(classes), normalize
        self._loaded: dict[DistillationConfig, Teacher] = {}

    def find(self, wanted: DistillationConfig) -> Teacher:
        """The teacher of a `distillation` section.

        Raises:
            UserError: it cannot be loaded, or knows other classes or other images.
        """
        if wanted not in self._loaded:
            teacher = self._of_export(wanted.export) if wanted.export else _of_network(wanted)
            name = wanted.export or wanted.config
            if teacher.classes != self.classes:
                known = f"{teacher.classes} classes, not {self.classes}"
                raise ConfigError(f"{self.where}: teacher {name} has {known}")
            if teacher.normalize != self.normalize:
                raise ConfigError(
                    f"{self.where}: teacher {name} was trained with {teacher.normalize}, this recipe has "
                    f"{self.normalize}; give both the same data.normalize"
                )
            self._loaded[wanted] = teacher
        return self._loaded[wanted]

    def guide(self, wanted: DistillationConfig | None, network: nn.Layer) -> Guide:
        """What teaches the network beside its labels; nothing where the recipe has no `distillation`."""
        if wanted is None:
            return no_guide
        teacher = self.find(wanted)
        return Distillation(
            teacher.answer,
            weight=wanted.weight,
            temperature=wanted.temperature,
            features=wanted.features,
            student_backbone=network.backbone,
            teacher_backbone=teacher.backbone,
        )

    def _of_export(self, folder: str) -> Teacher:
        from paddlefcn.deploy.predictor import Predictor

        predictor = Predictor(folder, device=paddle.get_device())
        deployment = predictor.deployment
        if deployment.target.outputs != "logits":
            raise ConfigError(f"{self.where}.export: {folder} gives class ids, not logits")
        return Teacher(
            lambda image: paddle.to_tensor(predictor.run(image.numpy())),
            len(deployment.classes),
            deployment.preprocess.normalize,
        )


def _of_network(wanted: DistillationConfig) -> Teacher:
    assert wanted.config is not None  # checked with the section
    assert wanted.weights is not None
    recipe = load_config(wanted.config)
    trained = load_trained(recipe, wanted.weights)
    network, normalize = trained.model, trained.preprocess.normalize
    return Teacher(lambda image: network(image)[0], len(trained.classes), normalize, network.backbone)
