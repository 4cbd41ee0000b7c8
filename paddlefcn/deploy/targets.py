"""What an export can be: its format, precision and outputs, and how close each must come to the network."""

from __future__ import annotations

from dataclasses import dataclass

from paddlefcn.errors import ConfigError

# format -> the precisions that have been tried on it, and the engines that run it
FORMATS = {
    "paddle": ("fp32", "bf16", "int8"),
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}
OUTPUTS = ("logits", "labels")
MODULES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "onednn": "paddle", "native": "paddle"}


@dataclass(frozen=True)
class Tolerances:
    """How far an engine's output may be from the network's.

    Args:
        logits: the largest difference, of the largest logit.
        spread: the root mean square of the differences, of that of the logits about their mean.
        pixels: the share of pixels with another class, those aside whose classes are closer than `logits`.
    """

    logits: float
    spread: float
    pixels: float


TOLERANCES = {
    "fp32": Tolerances(1e-4, 1e-4, 1e-4),
    "bf16": Tolerances(0.05, 0.03, 0.02),
    "int8": Tolerances(0.5, 0.25, 0.05),
}


@dataclass(frozen=True)
class Scoring:
    """What bf16 and int8 are scored on: a split, and how much mean IoU they may lose, in points of 100."""

    split: str = "val"
    max_loss: float = 0.5


@dataclass(frozen=True)
class Target:
    """One of the pairs of FORMATS, and whether the program returns logits or class ids.

    Raises:
        ConfigError: a pair that is not offered; names those that are.
    """

    format: str = "paddle"
    precision: str = "fp32"
    outputs: str = "logits"

    def __post_init__(self) -> None:
        if self.precision not in FORMATS.get(self.format, ()):
            pairs = "; ".join(f"{name} {', '.join(kinds)}" for name, kinds in FORMATS.items())
            raise ConfigError(f"export: no {self.format} with {self.precision}; there is {pairs}")
        if self.outputs not in OUTPUTS:
            raise ConfigError(f"export: outputs {self.outputs!r}; expected {' or '.join(OUTPUTS)}")

    @property
    def engines(self) -> tuple[str, ...]:
        """What can run it, one of which `infer` chooses."""
        if self.format == "paddle":
            return ("onednn", "native") if self.precision == "fp32" else ("onednn",)
        return ("onnxruntime",) if self.format == "onnx" else ("openvino",)

    @property
    def tolerances(self) -> Tolerances:
        """Those of the precision."""
        return TOLERANCES[self.precision]
