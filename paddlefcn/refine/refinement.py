"""What is done to scores before they become a label map: one object for val, predict and infer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import numpy as np

from paddlefcn.arguments import Range
from paddlefcn.errors import DataError, UserError
from paddlefcn.label_maps import label_map, resized_scores
from paddlefcn.refine.crf import CrfSettings, DenseCRF
from paddlefcn.refine.map_units import MapTransform


@dataclass(frozen=True)
class RefineSettings:
    """The `refine` section of a recipe, carried into the export.

    Args:
        temperature: what logits are divided by before they become probabilities (Guo et al., On Calibration
            of Modern Neural Networks, ICML 2017, section 4.2); `calibrate` finds it.
        crf: of `--crf`; `tune-crf` finds them.
    """

    temperature: Annotated[float, Range(0.01, 100)] = 1.0
    crf: CrfSettings = field(default_factory=CrfSettings)

    def to_dict(self) -> dict[str, Any]:
        """As a recipe and deploy.yaml hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RefineSettings:
        """What `to_dict` gave, perhaps out of a file: TypeError or ValueError if it is not."""
        crf = {key: float(value) for key, value in values["crf"].items() if key != "steps"}
        temperature = float(values["temperature"])
        if not 0.01 <= temperature <= 100:
            raise ValueError(f"refine.temperature: expected 0.01 to 100, got {temperature}")
        return cls(temperature, CrfSettings(**crf, steps=int(values["crf"]["steps"])))


@dataclass(frozen=True)
class Area:
    """A smallest area: pixels, or square units of an image's map."""

    value: float
    map_units: bool = False

    @classmethod
    def parse(cls, text: str) -> Area:
        """`200` pixels, `12.5u2` square map units. UserError for anything else."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(u2)?", text)
        if not match or float(match[1]) <= 0:
            wanted = "a number of pixels above 0, or square map units as 12.5u2"
            raise UserError(f"--min-area {text}: expected {wanted}")
        return cls(float(match[1]), match[2] is not None)

    def pixels(self, transform: MapTransform | None) -> float:
        """The same in pixels of an image.

        Raises:
            DataError: map units, and the image has no transform.
        """
        if not self.map_units:
            return self.value
        if transform is None:
            raise DataError("has no place on a map, which --min-area in u2 needs; give pixels")
        return self.value / transform.pixel_area


@dataclass(frozen=True)
class Refined:
    """Class ids [H, W], `ignore_index` where too unsure, and confidence [H, W] in 0..1 if wanted."""

    labels: np.ndarray
    confidence: np.ndarray | None


@dataclass(frozen=True)
class Refinement:
    """From scores to class ids: temperature, CRF, small components, unsure pixels.

    Args:
        settings: of the recipe or the export.
        ignore_index: what unsure pixels become.
        value_range: what white is in the images' own values.
        crf: whether the CRF is run.
        min_area: components below it give way to what surrounds them.
        min_confidence: pixels whose class is less probable become `ignore_index`; 0 for none.
        confidence: whether the probability of each pixel's class is wanted.
    """

    settings: RefineSettings = field(default_factory=RefineSettings)
    ignore_index: int = 255
    value_range: float = 255.0
    crf: bool = False
    min_area: Area | None = None
    min_confidence: float = 0.0
    confidence: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise UserError(f"--min-confidence {self.min_confidence:g}: expected 0 to 1")

    @property
    def needs_probabilities(self) -> bool:
        """Whether class ids alone are not enough."""
        return self.crf or self.confidence or self.min_confidence > 0

    @property
    def active(self) -> bool:
        """Whether anything is done at all."""
        return self.needs_probabilities or self.min_area is not None

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
            scores: [num_classes, h, w]; brought to the image's size bilinearly.
            gives: what they are: "logits" or "probabilities".
            transform: of a georeferenced image.

        Raises:
            DataError: `min_area` is in map units, and there is no transform.
        """
        size = (image.shape[0], image.shape[1])
        if not self.needs_probabilities:
            return Refined(self.without_small(label_map(scores, size), transform), None)
        chances = self.probabilities(image, scores, gives=gives)
        labels = self.without_small(label_map(chances), transform)
        confidence = np.take_along_axis(chances, labels[None].astype(np.int64), axis=0)[0]
        return Refined(self.without_unsure(labels, confidence), confidence if self.confidence else None)

    def probabilities(self, image: np.ndarray, scores: np.ndarray, *, gives: str) -> np.ndarray:
        """[num_classes, H, W] float32 of sum 1, after temperature and CRF; arguments as of a call."""
        large = resized_scores(scores, (image.shape[0], image.shape[1]))
        chances = softened(large, self.settings.temperature, gives=gives)
        return DenseCRF(self.settings.crf, self.value_range)(image, chances) if self.crf else chances

    def without_small(self, labels: np.ndarray, transform: MapTransform | None) -> np.ndarray:
        """The map without components below `min_area`."""
        if self.min_area is None:
            return labels
        from paddlefcn.refine.components import remove_small

        return remove_small(labels, self.min_area.pixels(transform), self.ignore_index)

    def without_unsure(self, labels: np.ndarray, confidence: np.ndarray) -> np.ndarray:
        """The map with `ignore_index` where the confidence is below `min_confidence`."""
        unsure = confidence < self.min_confidence
        if not unsure.any():
            return labels
        kind = labels.dtype if self.ignore_index <= np.iinfo(labels.dtype).max else np.dtype(np.int32)
        return np.where(unsure, np.array(self.ignore_index, kind), labels.astype(kind))

    def to_dict(self) -> dict[str, Any]:
        """What was done, for the record of a score."""
        area = None if self.min_area is None else asdict(self.min_area)
        crf = self.settings.crf.to_dict() if self.crf else None
        done = {"temperature": self.settings.temperature, "crf": crf, "min_area": area}
        return {**done, "min_confidence": self.min_confidence}


def softened(scores: np.ndarray, temperature: float, *, gives: str) -> np.ndarray:
    """Probabilities [C, …] of logits, or of probabilities, at a temperature."""
    if gives == "probabilities":
        if temperature == 1:
            return np.asarray(scores, np.float32)
        scores = np.log(np.maximum(scores, np.float32(1e-12)))
    powers = np.exp((scores - scores.max(axis=0)) / np.float32(temperature), dtype=np.float32)
    powers /= powers.sum(axis=0)
    return powers


def image_range(scale: float, mean: tuple[float, ...], dtype: np.dtype | None = None) -> float:
    """What white is in an image's own values, by the normalisation it is made for.

    `normalize.scale`, but for a scale of 1: then 255, or 1 where the means are of 0 to 1.
    """
    if dtype is not None and dtype == np.uint8:
        return 255.0
    if scale != 1:
        return float(scale)
    return 255.0 if max(mean) > 1 else 1.0

