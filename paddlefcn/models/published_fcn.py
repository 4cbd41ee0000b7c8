"""The fully convolutional networks as their authors published them.

Long, Shelhamer and Darrell, CVPR 2015 and PAMI 2017; the authors' ``voc-fcn32s``, ``16s``, ``8s``,
``8s-atonce`` and ``voc-fcn-alexnet``. The first convolution pads 100 pixels, so that the unpadded fc6 has
something to see of any image; each sum and the image are windows at the offsets of the authors' crop layers;
deconvolutions are dense, start bilinear and are frozen in the released models.

A recipe writes ``type: FCN8s`` with ``padding: reference`` for `PublishedFCN8s`; `published` does that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import paddle
from paddle import nn

from paddlefcn.backbones import Backbone
from paddlefcn.layers import ConvBNReLU, Upsample, convolution, crop_like
from paddlefcn.layers.older_format import scaled
from paddlefcn.models.base import SegmentationModel, check_dropout, check_width
from paddlefcn.models.fcn import LEARN_UPSAMPLING

# where the authors' crops of the pools' scores start, in cells of the pool
POOL4_OFFSET, POOL3_OFFSET = 5, 9


class PublishedFCN(SegmentationModel):
    """What the published networks share: fc6 without padding, fc7, the coarse score."""

    backbone_arguments: ClassVar[Mapping[str, Any]] = {"padding": "reference", "batch_norm": False}
    smallest: ClassVar[dict[str, Any]] = {"backbone": {"type": "VGG11", "width": 2}, "fc_channels": 6}

    margin: ClassVar[int] = 99  # pixels around the image that the crops' offsets count on
    fc6_kernel: ClassVar[int] = 7
    image_offset: ClassVar[int]  # where the image starts in the last deconvolution's output

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        fc_channels: int = 4096,
        dropout: float = 0.5,
        learn_upsampling: str = "none",
    ) -> None:
        """Put the score layers and the deconvolutions on ``VGG16(padding="reference", batch_norm=False)``.

        fc_channels: channels of fc6 and fc7.
        dropout: share of fc6 and fc7 dropped in training, 0 to below 1.
        learn_upsampling: which deconvolutions train: ``none``, ``intermediate`` (all but those that reach
            the image) or ``all``.

        Raises ValueError for a backbone whose maps do not reach as far beyond the image as published.
        """
        super().__init__(backbone, num_classes)
        self._check_backbone(backbone)
        check_width("fc_channels", fc_channels, 4096)
        check_dropout(dropout)
        if learn_upsampling not in LEARN_UPSAMPLING:
            raise ValueError(
                f"learn_upsampling: got {learn_upsampling!r}, expected {', '.join(LEARN_UPSAMPLING)}"
            )
        self.learn_upsampling = learn_upsampling
        pool5 = backbone.first(32)
        self.fc6 = ConvBNReLU(pool5.channels, fc_channels, self.fc6_kernel, padding=0, batch_norm=False)
        self.fc7 = ConvBNReLU(fc_channels, fc_channels, 1, batch_norm=False)
        self.dropout = nn.Dropout(dropout)
        self.score_fr = self._score(fc_channels)
        self._build_upsampling()

    def _check_backbone(self, backbone: Backbone) -> None:
        kind, name = type(self).__name__, type(backbone).__name__
        if not backbone.has(8, 16, 32) or backbone.first(32).margin != self.margin:
            stands = "AlexNet" if self.fc6_kernel == 6 else "VGG16(padding='reference', batch_norm=False)"
            raise ValueError(
                f"backbone {name}: its maps do not reach {self.margin} pixels beyond the image, on which the"
                f" crops of {kind} rest; it goes with {stands}"
            )

    def _build_upsampling(self) -> None:
        """Add the score layers of the pools and the deconvolutions."""
        raise TypeError(f"{type(self).__name__}: build one of its subclasses")

    def _score(self, channels: int) -> nn.Conv2D:
        return convolution(channels, self.num_classes, 1, zero_start=True)

    def _deconvolution(self, factor: int, *, last: bool = False) -> Upsample:
        learn = self.learn_upsampling == "all" or (self.learn_upsampling == "intermediate" and not last)
        return Upsample(self.num_classes, factor, mode="transposed", dense=True, learn=learn, padded=False)

    def _coarse_score(self, pool5: paddle.Tensor) -> paddle.Tensor:
        fc6 = self.dropout(self.fc6(pool5))
        fc7 = self.dropout(self.fc7(fc6))
        return self.score_fr(fc7)

    def _at_image(self, scores: paddle.Tensor, image: paddle.Tensor) -> paddle.Tensor:
        return crop_like(scores, image, self.image_offset)


class PublishedFCN32s(PublishedFCN):
    """``voc-fcn32s``: one deconvolution, 64/32. Arguments: see `PublishedFCN`."""

    image_offset = 19

    def _build_upsampling(self) -> None:
        self.taps = (self.backbone.first(32).name,)
        self.upscore32 = self._deconvolution(32, last=True)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        (pool5,) = self.backbone(image, self.taps)
        return [self._at_image(self.upscore32(self._coarse_score(pool5)), image)]


class PublishedFCN16s(PublishedFCN):
    """``voc-fcn16s``: adds the score of pool4. Arguments: see `PublishedFCN`."""

    image_offset = 27

    def _build_upsampling(self) -> None:
        pool4, pool5 = (self.backbone.first(stride) for stride in (16, 32))
        self.taps = (pool4.name, pool5.name)
        self.score_pool4 = self._score(pool4.channels)
        self.upscore2 = self._deconvolution(2)
        self.upscore16 = self._deconvolution(16, last=True)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        pool4, pool5 = self.backbone(image, self.taps)
        upscore2 = self.upscore2(self._coarse_score(pool5))
        fuse_pool4 = upscore2 + crop_like(self.score_pool4(pool4), upscore2, POOL4_OFFSET)
        return [self._at_image(self.upscore16(fuse_pool4), image)]


class PublishedFCN8s(PublishedFCN):
    """``voc-fcn8s``: adds the scores of pool4 and pool3. Arguments: see `PublishedFCN`."""

    image_offset = 31
    pool4_scale: ClassVar[float] = 1.0
    pool3_scale: ClassVar[float] = 1.0

    def _build_upsampling(self) -> None:
        pool3, pool4, pool5 = (self.backbone.first(stride) for stride in (8, 16, 32))
        self.taps = (pool3.name, pool4.name, pool5.name)
        self.score_pool4 = self._score(pool4.channels)
        self.score_pool3 = self._score(pool3.channels)
        self.upscore2 = self._deconvolution(2)
        self.upscore_pool4 = self._deconvolution(2)
        self.upscore8 = self._deconvolution(8, last=True)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        pool3, pool4, pool5 = self.backbone(image, self.taps)
        upscore2 = self.upscore2(self._coarse_score(pool5))
        score_pool4 = self.score_pool4(scaled(pool4, self.pool4_scale))
        fuse_pool4 = upscore2 + crop_like(score_pool4, upscore2, POOL4_OFFSET)
        upscore_pool4 = self.upscore_pool4(fuse_pool4)
        score_pool3 = self.score_pool3(scaled(pool3, self.pool3_scale))
        fuse_pool3 = upscore_pool4 + crop_like(score_pool3, upscore_pool4, POOL3_OFFSET)
        return [self._at_image(self.upscore8(fuse_pool3), image)]


class PublishedFCN8sAtOnce(PublishedFCN8s):
    """``voc-fcn8s-atonce``: trained in one go, the pools scaled down (PAMI 2017, section 4.3)."""

    pool4_scale = 0.01
    pool3_scale = 0.0001


class FCNAlexNet(PublishedFCN32s):
    """``voc-fcn-alexnet``: FCN-32s on `AlexNet`, fc6 6x6, one 63/32 deconvolution.

    Long, Shelhamer and Darrell, CVPR 2015, section 4.1. Arguments: see `PublishedFCN`.
    """

    default_backbone = "AlexNet"
    backbone_arguments: ClassVar[Mapping[str, Any]] = {}
    smallest: ClassVar[dict[str, Any]] = {
        "backbone": {"type": "AlexNet", "widths": [4, 4, 6, 6, 4]},
        "fc_channels": 6,
    }
    margin = 95
    fc6_kernel = 6
    image_offset = 18

    def _deconvolution(self, factor: int, *, last: bool = False) -> Upsample:
        learn = self.learn_upsampling == "all"
        # odd, so that its centre lies on a pixel, as published
        return Upsample(
            self.num_classes, factor, mode="transposed", dense=True, learn=learn, kernel=63, padded=False
        )


PUBLISHED: dict[str, type[PublishedFCN]] = {
    "FCN32s": PublishedFCN32s,
    "FCN16s": PublishedFCN16s,
    "FCN8s": PublishedFCN8s,
    "FCN8sAtOnce": PublishedFCN8sAtOnce,
}
# what a recipe may state beside `padding: reference`, because the published networks are just so
_STATED = {
    "fc6_kernel": 7,
    "batch_norm": False,
    "upsample": "transposed",
    "upsample_dense": True,
    "align_corners": False,
    "deep_supervision": False,
}


def published(name: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The model that a recipe's ``type`` and arguments mean, and the arguments it takes.

    ``padding: reference`` turns FCN8s into PublishedFCN8s; ``padding: same`` changes nothing. Raises
    ValueError for another padding, and for arguments that contradict the published network.
    """
    padding = arguments.get("padding", "same")
    rest = {key: value for key, value in arguments.items() if key != "padding"}
    if name not in PUBLISHED or "padding" not in arguments:
        return name, dict(arguments)
    if padding not in ("same", "reference"):
        raise ValueError(f"padding: got {padding!r}, expected same or reference")
    if padding == "same":
        return name, rest
    for key, fixed in _STATED.items():
        if rest.get(key) not in (None, fixed):
            raise ValueError(
                f"{key}: got {rest[key]!r}, but padding: reference is the published network, which "
                f"has {str(fixed).lower()}; leave {key} out, or set padding: same"
            )
    return f"Published{name}", {key: value for key, value in rest.items() if key not in _STATED}
