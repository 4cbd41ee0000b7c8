"""The processes that train together: started by `python -m paddle.distributed.launch`, or this one alone."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import paddle

from paddlefcn.errors import RunError

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

    def highest(self, value: int) -> int:
        """The highest of the ranks' values."""
        return max(self.gather(value))

    def from_first(self, value: Any) -> Any:
        """What rank 0 brought."""
        return self.gather(value)[0]


ALONE = Ranks()


def launched() -> tuple[int, int]:
    """(rank, number of ranks) that `paddle.distributed.launch` set for this process; (0, 1) without it."""
    return int(os.environ.get("PADDLE_TRAINER_ID", "0")), int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))


def join_ranks() -> Ranks:
    """Joins the others that were launched with this process: gloo on CPUs, NCCL on GPUs."""
    rank, size = launched()
    if size == 1:
        return ALONE
    if not paddle.distributed.is_initialized():
        paddle.distributed.init_parallel_env()
    return Ranks(rank, size)


@contextlib.contextmanager
def stopping_together(ranks: Ranks) -> Iterator[None]:
    """A rank that is gone is one clear line of the others, which stop too.

    Raises:
        RunError: an exchange with the other ranks failed.
    """
    try:
        yield
    except (RuntimeError, OSError, SystemError) as error:
        words = " ".join(str(error).split())
        if ranks.size == 1 or isinstance(error, RunError) or not _LOST.search(words):
            raise
        raise RunError(
            f"rank {ranks.rank} of {ranks.size} has lost another rank, which has died or cannot be reached; "
            f"all stop without a further checkpoint; its own log tells why ({words[-200:]})"
        ) from error


_LOST = re.compile(r"gloo|nccl|connection (closed|reset)|timed? ?out|socket|tcp.?store", re.IGNORECASE)
