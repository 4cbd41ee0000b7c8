"""From an image to a network's input: one object in training, evaluation, prediction and the export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddlefcn.data.images import Normalize, Resize
from paddlefcn.errors import DataError


@dataclass(frozen=True)
class Preprocess:
    """image [H, W, C] -> float32 [C, h, w]: the `resize` steps one after the other, then `normalize`.

    Args:
        resize: what `data.val_transforms` holds; empty if images are seen at their own size.
        normalize: scale, mean, std and channel order.
    """

    resize: tuple[Resize, ...]
    normalize: Normalize

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Raises DataError for an image with another number of channels than the network's."""
        for step in self.resize:
            image, _ = step(image)
        return self.normalize(image)

    @property
    def channels(self) -> int:
        """How many channels an image must have."""
        return self.normalize.channels

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) of the network's input for an image of this size."""
        for step in self.resize:
            height, width = step.output_size(height, width)
        return height, width

    def check_range(self, image: np.ndarray) -> None:
        """Refuses an image whose values cannot be of the range that the network was trained on.

        Only where `normalize` tells the range: means of 0 to 1 after division by a `scale` of 255.

        Raises:
            DataError: a float image in 0..1, or integers beyond 255; with the factor that mends it.
        """
        normalize = self.normalize
        if normalize.scale != 255 or not image.size or not all(0 <= mean <= 1 for mean in normalize.mean):
            return
        # an image that is black all over is the same in either range
        highest = float(image.max())
        if image.dtype.kind == "f" and 0 < highest <= 1 and float(image.min()) >= 0:
            raise DataError(
                f"a float image with values of 0 to {highest:.3g}, but the network was trained on 0 to 255 "
                "(normalize.scale 255); multiply it by 255"
            )
        if image.dtype.kind in "iu" and image.dtype.itemsize > 1 and highest > 255:
            raise DataError(
                f"a {image.dtype} image with values up to {highest:.0f}, but the network was trained on "
                "0 to 255 (normalize.scale 255); bring it to 8 bits as the training images were"
            )

    def to_dict(self) -> dict[str, Any]:
        """For deploy.yaml."""
        return {"resize": [step.to_dict() for step in self.resize], "normalize": self.normalize.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """What `to_dict` gave, perhaps out of a file: KeyError, TypeError or ValueError if it is not."""
        steps = tuple(Resize(**step) for step in values["resize"])
        return cls(steps, Normalize.from_dict(values["normalize"]))
