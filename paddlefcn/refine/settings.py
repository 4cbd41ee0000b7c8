"""What can be set of refinement: the `refine` section of a recipe, and the options of a command."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from paddlefcn.arguments import Range
from paddlefcn.errors import DataError, UserError

if TYPE_CHECKING:
    from paddlefcn.refine.map_units import MapTransform


@dataclass(frozen=True)
class CrfSettings:
    """Weights, standard deviations and steps of the mean field.

    Sigmas are in pixels, `color_sigma` in steps of 255 of the image's range (see `refine.crf.DenseCRF`); a
    weight of 0 leaves its kernel out.
    """

    smooth_weight: Annotated[float, Range(0, 1000)] = 3.0
    smooth_sigma: Annotated[float, Range(0.1, 100)] = 3.0
    bilateral_weight: Annotated[float, Range(0, 1000)] = 10.0
    bilateral_sigma: Annotated[float, Range(0.1, 10_000)] = 80.0
    color_sigma: Annotated[float, Range(0.01, 10_000)] = 13.0
    steps: Annotated[int, Range(1, 100)] = 5

    def to_dict(self) -> dict[str, Any]:
        """The settings as YAML holds them."""
        return asdict(self)


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
class RefineOptions:
    """What is asked for at a prediction.

    Args:
        crf: whether the CRF is run.
        min_area: components below it give way to what surrounds them.
        min_confidence: pixels whose class is less probable become `ignore_index`; 0 for none.
        confidence: whether the probability of each pixel's class is wanted.

    Raises:
        UserError: a `min_confidence` outside 0..1.
    """

    crf: bool = False
    min_area: Area | None = None
    min_confidence: float = 0.0
    confidence: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise UserError(f"--min-confidence {self.min_confidence:g}: expected 0 to 1")

    @property
    def needs_scores(self) -> bool:
        """Whether class ids alone are not enough."""
        return self.crf or self.confidence or self.min_confidence > 0

    @property
    def active(self) -> bool:
        """Whether anything is done at all."""
        return self.needs_scores or self.min_area is not None
