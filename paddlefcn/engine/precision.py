"""Mixed precision where the device has it; nothing at all where it has not."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
import paddle

Name = Literal["fp32", "bf16", "fp16"]
_TYPES = {"bf16": "bfloat16", "fp16": "float16"}


class Precision:
    """Computes the forward pass in `name` on a GPU that can; in float32 elsewhere, which `note` says.

    With fp16 the loss is scaled, so that small gradients do not vanish; a step with an overflow is left
    out and the scale lowered. The scale belongs into a checkpoint: `arrays` and `load`.
    """

    def __init__(self, name: Name = "fp32") -> None:
        self.note = None if name == "fp32" else _missing(name)
        self.name: Name = "fp32" if self.note else name
        self._scaler = paddle.amp.GradScaler(enable=self.name == "fp16")

    @property
    def leaves_out_overflows(self) -> bool:
        """Whether `update` itself looks at the gradients and takes no step where they are not finite."""
        return self.name == "fp16"

    def forward(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        kind = _TYPES.get(self.name, "float16")
        return paddle.amp.auto_cast(enable=self.name in _TYPES, dtype=kind, level="O1")

    def scaled(self, loss: paddle.Tensor) -> paddle.Tensor:
        """What backward starts from."""
        return self._scaler.scale(loss)

    def update(self, optimizer: paddle.optimizer.Optimizer) -> None:
        """The optimizer's step, with the gradients brought back to their size."""
        self._scaler.step(optimizer)
        self._scaler.update()

    def arrays(self) -> dict[str, np.ndarray]:
        """The state of the scale; empty unless fp16 is in use."""
        return {name: np.asarray(value) for name, value in self._scaler.state_dict().items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `arrays` gave."""
        if arrays and self.name == "fp16":
            state = {name: value if value.ndim else value.item() for name, value in arrays.items()}
            self._scaler.load_state_dict(state)


def _missing(name: Name) -> str | None:
    """Why the device cannot compute in `name`, in words; None if it can."""
    if not paddle.get_device().startswith("gpu"):
        return f"train.precision: {name} is for GPUs; a CPU computes in fp32 here"
    able = paddle.amp.is_bfloat16_supported() if name == "bf16" else paddle.amp.is_float16_supported()
    return None if able else f"train.precision: this GPU has no {name}; computing in fp32"
