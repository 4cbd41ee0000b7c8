"""Whether the parameters beside a Paddle program are its own: a wrong file ends the process inside Paddle.

Only the heads of the tensors are read, so that half a gigabyte costs no time.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from paddlefcn.deploy.operators import protobuf_fields, varint
from paddlefcn.errors import ConfigError
from paddlefcn.files import read_bytes

_MAX_PROGRAM = 1 << 28
_MAX_HEAD = 1 << 12  # bytes that describe one tensor
# framework.proto's VarType.Type: bytes of a value
_BYTES = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1, 22: 2}
Shape = tuple[int, ...]


def check_parameters(program: Path, parameters: Path) -> None:
    """Compares the shapes in a file of parameters with those that a program (.json, .pdmodel) asks for.

    Raises:
        ConfigError: one of them is no such file, or they do not belong together.
    """
    try:
        wanted = _of_json(program) if program.suffix == ".json" else _of_protobuf(program)
    except _FORGED as error:
        raise ConfigError(f"{program}: is no program that export writes ({_reason(error)})") from error
    try:
        found = list(_stored(parameters))
    except (*_FORGED, OSError) as error:
        raise ConfigError(
            f"{parameters}: is no file of parameters ({_reason(error)}); export again"
        ) from error
    shapes = [shape for _, shape in sorted(wanted)]  # they are stored by name
    if found != shapes:
        odd = next((i for i, pair in enumerate(zip(found, shapes)) if pair[0] != pair[1]), len(shapes))
        raise ConfigError(
            f"{parameters}: holds {len(found)} tensors, {program.name} asks for {len(shapes)}, and the first "
            f"that differs is number {odd + 1}; they are not of one export"
        )


_FORGED = (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError, struct.error)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _of_json(path: Path) -> list[tuple[str, Shape]]:
    """(name, shape) of every parameter: operators `p` of the first block."""
    tree: Any = json.loads(read_bytes(path, _MAX_PROGRAM))
    operators = tree["program"]["regions"][0]["blocks"][0]["ops"]
    return [
        (str(operator["A"][3]), tuple(int(side) for side in operator["O"]["TT"]["D"][1]))
        for operator in operators
        if operator["#"] == "p"
    ]


def _of_protobuf(path: Path) -> list[tuple[str, Shape]]:
    """ProgramDesc.blocks = 1, BlockDesc.vars = 3, VarDesc: name = 1, type = 2, persistable = 3.

    Of the type: lod_tensor = 3, in it tensor = 1, in it dims = 2.
    """
    found = []
    for number, block in protobuf_fields(memoryview(read_bytes(path, _MAX_PROGRAM))):
        if number != 1:
            continue
        for kind, variable in protobuf_fields(block):
            if kind != 3 or 1 not in _numbers(variable, 3):
                continue
            parts = dict(protobuf_fields(variable))
            tensor = dict(protobuf_fields(parts[2])).get(3)
            if tensor is not None:  # feed and fetch have none
                shape = tuple(_numbers(dict(protobuf_fields(tensor))[1], 2))
                found.append((bytes(parts[1]).decode("utf-8"), shape))
    return found


def _stored(path: Path) -> Iterator[Shape]:
    """The shapes in a file of parameters, in their order."""
    with open(path, "rb") as stream:
        end = os.fstat(stream.fileno()).st_size
        while stream.tell() < end:
            yield _next_shape(stream, end)


def _next_shape(stream: IO[bytes], end: int) -> Shape:
    version, levels = struct.unpack("<IQ", stream.read(12))
    if version or levels:
        raise ValueError("no tensor where one should begin")
    version, length = struct.unpack("<Ii", stream.read(8))
    if version or not 0 < length <= _MAX_HEAD:
        raise ValueError("a tensor without a description")
    head = memoryview(stream.read(length))
    (kind,), shape = _numbers(head, 1), tuple(_numbers(head, 2))
    after = stream.tell() + _BYTES[kind] * math.prod(shape)
    if after > end:
        raise ValueError("a tensor that goes beyond the end")
    stream.seek(after)
    return shape


def _numbers(message: memoryview, field: int) -> list[int]:
    """The integers of a protobuf message's field."""
    found, place = [], 0
    while place < len(message):
        key, place = varint(message, place)
        if key & 7 == 0:
            value, place = varint(message, place)
            if key >> 3 == field:
                found.append(value)
        elif key & 7 == 2:
            length, place = varint(message, place)
            place += length
        else:
            place += 8 if key & 7 == 1 else 4
    return found
