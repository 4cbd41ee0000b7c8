"""The processes that train together: started by `python -m paddle.distributed.launch`, or this one alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import paddle

if TYPE_CHECKING:
    from paddle import nn


class Ranks:
    """This process, number `rank` of `size`; everything here does nothing where it is the only one.

    Numbers are added over all of them in float64, in the order of their ranks: each gets the same sum.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def is_first(self) -> bool:
        """Whether this process writes what the run leaves."""
        return self.rank == 0

    def wrap(self, model: nn.Layer, *, uses_all: bool = True) -> nn.Layer:
        """The model as the forward pass calls it, so that backward averages its gradients over the ranks.

        Args:
            uses_all: whether every parameter takes part in every step; where one may not, paddle looks
                for those that did not, which costs a walk over the graph.
        """
        if self.size == 1:
            return model
        return paddle.DataParallel(model, find_unused_parameters=not uses_all)

    def apart(self, model: nn.Layer, hold: bool) -> AbstractContextManager[Any]:
        """While a batch is not the step's last (`hold`), gradients add up here without being exchanged."""
        return model.no_sync() if hold and self.size > 1 else contextlib.nullcontext()

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value added up over the ranks."""
        if self.size == 1:
            return list(values)
        return [float(sum(column)) for column in zip(*self.gather(list(values)))]

    def gather(self, value: Any) -> list[Any]:
        """What every rank brought, in their order; anything that can be pickled."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = []
        paddle.distributed.all_gather_object(gathered, value)
        return gathered

    def from_first(self, value: Any) -> Any:
        """What rank 0 brought."""
        return self.gather(value)[0]


ALONE = Ranks()


def launched() -> tuple[int, int]:
    """(rank, number of ranks) that `paddle.distributed.launch` set for this process; (0, 1) without it."""
    return int(os.environ.get("PADDLE_TRAINER_ID", "0")), int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
