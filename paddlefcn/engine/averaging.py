"""An exponential moving average of the weights, which often scores better than the last step's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import paddle
from paddle import nn


class Average:
    """Averages parameters and BatchNorm statistics; with `decay` None it does nothing at all.

    The first steps count more: decay is at most (1 + step) / (10 + step), so that the start is forgotten.
    """

    def __init__(self, model: nn.Layer, decay: float | None) -> None:
        self.model, self.decay = model, decay
        self.values: dict[str, paddle.Tensor] = {}
        if decay is not None:
            self.values = {name: value.clone().detach() for name, value in model.state_dict().items()}

    @paddle.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after optimisation step `step` (1, 2, …)."""
        if self.decay is None:
            return
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, value in self.model.state_dict().items():
            self.values[name].scale_(keep)
            self.values[name].add_(value.detach() * (1 - keep))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Puts the averaged weights into the model for the time of an evaluation."""
        if self.decay is None:
            yield
            return
        raw = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.set_state_dict(self.values)
        try:
            yield
        finally:
            self.model.set_state_dict(raw)

    def arrays(self) -> dict[str, np.ndarray] | None:
        """The averaged weights, or None if nothing is averaged."""
        if self.decay is None:
            return None
        return {name: value.numpy() for name, value in self.values.items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on from an earlier average."""
        if self.decay is not None:
            self.values = {name: paddle.to_tensor(value) for name, value in arrays.items()}
