"""Decoded pairs kept in memory or on disk, once for all workers.

Either way they lie in one file without a name, which ends with the process however that ends: anonymous
memory (Linux alone), or a file in the temporary folder ($TMPDIR). Workers map it; none holds a copy.
"""

from __future__ import annotations

import dataclasses
import mmap
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from paddlefcn.data.datasets import SegmentationDataset
from paddlefcn.data.workers import ordered_map
from paddlefcn.errors import DataError, RunError

KINDS = ("memory", "disk")
_PROBE = 16  # pairs that tell how much room all of them will take


@dataclasses.dataclass(frozen=True)
class _Pair:
    """Where a pair lies in the file; or why it cannot be read."""

    start: int = 0
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    types: tuple[str, str] = ("", "")
    problem: str | None = None


class CachedDataset(SegmentationDataset):
    """A data set whose `read` decodes each pair once. Arrays are read-only.

    Args:
        dataset: the pairs; not random windows of scenes, which are never the same.
        kind: "memory" or "disk".

    Raises:
        ValueError: another kind, or a data set of random windows.
    """

    def __init__(self, dataset: SegmentationDataset, kind: str) -> None:
        super().__init__(dataset.source, dataset.label_reader, dataset.channels)
        if kind not in KINDS:
            raise ValueError(f"cache: expected {' or '.join(KINDS)}, got {kind!r}")
        if dataset.draws:
            raise ValueError("cache: this data set gives another random window each time; leave cache out")
        if kind == "memory" and not hasattr(os, "memfd_create"):
            raise ValueError("cache: memory needs Linux; use disk")
        self.kind = kind
        self._plain = dataset
        self._file: BinaryIO | None = None  # keeps the memory alive; the process that filled it has it
        self._path: str | None = None
        self._index: list[_Pair] = []
        self._map: mmap.mmap | None = None

    def fill(self, num_workers: int = 0) -> str | None:
        """Decodes every pair, if that was not done; returns a line that says the size.

        Raises:
            DataError: there is not enough room, by the size of the first pairs.
            RunError: the disk is full.
        """
        if self._path is not None:
            return None
        start = time.perf_counter()
        self._file, self._path = _nameless_file(self.kind)
        try:
            self._write(num_workers)
            self._file.flush()
        except BaseException as error:
            self._file.close()
            self._file = self._path = None
            self._index = []
            if isinstance(error, OSError):
                raise RunError(f"data.cache {self.kind}: {error.strerror or error}") from error
            raise
        size = self._file.tell()
        took = time.perf_counter() - start
        return f"cache: {len(self)} pairs, {_amount(size)} {_place(self.kind)}, filled in {took:.1f} s"

    def _write(self, num_workers: int) -> None:
        assert self._file is not None
        work = _Decode(self._plain)
        for number, (image, label, problem) in enumerate(ordered_map(work, range(len(self)), num_workers)):
            if problem is not None:
                self._index.append(_Pair(problem=problem))
                continue
            self._index.append(
                _Pair(self._file.tell(), (image.shape, label.shape), (image.dtype.str, label.dtype.str))
            )
            for array in (image, label):
                self._file.write(np.ascontiguousarray(array).data)
            if number + 1 == min(_PROBE, len(self)):
                self._check_room(self._file.tell() * (len(self) / (number + 1) - 1))

    def _check_room(self, needed: float) -> None:
        room = _free_memory() if self.kind == "memory" else shutil.disk_usage(tempfile.gettempdir()).free
        if needed > 0.9 * room:
            other = (
                "disk or leave it out"
                if self.kind == "memory"
                else "point $TMPDIR elsewhere, or leave it out"
            )
            raise DataError(
                f"data.cache {self.kind}: all {len(self)} pairs take about {_amount(needed)} more, and "
                f"{_amount(room)} are free {_place(self.kind)}; use {other}, or leave it out"
            )

    def read(self, index: int, rng: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As the data set's own; from the cache once it is filled."""
        if self._path is None:
            return self._plain.read(index, rng)
        if self._map is None:
            with open(self._path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                self._map = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else None
        pair = self._index[index]
        if pair.problem is not None:
            raise DataError(pair.problem)
        arrays, start = [], pair.start
        for shape, kind in zip(pair.shapes, pair.types):
            count = int(np.prod(shape))
            arrays.append(np.frombuffer(self._map or b"", kind, count, start).reshape(shape))
            start += arrays[-1].nbytes
        return arrays[0], arrays[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_map": None}  # a worker opens the file itself


@dataclasses.dataclass(frozen=True)
class _Decode:
    dataset: SegmentationDataset

    def __call__(self, index: int) -> tuple[Any, Any, str | None]:
        try:
            return *self.dataset.read(index), None
        except DataError as error:
            return None, None, str(error)  # the loader stops or goes on, when it comes to it


def _nameless_file(kind: str) -> tuple[BinaryIO, str]:
    """A file to write to, and the path by which this process and its workers can open it."""
    if kind == "memory":
        file: BinaryIO = os.fdopen(os.memfd_create("paddlefcn-cache"), "w+b")
    elif Path("/proc/self/fd").exists():
        file = tempfile.TemporaryFile("w+b", prefix="paddlefcn-cache-")  # type: ignore[assignment] # noqa: SIM115
    else:
        named = tempfile.NamedTemporaryFile("w+b", prefix="paddlefcn-cache-")  # noqa: SIM115
        return named, named.name  # type: ignore[return-value]
    return file, f"/proc/{os.getpid()}/fd/{file.fileno()}"


def _free_memory() -> float:
    """Bytes that can be had, by the kernel and the container; without an answer, no limit."""
    room = float("inf")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        room = next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable"))
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            room = min(room, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError, StopIteration):
        pass
    return room


def _amount(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _place(kind: str) -> str:
    return "in memory" if kind == "memory" else f"on disk in {tempfile.gettempdir()}"
