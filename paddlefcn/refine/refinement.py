"""What is done to scores before they become a label map: one object for val, predict and infer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from paddlefcn.label_maps import label_map, resized_scores
from paddlefcn.refine.components import remove_small
from paddlefcn.refine.crf import DenseCRF
from paddlefcn.refine.map_units import MapTransform
from paddlefcn.refine.settings import RefineOptions, RefineSettings


@dataclass(frozen=True)
class Refined:
    """Class ids [H, W], `ignore_index` where too unsure; the probabilities [C, H, W] if they were needed."""

    labels: np.ndarray
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class Refinement:
    """From scores to class ids: temperature, CRF, unsure pixels, small components, in this order.

    Args:
        settings: of the recipe or the export.
        options: what is asked for.
        ignore_index: what unsure pixels become.
        white: what white is in images that are not of 8 bits, `Normalize.white`.
    """

    settings: RefineSettings = field(default_factory=RefineSettings)
    options: RefineOptions = field(default_factory=RefineOptions)
    ignore_index: int = 255
    white: float = 255.0

    def __call__(
        self,
        image: np.ndarray,
        scores: np.ndarray,
        *,
        gives: str,
        transform: MapTransform | None = None,
    ) -> Refined:
        """The class ids of an image.

        Args:
            image: [H, W, channels] as it was read.
            scores: [num_classes, h, w], brought to the image's size bilinearly; or class ids [H, W].
            gives: what they are: "logits", "probabilities" or "labels".
            transform: of a georeferenced image.

        Raises:
            DataError: `min_area` is in map units, and there is no transform.
        """
        if gives == "labels":
            return Refined(self.without_small(scores, transform))
        if not self.options.needs_scores:
            labels = label_map(scores, (image.shape[0], image.shape[1]))
            return Refined(self.without_small(labels, transform))
        chances = self.probabilities(image, scores, gives=gives)
        return Refined(self.without_small(self.sure_labels(chances), transform), chances)

    def probabilities(self, image: np.ndarray, scores: np.ndarray, *, gives: str) -> np.ndarray:
        """[num_classes, H, W] float32 of sum 1, after temperature and CRF; arguments as of a call."""
        large = resized_scores(scores, (image.shape[0], image.shape[1]))
        chances = softened(large, self.settings.temperature, gives=gives)
        if not self.options.crf:
            return chances
        white = 255.0 if image.dtype == np.uint8 else self.white
        return DenseCRF(self.settings.crf, white)(image, chances)

    def sure_labels(self, chances: np.ndarray) -> np.ndarray:
        """The most probable class, `ignore_index` where that is less probable than `min_confidence`."""
        labels = label_map(chances)
        if not self.options.min_confidence:
            return labels
        kind = labels.dtype if self.ignore_index <= np.iinfo(labels.dtype).max else np.dtype(np.int32)
        unsure = chances.max(axis=0) < self.options.min_confidence
        return np.where(unsure, np.array(self.ignore_index, kind), labels.astype(kind))

    def without_small(self, labels: np.ndarray, transform: MapTransform | None) -> np.ndarray:
        """The map without components below `min_area`."""
        if self.options.min_area is None:
            return labels
        return remove_small(labels, self.options.min_area.pixels(transform), self.ignore_index)

    def to_dict(self) -> dict[str, Any]:
        """What was done, for the record of a score."""
        area = None if self.options.min_area is None else asdict(self.options.min_area)
        crf = self.settings.crf.to_dict() if self.options.crf else None
        done = {"temperature": self.settings.temperature, "crf": crf, "min_area": area}
        return {**done, "min_confidence": self.options.min_confidence}


def softened(scores: np.ndarray, temperature: float, *, gives: str) -> np.ndarray:
    """Probabilities [C, …] of logits, or of probabilities, at a temperature."""
    if gives == "probabilities":
        if temperature == 1:
            return np.asarray(scores, np.float32)
        scores = np.log(np.maximum(scores, np.float32(1e-12)))
    powers = np.exp((scores - scores.max(axis=0)) / np.float32(temperature), dtype=np.float32)
    powers /= powers.sum(axis=0)
    return powers
