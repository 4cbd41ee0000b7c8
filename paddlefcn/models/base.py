"""What every model is, and what several of them check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import paddle
from paddle import nn

from paddlefcn.backbones import Backbone


class SegmentationModel(nn.Layer):
    """``forward(image [N,in_channels,H,W]) -> list`` of logits ``[N,num_classes,H,W]``.

    The main logits come first; auxiliary ones follow in training mode only. A subclass takes a built
    backbone and ``num_classes``, and sets ``output_weights`` if it has auxiliary outputs.
    """

    default_backbone: ClassVar[str] = "VGG16"  # what a config without one means
    backbone_arguments: ClassVar[Mapping[str, Any]] = {}
    """What the model needs its backbone to be built with."""
    backbone_defaults: ClassVar[Mapping[str, Any]] = {}
    """What the paper builds the backbone with, where a config does not say and the backbone takes it."""
    margin: ClassVar[int] = 0
    """Pixels around the image that its backbone's maps cover, and that it crops."""
    smallest: ClassVar[Mapping[str, Any]]
    """The smallest `model` section, backbone included, with which the tests of every model run."""

    output_weights: tuple[float, ...] = (1.0,)
    """What each output's loss counts when the recipe gives no weights, the main output first."""

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        """Keep the backbone; ValueError unless there is a class and the maps lie on the image."""
        super().__init__()
        reach = max(found.margin for found in backbone.maps)
        if reach and not self.margin:
            raise ValueError(
                f"backbone {type(backbone).__name__}: its maps reach {reach} pixels beyond the image, which "
                "the published FCN alone crop; set model.padding: reference on FCN, or take another backbone"
            )
        if num_classes < 1:
            raise ValueError(f"num_classes: got {num_classes}, expected at least 1")
        self.backbone = backbone
        self.num_classes = num_classes

    @property
    def num_outputs(self) -> int:
        """How many logits ``forward`` returns in training mode."""
        return len(self.output_weights)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        """Logits of the image's size."""
        raise TypeError(f"{type(self).__name__} has no forward")


def check_strides(backbone: Backbone, strides: Sequence[int], model: str, mend: str) -> None:
    """ValueError, which says what to do, unless the backbone has a map of each stride that `model` needs."""
    if backbone.has(*strides):
        return
    there = ", ".join(str(stride) for stride in sorted({found.stride for found in backbone.maps}))
    *most, last = map(str, sorted(strides))
    needed = f"{', '.join(most)} and {last}" if most else last
    name = type(backbone).__name__
    raise ValueError(f"backbone {name}: its maps have strides {there}, {model} needs {needed}; {mend}")


def check_dropout(dropout: float) -> None:
    """ValueError unless the share that is dropped is 0 to below 1."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: got {dropout}, expected 0 to below 1")


def check_width(name: str, channels: int, published: int) -> None:
    """ValueError unless a number of channels can be built."""
    if not 1 <= channels <= 65536:
        raise ValueError(f"{name}: got {channels}, expected 1 to 65536 (published: {published})")
