"""The safetensors format, read and written with numpy alone.

The format is a length, a JSON header and raw bytes (https://github.com/huggingface/safetensors).
Read here rather than through the package: its numpy side knows no bfloat16 in all versions, and its
writer reports a full disk as a crash of the memory map instead of an error that can be said.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from paddlefcn.errors import WeightsError

# no network here has a header above a few hundred kB; a larger one is damage or an attack
MAX_HEADER_BYTES = 16 * 2**20
METADATA_KEY = "__metadata__"

DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "BF16": "<u2",  # numpy has no bfloat16: read as its bits, widened to float32
}
_NAMES = {np.dtype(code): name for name, code in DTYPES.items() if name != "BF16"}


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """The float32 values (exact) of bfloat16 numbers given as their 16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def is_safetensors(head: bytes) -> bool:
    """Whether a file's first 9 bytes open a safetensors header."""
    return len(head) >= 9 and head[8:9] == b"{" and _length(head) <= 2**40


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """Tensor entries, metadata, and where the tensors' bytes start.

    Raises WeightsError if the header is not a safetensors one, or the file's size is not what the
    header promises (a truncated file).
    """
    size = path.stat().st_size
    if not path.is_file():
        raise WeightsError(f"{path}: is no file")
    with path.open("rb") as file:
        header_bytes = _length(file.read(8))
        if not 2 <= header_bytes <= min(size - 8, MAX_HEADER_BYTES):
            raise WeightsError(f"{path}: not a safetensors file, or truncated ({size} bytes)")
        raw = file.read(header_bytes)
    try:
        header = json.loads(raw.decode("utf-8"))
        metadata = header.pop(METADATA_KEY, {})
        entries = {str(name): _entry(path, name, value) for name, value in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path}: its safetensors header is damaged") from error
    end = 0
    # back to back, as the format demands: so no file can name one block many times
    for name, (_, _, start, stop) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if start != end:
            raise WeightsError(f"{path}: tensor {name} does not start where the one before ends")
        end = stop
    if end != size - 8 - header_bytes:
        have = size - 8 - header_bytes
        raise WeightsError(f"{path}: its tensors need {end} bytes, the file has {have}: truncated or damaged")
    if not isinstance(metadata, dict):
        metadata = {}
    return entries, {str(k): str(v) for k, v in metadata.items()}, 8 + header_bytes


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All tensors (bfloat16 widened to float32) and the metadata of a `.safetensors` file."""
    entries, metadata, offset = read_header(path)
    state = {}
    with path.open("rb") as file:
        for name, (dtype, shape, start, stop) in entries.items():
            file.seek(offset + start)
            code = np.dtype(DTYPES[dtype])
            array = np.fromfile(file, dtype=code, count=(stop - start) // code.itemsize)
            if array.nbytes != stop - start:
                raise WeightsError(f"{path}: ends inside tensor {name}: truncated")
            array = widen_bfloat16(array) if dtype == "BF16" else array
            state[name] = array.reshape(shape)
    return state, metadata


def write_safetensors(
    file: IO[bytes], state: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors and metadata to an open file; equal input gives equal bytes."""
    # wide types first keeps every tensor aligned, as the package's own writer does
    arrays = sorted(state.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, Any] = {}
    if metadata:
        header[METADATA_KEY] = {key: metadata[key] for key in sorted(metadata)}
    end = 0
    for name, array in arrays:
        dtype = _NAMES.get(array.dtype.newbyteorder("<"))
        if dtype is None:
            raise ValueError(f"tensor {name}: safetensors cannot hold dtype {array.dtype}")
        start, end = end, end + array.nbytes
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [start, end]}
    raw = json.dumps(header, separators=(",", ":")).encode("utf-8")
    raw += b" " * (-len(raw) % 8)
    file.write(len(raw).to_bytes(8, "little"))
    file.write(raw)
    for _, array in arrays:
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        file.write(little.reshape(-1).view(np.uint8).data)


def _length(head: bytes) -> int:
    return int.from_bytes(head[:8], "little")


def _entry(path: Path, name: str, value: Any) -> tuple[str, tuple[int, ...], int, int]:
    dtype, shape, (start, stop) = value["dtype"], value["shape"], value["data_offsets"]
    if dtype not in DTYPES:
        raise WeightsError(f"{path}: tensor {name} has dtype {dtype}, which is not supported")
    numbers = [*shape, start, stop]
    if not all(type(number) is int and number >= 0 for number in numbers) or len(shape) > 32:
        raise ValueError(name)
    if math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize != stop - start:
        raise WeightsError(f"{path}: tensor {name} of shape {shape} is not {stop - start} bytes")
    return dtype, tuple(shape), start, stop
