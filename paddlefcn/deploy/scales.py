"""Several sizes of an image and its mirror image through an export, as paddlefcn.inference does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from paddlefcn.errors import UserError
from paddlefcn.label_maps import resized_scores, softmax


class AveragedScales:
    """Class probabilities averaged over sizes of the image, each mirrored too if wanted.

    Args:
        run: [1, C, h, w] float32 -> logits [1, num_classes, h, w].
        scales: factors on height and width; image and probabilities are resized bilinearly.
        flip: whether each size is also seen mirrored left to right.

    Raises:
        UserError: no scale, or one that is not 0.001 to 100.
    """

    def __init__(
        self, run: Callable[[np.ndarray], np.ndarray], scales: Sequence[float] = (1.0,), flip: bool = False
    ) -> None:
        if not scales or not all(0.001 <= scale <= 100 for scale in scales):
            raise UserError(f"--multi-scale: scales {list(scales)} must be numbers of 0.001 to 100")
        self.run, self.scales, self.flip = run, tuple(float(scale) for scale in scales), flip

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """[N, C, h, w] float32, normalised -> probabilities [N, num_classes, h, w]."""
        return np.stack([self._one(image) for image in batch])

    def _one(self, image: np.ndarray) -> np.ndarray:
        size = (image.shape[1], image.shape[2])
        total: np.ndarray | None = None
        for scale in self.scales:
            smaller = tuple(max(1, round(side * scale)) for side in size)
            seen = np.ascontiguousarray(resized_scores(image, (smaller[0], smaller[1])), np.float32)
            for mirrored in (False, True) if self.flip else (False,):
                scores = self.run(np.ascontiguousarray(seen[:, :, ::-1] if mirrored else seen)[None])[0]
                chances = softmax(scores)
                chances = resized_scores(chances[:, :, ::-1] if mirrored else chances, size)
                total = chances if total is None else total + chances
        assert total is not None
        return total / np.float32(len(self.scales) * (2 if self.flip else 1))
