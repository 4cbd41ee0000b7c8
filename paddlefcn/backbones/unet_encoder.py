"""The contracting path of U-Net (Ronneberger, Fischer and Brox, MICCAI 2015, figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import paddle
from paddle import nn

from paddlefcn.backbones.base import Backbone, FeatureMap
from paddlefcn.layers import CeilMaxPool, ConvBNReLU

POOLINGS = ("ceil", "floor")


class UNetEncoder(Backbone):
    """Maps ``stage1`` (stride 1) to ``stage5`` (16): two 3x3 convolutions each, 2x2 pooling between them.

    Two departures from the paper: convolutions are padded, so that logits have the image's size, and
    BatchNorm follows them.
    """

    smallest: ClassVar[dict[str, Any]] = {"widths": [2, 2, 3, 3, 4]}

    def __init__(
        self,
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        batch_norm: bool = True,
        pooling: str = "ceil",
        in_channels: int = 3,
    ) -> None:
        """``widths``: channels of the stages. ``pooling``: sizes round up (``ceil``) or down (``floor``)."""
        super().__init__()
        if not 2 <= len(widths) <= 8 or min(widths) < 1:
            raise ValueError(f"widths: got {list(widths)}, expected channels of 2 to 8 stages")
        if pooling not in POOLINGS:
            raise ValueError(f"pooling: got {pooling!r}, expected ceil or floor")
        self.pool = CeilMaxPool() if pooling == "ceil" else nn.MaxPool2D(2, 2)
        self.names = [f"stage{number}" for number in range(1, len(widths) + 1)]
        self.maps = tuple(
            FeatureMap(name, width, 2**number, rounds_up=pooling == "ceil")
            for number, (name, width) in enumerate(zip(self.names, widths))
        )
        for name, width in zip(self.names, widths):
            first = ConvBNReLU(in_channels, width, batch_norm=batch_norm)
            setattr(self, name, nn.Sequential(first, ConvBNReLU(width, width, batch_norm=batch_norm)))
            in_channels = width

    def forward(self, image: paddle.Tensor, names: Sequence[str] | None = None) -> list[paddle.Tensor]:
        wanted, found, x = self.wanted(names), {}, image
        # what is deeper than anything asked for is not computed: a pruned U-Net++ is faster by it
        for name in self.names[: 1 + max(self.names.index(name) for name in wanted)]:
            x = x if name == "stage1" else self.pool(x)
            x = getattr(self, name)(x)
            if name in wanted:
                found[name] = x
        return [found[name] for name in wanted]
