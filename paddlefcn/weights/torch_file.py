"""PyTorch's `.pth` files, zip (since 1.6) and legacy, read without torch and without running them.

Both hold a pickle whose tensors name storages: in the zip each is an entry, in the legacy format
they follow the pickle one after the other.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from paddlefcn.errors import WeightsError
from paddlefcn.weights.safetensors_file import widen_bfloat16
from paddlefcn.weights.state import State, check_expansion, tensors_of
from paddlefcn.weights.unpickle import PLAIN, Allowed, Pending, PendingParameter, dimensions, unpickle

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}


@dataclass(frozen=True)
class _StorageType:
    """What `torch.FloatStorage` stands for when a storage is named."""

    code: str

    @property
    def itemsize(self) -> int:
        return 2 if self.code == "bfloat16" else np.dtype(self.code).itemsize

    def values(self, data: bytes) -> np.ndarray:
        if not data:
            return np.zeros(0, np.float32)
        if self.code == "bfloat16":
            return widen_bfloat16(np.frombuffer(data, "<u2"))
        return np.frombuffer(data, self.code)


class _Storage:
    """A storage of the file; its bytes are read when first asked for."""

    def __init__(self, kind: _StorageType, key: str, count: int) -> None:
        self.kind, self.key, self.count = kind, key, count
        self.read: Callable[[_Storage], bytes] | None = None
        self._values: np.ndarray | None = None

    def values(self) -> np.ndarray:
        if self._values is None:
            if self.read is None:
                raise ValueError(f"storage {self.key} is not in the file")
            data = self.read(self)
            if len(data) != self.count * self.kind.itemsize:
                raise ValueError(f"storage {self.key} has {len(data)} bytes, not {self.count} values")
            self._values = self.kind.values(data)
        return self._values


@dataclass(frozen=True)
class _View:
    """A part of a storage."""

    storage: _Storage
    start: int
    size: int


class _Tensor(Pending):
    """What `torch._utils._rebuild_tensor` is asked for: a strided window on a storage."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> None:
        (offset,) = dimensions((offset,))
        if isinstance(storage, _View):
            storage, offset = storage.storage, storage.start + offset
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor without a storage")
        self.storage, self.offset = storage, offset
        self.size, self.stride = dimensions(size), dimensions(stride)

    def array(self) -> np.ndarray:
        values = self.storage.values()
        if len(self.size) != len(self.stride):
            raise ValueError(f"a tensor of size {self.size} and stride {self.stride}")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride))
        # never more elements than the storage holds: a stride of 0 would make gigabytes of nothing
        if 0 not in self.size and (last >= values.size or math.prod(self.size) > values.size):
            raise ValueError(f"a tensor of size {self.size} in a storage of {values.size}")
        steps = [step * values.itemsize for step in self.stride]
        if 0 in self.size:
            return np.zeros(self.size, values.dtype)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.size, steps, writeable=False)


def _parameter(value: Any, *_: Any) -> Any:
    return value


def _names() -> Allowed:
    names: Allowed = {
        ("torch._utils", "_rebuild_tensor"): _Tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch.nn.parameter", "Parameter"): PendingParameter,
        ("torch", "Size"): tuple,
        ("torch", "device"): lambda *_: None,
    }
    for name, code in _STORAGES.items():
        # only named, never called
        names["torch", name] = names["torch.cuda", name] = _StorageType(code)
    return {**PLAIN, **names}


ALLOWED = _names()


def is_torch(path: Path, head: bytes) -> bool:
    """Whether a file is PyTorch's, zip or legacy, by its first bytes and entries."""
    if head[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    # the legacy magic number as every protocol writes it: LONG1, ten bytes
    return LEGACY_MAGIC.to_bytes(10, "little") in head[:24]


def read_torch(path: Path) -> State:
    """The tensors of a `.pth`; bfloat16 comes as float32. Raises whatever broken bytes raise."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _read_zip(path, archive)
    with path.open("rb") as file:
        return _read_legacy(path, file)


def _storage_of(pid: Any) -> _Storage:
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
        raise ValueError("a persistent id that names no storage")
    kind, key, (count,) = pid[1], pid[2], dimensions((pid[4],))
    if not isinstance(kind, _StorageType) or not isinstance(key, str):
        raise ValueError("a storage of unknown type")
    return _Storage(kind, key, count)


def _read_zip(path: Path, archive: zipfile.ZipFile) -> State:
    check_expansion(path, archive)
    entries = set(archive.namelist())
    pickled = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise WeightsError(f"{path}: a zip file, but no PyTorch checkpoint")
    root = pickled[0][: -len("data.pkl")]
    if f"{root}constants.pkl" in entries and f"{root}code/" in "".join(sorted(entries)):
        raise WeightsError(f"{path}: a TorchScript program; save its state_dict() instead")
    order = f"{root}byteorder"
    if order in entries and archive.read(order).strip() == b"big":
        raise WeightsError(f"{path}: written on a big-endian machine, which is not supported")
    known: dict[str, _Storage] = {}

    def persistent(pid: Any) -> _Storage:
        storage = _storage_of(pid)
        storage = known.setdefault(storage.key, storage)
        storage.read = lambda wanted: archive.read(f"{root}data/{wanted.key}")
        return storage

    with archive.open(pickled[0]) as member:
        content = unpickle(_in_memory(member.read()), ALLOWED, persistent)
    return tensors_of(path, content)


def _in_memory(data: bytes) -> BinaryIO:
    import io

    return io.BytesIO(data)


def _read_legacy(path: Path, file: BinaryIO) -> State:
    if unpickle(file) != LEGACY_MAGIC or unpickle(file) != _LEGACY_PROTOCOL:
        raise WeightsError(f"{path}: not a PyTorch file")
    system = unpickle(file)
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise WeightsError(f"{path}: written on a big-endian machine, which is not supported")
    known: dict[str, _Storage] = {}

    def persistent(pid: Any) -> _Storage | _View:
        storage = _storage_of(pid)
        storage = known.setdefault(storage.key, storage)
        view = pid[5] if len(pid) > 5 else None
        if view is None:
            return storage
        start, size = dimensions(view[1:])
        return _View(storage, start, size)

    content = unpickle(file, ALLOWED, persistent)
    keys = unpickle(file)
    if not isinstance(keys, list):
        raise WeightsError(f"{path}: damaged: no list of storages")
    for key in keys:
        storage = known.get(key) if isinstance(key, str) else None
        (count,) = struct.unpack("<q", file.read(8))
        if storage is None or count != storage.count:
            raise WeightsError(f"{path}: damaged: a storage is not the one its tensors name")
        start, length = file.tell(), count * storage.kind.itemsize
        data = file.read(length) if start + length <= path.stat().st_size else b""
        storage.read = lambda _, data=data: data  # type: ignore[misc]
    return tensors_of(path, content)
