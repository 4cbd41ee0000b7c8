"""Fully convolutional networks on any backbone: FCN-32s, FCN-16s, FCN-8s.

Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015 (section 4,
figure 3), and with Shelhamer first PAMI 2017. Here the grid is kept: fc6 is padded, every upsampling is by
its exact factor, sums and images are cropped at the top left. The authors' networks, with their padding
and crops to the digit, stand in `published_fcn`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import paddle
from paddle import nn

from paddlefcn.backbones import Backbone
from paddlefcn.layers import ConvBNReLU, Upsample, convolution
from paddlefcn.layers.older_format import scaled
from paddlefcn.models.base import SegmentationModel, check_dropout, check_strides, check_width
from paddlefcn.models.heads import AUXILIARY_WEIGHT

LEARN_UPSAMPLING = ("none", "intermediate", "all")


class FCN(SegmentationModel):
    """What the three networks share: fc6, fc7 and the coarse score on the map of stride 32."""

    strides: ClassVar[tuple[int, ...]]  # of the maps that are scored
    smallest: ClassVar[dict[str, Any]] = {"backbone": {"type": "VGG11", "width": 2}, "fc_channels": 6}

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        fc_channels: int = 4096,
        fc6_kernel: int = 7,
        batch_norm: bool = True,
        dropout: float = 0.5,
        upsample: str = "bilinear",
        upsample_dense: bool = False,
        learn_upsampling: str | None = None,
        align_corners: bool = False,
        deep_supervision: bool = False,
    ) -> None:
        """Put the score layers and the upsampling on a built ``backbone`` with maps of its ``strides``.

        fc_channels, fc6_kernel: channels of fc6 and fc7; size of fc6's kernel (odd).
        batch_norm: whether fc6 and fc7 have BatchNorm (a config's backbone without it: no).
        dropout: share of fc6 and fc7 dropped in training, 0 to below 1.
        upsample: ``bilinear`` or ``transposed``.
        upsample_dense: transposed kernels from every class to every class, else one a class.
        learn_upsampling: which transposed kernels train: ``none``, ``intermediate`` (all but those that
            reach the image) or ``all`` (default).
        align_corners: how ``bilinear`` lays its grid; true is ``nn.UpsamplingBilinear2D``.
        deep_supervision: in training mode return the coarser outputs too, each at image size.

        Raises ValueError, in one line, for options that contradict each other or the backbone.
        """
        super().__init__(backbone, num_classes)
        mend = "set output_stride: 32 if it has one, or take another model such as FCNHead"
        check_strides(backbone, self.strides, type(self).__name__, mend)
        check_width("fc_channels", fc_channels, 4096)
        check_dropout(dropout)
        _check_kernel(fc6_kernel)
        _check_upsampling(upsample, upsample_dense, learn_upsampling)
        self.upsampling: dict[str, Any] = {
            "mode": upsample,
            "align_corners": align_corners,
            "dense": upsample_dense,
        }
        self.learn_upsampling = learn_upsampling or "all"
        pool5 = backbone.first(32)
        self.fc6 = ConvBNReLU(pool5.channels, fc_channels, fc6_kernel, batch_norm=batch_norm)
        self.fc7 = ConvBNReLU(fc_channels, fc_channels, 1, batch_norm=batch_norm)
        self.dropout = nn.Dropout(dropout)
        self.score_fr = self._score(fc_channels)
        self._build_upsampling(deep_supervision)

    def _build_upsampling(self, deep_supervision: bool) -> None:
        """Add the score layers of the finer maps and every upsampling layer."""
        raise TypeError(f"{type(self).__name__}: build FCN32s, FCN16s or FCN8s")

    def _score(self, channels: int) -> nn.Conv2D:
        # From zero, as published: no class is preferred at the start, a finer score added to a trained
        # coarser network changes nothing at first, and features of any size (no BatchNorm) do no harm.
        # From scratch with BatchNorm, random starts ended within the spread of the seeds.
        return convolution(channels, self.num_classes, 1, zero_start=True)

    def _upsample(self, factor: int) -> Upsample:
        return Upsample(self.num_classes, factor, learn=self.learn_upsampling == "all", **self.upsampling)

    def _upsample_between(self) -> Upsample:
        return Upsample(self.num_classes, 2, learn=self.learn_upsampling != "none", **self.upsampling)

    def _coarse_score(self, pool5: paddle.Tensor) -> paddle.Tensor:
        fc6 = self.dropout(self.fc6(pool5))
        fc7 = self.dropout(self.fc7(fc6))
        return self.score_fr(fc7)


class FCN32s(FCN):
    """FCN-32s: the coarse score, upsampled by 32 in one step. Arguments: see `FCN`."""

    strides = (32,)

    def _build_upsampling(self, deep_supervision: bool) -> None:
        if deep_supervision:
            raise ValueError("deep_supervision: FCN32s has one output; use FCN16s or FCN8s")
        self.taps = (self.backbone.first(32).name,)
        self.upscore32 = self._upsample(32)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        (pool5,) = self.backbone(image, self.taps)
        score32 = self._coarse_score(pool5)
        return [self.upscore32(score32, image)]


class FCN16s(FCN):
    """FCN-16s: adds the score of pool4, then upsamples by 16. Arguments: see `FCN`.

    With ``deep_supervision`` the training outputs are [16s, 32s].
    """

    strides = (16, 32)

    def _build_upsampling(self, deep_supervision: bool) -> None:
        pool4, pool5 = (self.backbone.first(stride) for stride in self.strides)
        self.taps = (pool4.name, pool5.name)
        self.score_pool4 = self._score(pool4.channels)
        self.upscore2 = self._upsample_between()
        self.upscore16 = self._upsample(16)
        self.upscore32 = self._upsample(32) if deep_supervision else None
        if deep_supervision:
            self.output_weights = (1.0, AUXILIARY_WEIGHT)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        pool4, pool5 = self.backbone(image, self.taps)
        score32 = self._coarse_score(pool5)
        score_pool4 = self.score_pool4(pool4)
        score16 = self.upscore2(score32, score_pool4) + score_pool4
        outputs = [self.upscore16(score16, image)]
        if self.training and self.upscore32 is not None:
            outputs.append(self.upscore32(score32, image))
        return outputs


class FCN8s(FCN):
    """FCN-8s: adds the scores of pool4 and pool3, then upsamples by 8. Arguments: see `FCN`.

    With ``deep_supervision`` the training outputs are [8s, 16s, 32s].
    """

    strides = (8, 16, 32)
    pool4_scale: ClassVar[float] = 1.0
    pool3_scale: ClassVar[float] = 1.0

    def _build_upsampling(self, deep_supervision: bool) -> None:
        pool3, pool4, pool5 = (self.backbone.first(stride) for stride in self.strides)
        self.taps = (pool3.name, pool4.name, pool5.name)
        self.score_pool4 = self._score(pool4.channels)
        self.score_pool3 = self._score(pool3.channels)
        self.upscore2 = self._upsample_between()
        self.upscore_pool4 = self._upsample_between()
        self.upscore8 = self._upsample(8)
        self.upscore16 = self._upsample(16) if deep_supervision else None
        self.upscore32 = self._upsample(32) if deep_supervision else None
        if deep_supervision:
            self.output_weights = (1.0, AUXILIARY_WEIGHT, AUXILIARY_WEIGHT)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        pool3, pool4, pool5 = self.backbone(image, self.taps)
        score32 = self._coarse_score(pool5)
        score_pool4 = self.score_pool4(scaled(pool4, self.pool4_scale))
        score16 = self.upscore2(score32, score_pool4) + score_pool4
        score_pool3 = self.score_pool3(scaled(pool3, self.pool3_scale))
        score8 = self.upscore_pool4(score16, score_pool3) + score_pool3
        outputs = [self.upscore8(score8, image)]
        if self.training and self.upscore16 is not None and self.upscore32 is not None:
            outputs.append(self.upscore16(score16, image))
            outputs.append(self.upscore32(score32, image))
        return outputs


class FCN8sAtOnce(FCN8s):
    """FCN-8s trained in one go instead of in stages: the pools enter their scores scaled down.

    The scales bring the pools to the size of fc7's values, so that one learning rate serves all
    (Long and others, PAMI 2017, section 4.3; ``voc-fcn8s-atonce`` of the authors).
    """

    pool4_scale = 0.01
    pool3_scale = 0.0001


def _check_kernel(kernel: int) -> None:
    if kernel < 1 or kernel % 2 == 0:
        near = max(1, kernel - 1)
        raise ValueError(f"fc6_kernel: got {kernel}, expected an odd number such as {near} or {near + 2}")


def _check_upsampling(upsample: str, upsample_dense: bool, learn_upsampling: str | None) -> None:
    """ValueError for options of the upsampling that contradict each other."""
    if learn_upsampling not in (None, *LEARN_UPSAMPLING):
        raise ValueError(
            f"learn_upsampling: got {learn_upsampling!r}, expected {', '.join(LEARN_UPSAMPLING)}"
        )
    if upsample == "bilinear":
        for key, value in (("upsample_dense", upsample_dense), ("learn_upsampling", learn_upsampling)):
            if value not in (None, False, "none"):
                raise ValueError(
                    f"{key}: got {value!r}, but bilinear upsampling has no kernel of its own; "
                    f"set upsample: transposed, or leave {key} out"
                )
