"""Distillation: a student also learns what a trained teacher makes of each image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import paddle
import paddle.nn.functional as F
from paddle import nn

Maps = dict[tuple[int, int], paddle.Tensor]  # height and width -> the last map of this size


class Guide(Protocol):
    """What adds a teacher's part to the loss of a batch."""

    def __call__(
        self, loss: paddle.Tensor, image: paddle.Tensor, outputs: list[paddle.Tensor], whole: int
    ) -> paddle.Tensor:
        """The loss with the guide's part; `whole` is how many images the step has, here and elsewhere."""


def no_guide(
    loss: paddle.Tensor, image: paddle.Tensor, outputs: list[paddle.Tensor], whole: int
) -> paddle.Tensor:
    """Training from the labels alone: the loss as it is."""
    return loss


class Distillation:
    """Adds to a batch's loss how far the student's answers are from the teacher's.

    The mean over all pixels, void included, of T ** 2 KL(teacher / T || student / T) (Hinton et al., 2015),
    and the distance between the attention maps of the two backbones where their sizes agree (Zagoruyko and
    Komodakis, ICLR 2017): the squared maps summed over channels, scaled to length 1.

    Args:
        teacher: images [N, C, H, W], normalised, to logits [N, classes, H, W] that no gradient reaches.
        weight: of the first part, beside the losses of the recipe.
        temperature: T, above 0; 1 as in Liu et al., CVPR 2019 (section 3.1).
        features: weight of the second; needs both backbones.
        student_backbone, teacher_backbone: layers that return a list of maps.
    """

    def __init__(
        self,
        teacher: Callable[[paddle.Tensor], paddle.Tensor],
        *,
        weight: float = 1.0,
        temperature: float = 1.0,
        features: float = 0.0,
        student_backbone: nn.Layer | None = None,
        teacher_backbone: nn.Layer | None = None,
    ) -> None:
        self.teacher, self.weight, self.temperature = teacher, weight, temperature
        self.features = features
        self._student_maps: Maps = {}
        self._teacher_maps: Maps = {}
        if features and student_backbone is not None and teacher_backbone is not None:
            student_backbone.register_forward_post_hook(_keep(self._student_maps))
            teacher_backbone.register_forward_post_hook(_keep(self._teacher_maps))

    def __call__(
        self, loss: paddle.Tensor, image: paddle.Tensor, outputs: list[paddle.Tensor], whole: int
    ) -> paddle.Tensor:
        """The loss with the distances added; a batch counts by its part of the step's `whole` images."""
        with paddle.no_grad():
            wanted = self.teacher(image).astype("float32")
        share = image.shape[0] / whole
        loss = loss + self.answers(outputs[0].astype("float32"), wanted) * (self.weight * share)
        if self.features:
            loss = loss + self.attention() * (self.features * share)
            self._student_maps.clear()  # they hold the graph of the forward pass
        return loss

    def answers(self, logits: paddle.Tensor, wanted: paddle.Tensor) -> paddle.Tensor:
        """T ** 2 times the mean over pixels of the divergence of logits [N, C, H, W] from the teacher's."""
        target = F.log_softmax(wanted / self.temperature, axis=1)
        given = F.log_softmax(logits / self.temperature, axis=1)
        return (target.exp() * (target - given)).sum(axis=1).mean() * self.temperature**2

    def attention(self) -> paddle.Tensor:
        """The mean over images and common map sizes of the squared distance of the attention maps."""
        sizes = [size for size in self._student_maps if size in self._teacher_maps]
        if not sizes:
            return paddle.zeros([])
        pairs = [(_attention(self._student_maps[s]), _attention(self._teacher_maps[s])) for s in sizes]
        distances = [((student - teacher.detach()) ** 2).sum(axis=1) for student, teacher in pairs]
        return paddle.stack(distances).mean()


def _attention(found: paddle.Tensor) -> paddle.Tensor:
    """[N, C, H, W] -> [N, H * W] of length 1."""
    return F.normalize((found.astype("float32") ** 2).mean(axis=1).flatten(1), axis=1)


def _keep(maps: Maps) -> Callable[[nn.Layer, Any, list[paddle.Tensor]], None]:
    def keep(layer: nn.Layer, inputs: Any, outputs: list[paddle.Tensor]) -> None:
        maps.clear()
        maps.update({(x.shape[2], x.shape[3]): x for x in outputs})

    return keep
