"""Caffe's `.caffemodel` files, read through protobuf with the few fields that hold weights.

The schema is built here at run time, so neither Caffe nor a generated module is needed. Field
numbers are those of BVLC's caffe.proto. Packed floats are declared as bytes, which have the same
wire format: half a gigabyte then becomes one numpy array instead of 134 million Python floats.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from paddlefcn.errors import WeightsError
from paddlefcn.weights.state import State

# message -> (field, number, type, repeated); a type that is no scalar names a message
SCHEMA: dict[str, list[tuple[str, int, str, bool]]] = {
    "BlobShape": [("dim", 1, "int64", True)],
    "BlobProto": [
        ("num", 1, "int64", False),
        ("channels", 2, "int64", False),
        ("height", 3, "int64", False),
        ("width", 4, "int64", False),
        ("data", 5, "bytes", False),
        ("shape", 7, "BlobShape", False),
        ("double_data", 8, "bytes", False),
    ],
    "LayerParameter": [
        ("name", 1, "string", False),
        ("type", 2, "string", False),
        ("blobs", 7, "BlobProto", True),
    ],
    # what layers were called until 2014; VGG's own files have them. Its type is an enum
    "V1LayerParameter": [
        ("name", 4, "string", False),
        ("type", 5, "int64", False),
        ("blobs", 6, "BlobProto", True),
    ],
    "NetParameter": [
        ("name", 1, "string", False),
        ("layers", 2, "V1LayerParameter", True),
        ("layer", 100, "LayerParameter", True),
    ],
}


@cache
def message(name: str) -> Any:
    """The protobuf class of a message of SCHEMA."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="paddlefcn_caffe.proto", package="paddlefcn")
    for message_name, fields in SCHEMA.items():
        described = file.message_type.add(name=message_name)
        for field, number, kind, repeated in fields:
            entry = described.field.add(name=field, number=number)
            entry.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind in SCHEMA:
                entry.type, entry.type_name = kinds.TYPE_MESSAGE, f".paddlefcn.{kind}"
            else:
                entry.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName(f"paddlefcn.{name}")
    if hasattr(message_factory, "GetMessageClass"):  # protobuf 4.22 and newer
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


def read_caffemodel(path: Path) -> State:
    """Blobs by name: `LAYER.weight` and `LAYER.bias`, further ones by number; float32.

    Inner products have 2-D weights [out, in]. Raises WeightsError if the file is no such model.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    net = message("NetParameter")()
    try:
        net.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise WeightsError(f"{path}: not a .caffemodel, or truncated") from error
    state: State = {}
    for layer in [*net.layers, *net.layer]:
        for index, blob in enumerate(layer.blobs):
            suffix = ("weight", "bias")[index] if index < 2 else str(index)
            state[f"{layer.name}.{suffix}"] = _blob(path, layer.name, blob, index)
    if not state:
        raise WeightsError(f"{path}: not a .caffemodel, or one without weights (a prototxt?)")
    return state


def _blob(path: Path, layer: str, blob: Any, index: int) -> np.ndarray:
    if blob.double_data:
        values = np.frombuffer(blob.double_data, "<f8").astype(np.float32)
    else:
        values = np.frombuffer(blob.data, "<f4") if blob.data else np.zeros(0, np.float32)
    if blob.HasField("shape"):
        shape = [int(n) for n in blob.shape.dim]
    else:
        shape = [blob.num, blob.channels, blob.height, blob.width]
        # the four-number form pads with ones in front: a bias is 1x1x1xN, an inner product 1x1xOxI
        if shape[:2] == [1, 1]:
            shape = shape[3:] if shape[2] == 1 and index == 1 else shape[2:]
    if min(shape, default=1) < 0 or math.prod(shape) != values.size:
        raise WeightsError(f"{path}: layer {layer}: {values.size} values for shape {shape}: damaged")
    return values.reshape(shape)
