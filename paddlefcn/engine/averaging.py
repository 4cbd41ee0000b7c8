"""Averages of the weights, which often score better than the last step's: exponential, or stochastic."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import paddle
from paddle import nn

from paddlefcn.engine.batch_norm import measure_statistics
from paddlefcn.engine.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from paddlefcn.data.loader import Batch


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


class StochasticAverage(Average):
    """The plain average of the weights from `start` on (SWA, Izmailov et al., UAI 2018).

    Before `start` there is none. BatchNorm's statistics are not averaged but measured again, with the
    averaged weights, before these are scored or saved.

    Args:
        model: the network.
        start: the first optimisation step (1, 2, …) whose weights are taken in.
        every: how many steps apart the weights are that are taken in.
        batches: begins to read what statistics are measured on, the same at every call; it is closed then.
        count: how many of them.
        ranks: the processes that measure together.
    """

    def __init__(
        self,
        model: nn.Layer,
        start: int,
        every: int,
        batches: Callable[[], Iterator[Batch]],
        count: int,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(model, None)
        self.start, self.every = start, every
        self.batches, self.count, self.ranks = batches, count, ranks
        self._is_measured = False

    @paddle.no_grad()
    def update(self, step: int) -> None:
        if step < self.start or (step - self.start) % self.every:
            return
        count = (step - self.start) // self.every + 1  # a skipped step counts: its weights are there too
        for name, value in self.model.state_dict().items():
            if count == 1:
                self.values[name] = value.clone().detach()
            else:
                self.values[name].add_((value.detach() - self.values[name]) / count)
        self._is_measured = False

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        if not self.values:
            yield
            return
        raw = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.set_state_dict(self.values)
        try:
            if not self._is_measured:
                batches = self.batches()
                try:
                    measure_statistics(self.model, itertools.islice(batches, self.count), self.ranks)
                finally:
                    batches.close()  # type: ignore[attr-defined]
                measured = self.model.state_dict()
                self.values = {name: value.clone().detach() for name, value in measured.items()}
                self._is_measured = True
            yield
        finally:
            self.model.set_state_dict(raw)

    def arrays(self) -> dict[str, np.ndarray] | None:
        if not self.values:
            return None
        with self.applied():
            return {name: value.numpy() for name, value in self.values.items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.values = {name: paddle.to_tensor(value) for name, value in arrays.items()}
        self._is_measured = False
