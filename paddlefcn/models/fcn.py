"""Fully convolutional networks: FCN-32s, FCN-16s, FCN-8s, and FCN-8s trained at once.

Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015,
and with Shelhamer first PAMI 2017. ``padding="same"`` is the PaddlePaddle variant (BatchNorm, the
grid kept, exact factors, crops at the top left); ``padding="reference"`` is the authors' network,
to the digit.
"""

from __future__ import annotations

from typing import Any, ClassVar

import paddle
from paddle import nn

from paddlefcn.layers import ConvBNReLU, Upsample, convolution, crop_like, cropped_size

LEARN_UPSAMPLING = ("none", "intermediate", "all")
# where the authors' crops start: the pool scores in cells of their own map, the image in pixels
POOL4_OFFSET, POOL3_OFFSET = 5, 9


class FCN(nn.Layer):
    """What the three networks share: fc6, fc7 and the coarse score on the deepest map.

    ``forward([N,in_channels,H,W])`` gives logits ``[N,num_classes,H,W]``, the main ones first.
    """

    default_backbone: ClassVar[str] = "VGG16"  # what a config without one means
    image_offset: ClassVar[int]  # the authors' crop of the last upsampling
    reference_fc6_kernel: ClassVar[int] = 7  # the fc6 on which the authors' crops rest

    def __init__(
        self,
        backbone: nn.Layer,
        *,
        num_classes: int,
        padding: str = "same",
        fc_channels: int = 4096,
        fc6_kernel: int = 7,
        dropout: float = 0.5,
        upsample: str | None = None,
        upsample_dense: bool | None = None,
        learn_upsampling: str | None = None,
        align_corners: bool = False,
        deep_supervision: bool = False,
    ) -> None:
        """Put the score layers and the upsampling on a built ``backbone``.

        padding: ``same`` or ``reference`` (the backbone must have been built with the same).
        fc_channels, fc6_kernel: channels of fc6 and fc7; size of fc6's kernel (odd).
        dropout: share of fc6 and fc7 dropped in training, 0 to below 1.
        upsample: ``bilinear`` (default) or ``transposed``; reference: transposed, dense.
        upsample_dense: transposed kernels from every class to every class, else one a class.
        learn_upsampling: which transposed kernels train: ``none`` (default of reference),
            ``intermediate`` (all but those that reach the image) or ``all`` (default of same).
        align_corners: how ``bilinear`` lays its grid; true is ``nn.UpsamplingBilinear2D``.
        deep_supervision: in training mode return the coarser outputs too, each at image size.

        Raises ValueError, in one line, for options that contradict each other or the backbone.
        """
        super().__init__()
        reference = padding == "reference"
        _check_head(backbone, num_classes, padding, fc_channels, dropout)
        _check_fc6(backbone, padding, fc6_kernel, self.reference_fc6_kernel)
        _check_upsampling(
            reference, upsample, upsample_dense, learn_upsampling, align_corners, deep_supervision
        )
        self.backbone = backbone
        self.num_classes = num_classes
        self.reference = reference
        self.deep_supervision = deep_supervision
        self.learn_upsampling = learn_upsampling or ("none" if reference else "all")
        self.upsampling: dict[str, Any] = {
            "mode": "transposed" if reference else (upsample or "bilinear"),
            "align_corners": align_corners,
            "dense": reference if upsample_dense is None else upsample_dense,
            "padded": not reference,
        }
        normed = backbone.batch_norm
        pixels = 0 if reference else fc6_kernel // 2
        self.fc6 = ConvBNReLU(
            backbone.channels[-1], fc_channels, fc6_kernel, padding=pixels, batch_norm=normed
        )
        self.fc7 = ConvBNReLU(fc_channels, fc_channels, 1, batch_norm=normed)
        self.dropout = nn.Dropout(dropout)
        self.score_fr = self._score(fc_channels)
        self._build_upsampling()

    @staticmethod
    def backbone_arguments(*, padding: str = "same", **_: Any) -> dict[str, Any]:
        """What these arguments of the model ask of its backbone's constructor."""
        return {"padding": "reference", "batch_norm": False} if padding == "reference" else {}

    @property
    def num_outputs(self) -> int:
        """How many logits ``forward`` returns in training mode."""
        return 1

    @property
    def output_weights(self) -> list[float]:
        return [1.0] + [0.4] * (self.num_outputs - 1)

    def _build_upsampling(self) -> None:
        """Add the score layers of the pools and every upsampling layer."""
        raise TypeError(f"{type(self).__name__}: build FCN32s, FCN16s or FCN8s")

    def _score(self, channels: int) -> nn.Conv2D:
        # From zero, as published: no class is preferred at the start, a finer score added to a trained
        # coarser network changes nothing at first, and features of any size (no BatchNorm) do no harm.
        # From scratch with BatchNorm, random starts ended within the spread of the seeds.
        return convolution(channels, self.num_classes, 1, zero_start=True)

    def _upsample(self, factor: int, *, last: bool = False) -> Upsample:
        learn = self.learn_upsampling == "all" or (self.learn_upsampling == "intermediate" and not last)
        return Upsample(self.num_classes, factor, learn=learn, **self.upsampling)

    def _coarse_score(self, pool5: paddle.Tensor) -> paddle.Tensor:
        fc6 = self.dropout(self.fc6(pool5))
        fc7 = self.dropout(self.fc7(fc6))
        return self.score_fr(fc7)

    def _add(self, deep: paddle.Tensor, shallow: paddle.Tensor, offset: int) -> paddle.Tensor:
        """Sum of two scores, each cropped to the part of the image that it shares with the other.

        ``offset`` is the authors' and counts in the reference alone; otherwise both start top left,
        and the deep one may reach further, because the pools round up.
        """
        if self.reference:
            return deep + crop_like(shallow, deep, offset)
        return crop_like(deep, shallow) + shallow

    def _at_image(self, scores: paddle.Tensor, image: paddle.Tensor) -> paddle.Tensor:
        return crop_like(scores, image, self.image_offset if self.reference else 0)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the logits by arithmetic alone; equal to the image's own.

        Raises ValueError if a crop would not fit, or a map would vanish.
        """
        return self._output_length(height), self._output_length(width)

    def _output_length(self, size: int) -> int:
        raise TypeError(f"{type(self).__name__}: build FCN32s, FCN16s or FCN8s")

    def _coarse_length(self, pool5: int) -> int:
        return self.fc7.output_size(self.fc6.output_size(pool5))

    def _added_length(self, deep: int, shallow: int, offset: int) -> int:
        if self.reference:
            return cropped_size(shallow, deep, offset)
        return cropped_size(deep, shallow)

    def _image_length(self, scores: int, size: int) -> int:
        return cropped_size(scores, size, self.image_offset if self.reference else 0)


class FCN32s(FCN):
    """FCN-32s: the coarse score, upsampled by 32 in one step. Arguments: see `FCN`."""

    image_offset = 19

    def _build_upsampling(self) -> None:
        if self.deep_supervision:
            raise ValueError("deep_supervision: FCN32s has one output; use FCN16s or FCN8s")
        self.upscore32 = self._upsample(32, last=True)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        *_, pool5 = self.backbone(image)
        score32 = self._coarse_score(pool5)
        return [self._at_image(self.upscore32(score32), image)]

    def _output_length(self, size: int) -> int:
        *_, pool5 = self.backbone.output_sizes(size)
        score32 = self._coarse_length(pool5)
        return self._image_length(self.upscore32.output_size(score32), size)


class FCN16s(FCN):
    """FCN-16s: adds the score of pool4, then upsamples by 16. Arguments: see `FCN`.

    With ``deep_supervision`` the training outputs are [16s, 32s].
    """

    image_offset = 27

    def _build_upsampling(self) -> None:
        self.score_pool4 = self._score(self.backbone.channels[-2])
        self.upscore2 = self._upsample(2)
        self.upscore16 = self._upsample(16, last=True)
        if self.deep_supervision:
            self.upscore32 = self._upsample(32, last=True)

    @property
    def num_outputs(self) -> int:
        return 2 if self.deep_supervision else 1

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        *_, pool4, pool5 = self.backbone(image)
        score32 = self._coarse_score(pool5)
        score16 = self._add(self.upscore2(score32), self.score_pool4(pool4), POOL4_OFFSET)
        outputs = [self._at_image(self.upscore16(score16), image)]
        if self.deep_supervision and self.training:
            outputs.append(self._at_image(self.upscore32(score32), image))
        return outputs

    def _output_length(self, size: int) -> int:
        *_, pool4, pool5 = self.backbone.output_sizes(size)
        score32 = self._coarse_length(pool5)
        score16 = self._added_length(self.upscore2.output_size(score32), pool4, POOL4_OFFSET)
        return self._image_length(self.upscore16.output_size(score16), size)


class FCN8s(FCN):
    """FCN-8s: adds the scores of pool4 and pool3, then upsamples by 8. Arguments: see `FCN`.

    With ``deep_supervision`` the training outputs are [8s, 16s, 32s].
    """

    image_offset = 31
    pool4_scale: ClassVar[float] = 1.0
    pool3_scale: ClassVar[float] = 1.0

    def _build_upsampling(self) -> None:
        self.score_pool4 = self._score(self.backbone.channels[-2])
        self.score_pool3 = self._score(self.backbone.channels[-3])
        self.upscore2 = self._upsample(2)
        self.upscore_pool4 = self._upsample(2)
        self.upscore8 = self._upsample(8, last=True)
        if self.deep_supervision:
            self.upscore16 = self._upsample(16, last=True)
            self.upscore32 = self._upsample(32, last=True)

    @property
    def num_outputs(self) -> int:
        return 3 if self.deep_supervision else 1

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        *_, pool3, pool4, pool5 = self.backbone(image)
        score32 = self._coarse_score(pool5)
        score_pool4 = self.score_pool4(pool4 * self.pool4_scale)
        score16 = self._add(self.upscore2(score32), score_pool4, POOL4_OFFSET)
        score_pool3 = self.score_pool3(pool3 * self.pool3_scale)
        score8 = self._add(self.upscore_pool4(score16), score_pool3, POOL3_OFFSET)
        outputs = [self._at_image(self.upscore8(score8), image)]
        if self.deep_supervision and self.training:
            outputs.append(self._at_image(self.upscore16(score16), image))
            outputs.append(self._at_image(self.upscore32(score32), image))
        return outputs

    def _output_length(self, size: int) -> int:
        *_, pool3, pool4, pool5 = self.backbone.output_sizes(size)
        score32 = self._coarse_length(pool5)
        score16 = self._added_length(self.upscore2.output_size(score32), pool4, POOL4_OFFSET)
        score8 = self._added_length(self.upscore_pool4.output_size(score16), pool3, POOL3_OFFSET)
        return self._image_length(self.upscore8.output_size(score8), size)


class FCN8sAtOnce(FCN8s):
    """FCN-8s trained in one go instead of in stages: the pools enter their scores scaled down.

    The scales bring the pools to the size of fc7's values, so that one learning rate serves all
    (Long and others, PAMI 2017, section 4.3; ``voc-fcn8s-atonce`` of the authors).
    """

    pool4_scale = 0.01
    pool3_scale = 0.0001


def _check_head(backbone: nn.Layer, num_classes: int, padding: str, fc_channels: int, dropout: float) -> None:
    """Raise ValueError unless the score layers fit the backbone and the padding."""
    if num_classes < 1:
        raise ValueError(f"num_classes: got {num_classes}, expected at least 1")
    if not 1 <= fc_channels <= 65536:
        raise ValueError(f"fc_channels: got {fc_channels}, expected 1 to 65536 (published: 4096)")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: got {dropout}, expected 0 to below 1")
    if padding not in ("same", "reference"):
        raise ValueError(f"padding: got {padding!r}, expected same or reference")
    name = type(backbone).__name__
    if tuple(backbone.strides[-3:]) != (8, 16, 32):
        raise ValueError(
            f"backbone {name}: its maps have strides {tuple(backbone.strides)}; "
            f"an FCN needs the last three to be 8, 16 and 32"
        )
    if backbone.padding != padding:
        raise ValueError(
            f"padding: the model has {padding!r} but its backbone {name} has {backbone.padding!r}; "
            f"give both the same"
        )
    if padding == "reference" and backbone.batch_norm:
        raise ValueError(
            f"padding: reference is the published network, without BatchNorm; build "
            f"{name}(padding='reference', batch_norm=False), or set padding: same"
        )


def _check_fc6(backbone: nn.Layer, padding: str, kernel: int, published: int) -> None:
    """Raise ValueError unless fc6 keeps the grid, or is the published one on its backbone."""
    if padding == "reference":
        if backbone.fc6_kernel != published:
            raise ValueError(
                f"backbone {type(backbone).__name__}: its fc6 is {backbone.fc6_kernel} cells wide, "
                f"but this network was published with {published}; "
                f"FCNAlexNet goes with AlexNet, the others with VGG"
            )
        if kernel != published:
            raise ValueError(
                f"fc6_kernel: got {kernel}, but padding: reference is the published network, which "
                f"has {published}; leave fc6_kernel out, or set padding: same"
            )
    elif kernel < 1 or kernel % 2 == 0:
        near = max(1, kernel - 1)
        raise ValueError(f"fc6_kernel: got {kernel}, expected an odd number such as {near} or {near + 2}")


def _check_upsampling(
    reference: bool,
    upsample: str | None,
    upsample_dense: bool | None,
    learn_upsampling: str | None,
    align_corners: bool,
    deep_supervision: bool,
) -> None:
    """Raise ValueError for options of the upsampling that contradict each other."""
    if learn_upsampling not in (None, *LEARN_UPSAMPLING):
        raise ValueError(
            f"learn_upsampling: got {learn_upsampling!r}, expected {', '.join(LEARN_UPSAMPLING)}"
        )
    if reference:
        published = {
            "upsample": (upsample, upsample in (None, "transposed"), "transposed"),
            "upsample_dense": (upsample_dense, upsample_dense in (None, True), "true"),
            "align_corners": (align_corners, not align_corners, "false"),
            "deep_supervision": (deep_supervision, not deep_supervision, "false"),
        }
        for key, (value, fits, fixed) in published.items():
            if not fits:
                raise ValueError(
                    f"{key}: got {value!r}, but padding: reference is the published network, which "
                    f"has {fixed}; leave {key} out, or set padding: same"
                )
    elif upsample in (None, "bilinear"):
        for key, value in (
            ("upsample_dense", upsample_dense),
            ("learn_upsampling", learn_upsampling),
        ):
            if value not in (None, False, "none"):
                raise ValueError(
                    f"{key}: got {value!r}, but bilinear upsampling has no kernel of its own; "
                    f"set upsample: transposed, or leave {key} out"
                )
