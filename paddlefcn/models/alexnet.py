"""FCN-AlexNet: the 32-pixel-stride network on CaffeNet, as the FCN authors published it."""

from __future__ import annotations

from typing import Any

from paddle import nn

from paddlefcn.layers import Upsample
from paddlefcn.models.fcn import FCN32s


class FCNAlexNet(FCN32s):
    """FCN-32s on `AlexNet`: fc6 6x6 without padding, one 63/32 deconvolution.

    Long, Shelhamer and Darrell, CVPR 2015, section 4.1; ``voc-fcn-alexnet`` of the authors.
    """

    default_backbone = "AlexNet"
    image_offset = 18
    reference_fc6_kernel = 6

    def __init__(
        self,
        backbone: nn.Layer,
        *,
        num_classes: int,
        fc_channels: int = 4096,
        dropout: float = 0.5,
        learn_upsampling: str | None = None,
    ) -> None:
        """Put the score layer and the deconvolution on a built `AlexNet`; see `FCN`."""
        super().__init__(
            backbone,
            num_classes=num_classes,
            padding="reference",
            fc_channels=fc_channels,
            fc6_kernel=self.reference_fc6_kernel,
            dropout=dropout,
            learn_upsampling=learn_upsampling,
        )

    @staticmethod
    def backbone_arguments(**_: Any) -> dict[str, Any]:
        """What these arguments of the model ask of its backbone's constructor: nothing."""
        return {}

    def _upsample(self, factor: int, *, last: bool = False) -> Upsample:
        learn = self.learn_upsampling == "all"
        # odd, so that its centre lies on a pixel, as published
        return Upsample(self.num_classes, factor, kernel=63, learn=learn, **self.upsampling)
