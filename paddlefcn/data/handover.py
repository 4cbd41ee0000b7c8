"""Results of a worker process through shared memory: arrays are written once and never pickled.

The memory is anonymous (memfd): it has no name that a killed process could leave behind, and no size
limit of /dev/shm. Where a system has none (macOS, Windows), results go through the pipe.
"""

from __future__ import annotations

import collections
import dataclasses
import mmap
import os
import pickle
import weakref
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

SMALLEST = 1 << 16  # bytes: less goes through the pipe
_ALIGN = 64
_AVAILABLE = hasattr(os, "memfd_create") and hasattr(reduction, "send_handle")


@dataclasses.dataclass(frozen=True)
class _Parcel:
    """What goes through the pipe: the pickled rest, and where each array lies in a piece of shared memory."""

    content: bytes
    piece: int | None = None
    places: tuple[tuple[int, int], ...] = ()  # (first byte, number of bytes)
    new_size: int = 0  # the piece is new: its descriptor follows
    dropped: tuple[int, ...] = ()  # pieces that were too small and are not used again


class Sender:
    """The worker's side."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._pieces: dict[int, mmap.mmap] = {}
        self._free: set[int] = set()
        self._count = 0

    def recycle(self, pieces: list[int]) -> None:
        """Pieces whose arrays the other side has let go of."""
        self._free.update(pieces)

    def send(self, value: Any) -> None:
        """Sends any picklable value; contiguous arrays in it travel through shared memory."""
        buffers: list[pickle.PickleBuffer] = []
        content = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        views = [buffer.raw() for buffer in buffers]
        places, end = [], 0
        for view in views:
            places.append((end, view.nbytes))
            end += -(-view.nbytes // _ALIGN) * _ALIGN
        if not _AVAILABLE or end < SMALLEST:
            self._pipe.send(_Parcel(pickle.dumps(value, protocol=5)))
            return
        piece, descriptor, dropped = self._take(end)
        memory = self._pieces[piece]
        target = memoryview(memory)
        for (start, length), view in zip(places, views):
            target[start : start + length] = view
        new_size = 0 if descriptor is None else len(memory)
        self._pipe.send(_Parcel(content, piece, tuple(places), new_size, dropped))
        if descriptor is not None:
            try:
                # the receiver's process id matters on Windows alone
                reduction.send_handle(self._pipe, descriptor, None)
            finally:
                os.close(descriptor)

    def _take(self, size: int) -> tuple[int, int | None, tuple[int, ...]]:
        """A free piece of `size` bytes or more: its number, descriptor if new, and pieces given up for it."""
        fitting = [piece for piece in self._free if len(self._pieces[piece]) >= size]
        if fitting:
            best = min(fitting, key=lambda piece: len(self._pieces[piece]))
            self._free.remove(best)
            return best, None, ()
        dropped = tuple(sorted(self._free))
        for piece in dropped:
            del self._pieces[piece]
        self._free.clear()
        room = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        descriptor = os.memfd_create("paddlefcn")
        os.ftruncate(descriptor, room)
        self._count += 1
        self._pieces[self._count] = mmap.mmap(descriptor, room)
        return self._count, descriptor, dropped


class Receiver:
    """The side that reads results. Arrays it returns stay valid as long as they are held."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._pieces: dict[int, mmap.mmap] = {}
        self._released: collections.deque[int] = collections.deque()

    def released(self) -> list[int]:
        """The pieces whose arrays are all gone since the last call, for `Sender.recycle`."""
        return [self._released.popleft() for _ in range(len(self._released))]

    def receive(self) -> Any:
        """The next value. Raises EOFError or OSError when the other side is gone."""
        parcel = self._pipe.recv()
        if parcel.piece is None:
            return pickle.loads(parcel.content)
        for piece in parcel.dropped:
            del self._pieces[piece]
        if parcel.new_size:
            descriptor = reduction.recv_handle(self._pipe)
            try:
                self._pieces[parcel.piece] = mmap.mmap(descriptor, parcel.new_size)
            finally:
                os.close(descriptor)
        # every array made of it holds on to `whole`, whose end therefore is the end of the last of them
        whole = np.frombuffer(self._pieces[parcel.piece], np.uint8)
        weakref.finalize(whole, self._released.append, parcel.piece).atexit = False
        view = memoryview(whole)  # type: ignore[arg-type]
        buffers = [view[start : start + length] for start, length in parcel.places]
        return pickle.loads(parcel.content, buffers=buffers)
