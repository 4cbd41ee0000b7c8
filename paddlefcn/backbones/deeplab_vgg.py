"""VGG16 as DeepLab took it: no stride after the third pooling, a dilated last stage, 3x3 poolings.

Chen, Papandreou, Kokkinos, Murphy and Yuille, "Semantic Image Segmentation with Deep Convolutional Nets and
Fully Connected CRFs", ICLR 2015, section 3, and the authors' prototxt files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import paddle
import paddle.nn.functional as F

from paddlefcn.backbones.base import Backbone, FeatureMap
from paddlefcn.backbones.dilation import Strides
from paddlefcn.layers import ConvBNReLU

ARCH = (2, 2, 3, 3, 3)
WIDTH_FACTORS = (1, 2, 4, 8, 8)


class DeepLabVGG16(Backbone):
    """Maps ``pool1`` (stride 2) to ``pool5`` (8, or the output stride); layers are named as in `VGG16`.

    Sizes round up; those of 8k + 1 pixels, such as the authors' 321, meet without a rest.
    """

    smallest: ClassVar[dict[str, Any]] = {"width": 2}

    def __init__(
        self, *, width: int = 64, batch_norm: bool = True, output_stride: int = 8, in_channels: int = 3
    ) -> None:
        """Build it.

        width: channels of the first stage; the others have 2, 4, 8 and 8 times as many.
        batch_norm: the published network has none. output_stride: 8, 16 or 32.
        """
        super().__init__()
        if not 1 <= width <= 1024:
            raise ValueError(f"width: got {width}, expected 1 to 1024 (published: 64)")
        strides, maps = Strides(output_stride), []
        # names, not layers: whoever replaces a layer (quantisation does) must be obeyed
        self.stages: list[tuple[list[str], str, int]] = []
        for stage, (count, factor) in enumerate(zip(ARCH, WIDTH_FACTORS), start=1):
            names = [f"conv{stage}_{number}" for number in range(1, count + 1)]
            for name in names:
                block = ConvBNReLU(
                    in_channels, width * factor, dilation=strides.dilation, batch_norm=batch_norm
                )
                setattr(self, name, block)
                in_channels = width * factor
            built, _ = strides.take(2)
            self.stages.append((names, f"pool{stage}", built))
            maps.append(FeatureMap(f"pool{stage}", in_channels, strides.stride))
        self.maps = tuple(maps)

    def forward(self, image: paddle.Tensor, names: Sequence[str] | None = None) -> list[paddle.Tensor]:
        wanted, found, x = self.wanted(names), {}, image
        for layers, pool, stride in self.stages:
            for layer in layers:
                x = getattr(self, layer)(x)
            x = F.max_pool2d(x, 3, stride, padding=1)
            if pool in wanted:
                found[pool] = x
        return [found[name] for name in wanted]
