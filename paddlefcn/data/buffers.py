"""Memory of batches that is used again: what the system hands out anew, it has to clear first."""

from __future__ import annotations

import collections
import math
import weakref
from typing import Any

import numpy as np


class Buffers:
    """Arrays of one kind, whose memory goes round.

    An array is valid as long as it, or a view of it, is held; then its memory serves the next of its size.
    """

    def __init__(self) -> None:
        self._free: collections.deque[np.ndarray] = collections.deque()

    def __reduce__(self) -> tuple[Any, ...]:
        return Buffers, ()  # a worker has memory of its own

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """As `numpy.empty`."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = self._take(size)
        # views hold on to `whole`, whose end therefore is the end of the last of them: it owns no memory, and
        # what does is no array, which numpy would let them hold on to instead
        whole = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(whole, self._free.append, memory).atexit = False
        return whole.view(dtype).reshape(shape)

    def _take(self, size: int) -> np.ndarray:
        while self._free:
            memory = self._free.popleft()
            if memory.nbytes == size:
                return memory  # of another size: batches have grown, and the old ones are let go
        return np.empty(size, np.uint8)
