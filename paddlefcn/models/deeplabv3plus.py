"""DeepLabV3+: DeepLabV3 as an encoder, and a decoder that brings back a finer map.

Chen, Zhu, Papandreou, Schroff and Adam, "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation", ECCV 2018, figure 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import paddle
from paddle import nn

from paddlefcn.backbones import Backbone
from paddlefcn.layers import ConvBNReLU, Resize, SeparableConvBNReLU, convolution
from paddlefcn.models.base import SegmentationModel, check_dropout, check_width
from paddlefcn.models.deeplabv3 import atrous_rates
from paddlefcn.models.heads import ASPP


class DeepLabV3Plus(SegmentationModel):
    """ASPP resized to a map of stride 4, beside that map's 48 channels, through two 3x3 convolutions."""

    default_backbone = "ResNet50"
    backbone_defaults: ClassVar[Mapping[str, Any]] = {"output_stride": 16}
    smallest: ClassVar[dict[str, Any]] = {
        "backbone": {"type": "ResNet18", "width": 2},
        "channels": 4,
        "low_level_channels": 2,
    }

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        channels: int = 256,
        low_level: str | None = None,
        low_level_channels: int = 48,
        rates: Sequence[int] | None = None,
        separable: bool = True,
        inner_relu: bool = True,
        inner_norm: bool = True,
        encoder_convolution: bool = False,
        decoder_convolutions: int = 2,
        dropout: float = 0.1,
        align_corners: bool = False,
    ) -> None:
        """Put encoder and decoder on the backbone.

        channels: of the pyramid and the decoder. rates: as in `DeepLabV3`.
        low_level, low_level_channels: the finer map by name (None: the deepest of stride 4), and to what its
            channels are reduced (section 4.1, table 1).
        separable: whether 3x3 convolutions of pyramid and decoder are depthwise separable, as published for
            Xception (section 4.3); inner_relu, inner_norm: whether ReLU, BatchNorm stand between its steps.
        encoder_convolution: one more 3x3 behind the pyramid. decoder_convolutions: so many 3x3 behind the
            finer map (section 4.1: 2). segmentation_models.pytorch has true and 1.
        dropout: behind the pyramid. align_corners: of every resizing.
        """
        super().__init__(backbone, num_classes)
        check_width("channels", channels, 256)
        check_width("low_level_channels", low_level_channels, 48)
        check_dropout(dropout)
        if not 1 <= decoder_convolutions <= 8:
            raise ValueError(f"decoder_convolutions: got {decoder_convolutions}, expected 1 to 8")
        low = backbone.deepest(4) if low_level is None else backbone.map(low_level)
        deep = backbone.last
        self.taps = (low.name, deep.name)
        rates = atrous_rates(rates, deep)
        self.aspp = ASPP(
            deep.channels,
            channels,
            rates,
            separable=separable,
            inner_relu=inner_relu,
            inner_norm=inner_norm,
            dropout=dropout,
        )
        self.reduce = ConvBNReLU(low.channels, low_level_channels, 1)

        def block(before: int) -> nn.Layer:
            if not separable:
                return ConvBNReLU(before, channels, 3)
            return SeparableConvBNReLU(before, channels, inner_relu=inner_relu, inner_norm=inner_norm)

        self.encoder_block = block(channels) if encoder_convolution else nn.Identity()
        widths = [channels + low_level_channels] + [channels] * (decoder_convolutions - 1)
        self.decoder = nn.LayerList([block(before) for before in widths])
        self.score = convolution(channels, num_classes, 1)
        self.resize = Resize(align_corners=align_corners)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        low, deep = self.backbone(image, self.taps)
        encoded = self.encoder_block(self.aspp(deep))
        low = self.reduce(low)
        x = paddle.concat([self.resize(encoded, low), low], axis=1)
        for block in self.decoder:
            x = block(x)
        return [self.resize(self.score(x), image)]
