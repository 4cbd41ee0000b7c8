"""Weight files of other libraries: read, recognised, and said in this project's names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddlefcn.errors import WeightsError
from paddlefcn.weights.caffe import read_caffemodel
from paddlefcn.weights.entries import IMAGENET, Entry, Foreign
from paddlefcn.weights.families import FAMILIES, rows
from paddlefcn.weights.families.fcn_authors import AT_ONCE, CAFFE_FCN, CAFFE_VGG
from paddlefcn.weights.families.own import OWN
from paddlefcn.weights.loading import normalize_metadata
from paddlefcn.weights.state import State, first_bytes, read_state_and_metadata, reading
from paddlefcn.weights.torch_file import is_torch, read_torch

__all__ = ["AT_ONCE", "FORMATS", "IMAGES", "OWN", "Entry", "Foreign", "read_foreign"]

FORMATS = (
    "auto",
    *dict.fromkeys(name for family in FAMILIES for name in family.FORMATS if name != OWN),
)
# the `model` section of the network that weights were made for, in their metadata
MODEL_KEY = "paddlefcn.model"
# what `--images` may name
IMAGES: dict[str, Mapping[str, object]] = {"imagenet": IMAGENET, "caffe": CAFFE_VGG, "fcn": CAFFE_FCN}


def read_foreign(path: Path, format: str = "auto", *, images: str | None = None) -> Foreign:
    """Read a weight file of any supported library, or our own, in our names.

    `format` is one of FORMATS. `images` (a key of IMAGES) replaces what is known of the library's
    preprocessing. Raises WeightsError if the file holds no network of a known library.
    """
    with reading(path):
        state, container, metadata = _read_any(path, format)
        state = _without_wrapper(state)
        family, found = _detect(path, container, state, metadata)
        if format not in ("auto", found) and not {format, found} <= set(rows.FORMATS):
            raise WeightsError(f"{path}: looks like {found}, not {format}; use --format auto")
        foreign = Foreign(path, found if format == "auto" else format, [], metadata=metadata)
        family.translate(foreign, state)
        if not foreign.entries:
            raise WeightsError(f"{path}: none of its {len(state)} tensors has a known name")
    normalize = IMAGES[images] if images is not None else family.images(foreign)
    if normalize is not None:
        foreign.metadata.update(normalize_metadata(normalize))
    if foreign.network is not None:
        foreign.metadata[MODEL_KEY] = json.dumps(foreign.network.config())
    return foreign


def _read_any(path: Path, format: str) -> tuple[State, str, dict[str, str]]:
    head = first_bytes(path)
    if path.suffix == ".caffemodel" or format == "caffe":
        return read_caffemodel(path), "caffe", {}
    if is_torch(path, head):
        return read_torch(path), "torch", {}
    if head[257:262] == b"ustar":
        raise WeightsError(f"{path}: PyTorch's tar format of before 0.1.11; save it again with torch")
    state, metadata = read_state_and_metadata(path)
    return state, "pickle" if head[:1] == b"\x80" else "plain", metadata


def _without_wrapper(state: State) -> State:
    """Names without the prefix that data-parallel training leaves."""
    for prefix in ("module.", "_layers."):
        if state and all(name.startswith(prefix) for name in state):
            return {name[len(prefix) :]: array for name, array in state.items()}
    return state


def _detect(path: Path, container: str, state: State, metadata: Mapping[str, str]) -> tuple[Any, str]:
    """The family whose names the file has, and the format it gives."""
    for family in FAMILIES:
        found = family.detect(container, state, metadata)
        if found:
            return family, found
    shown = ", ".join(list(state)[:3])
    raise WeightsError(f"{path}: no network of a known library (it has {shown}, …)")
