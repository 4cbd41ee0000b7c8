"""A pipeline of the `albumentations` library, as its `A.save` writes it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from paddlefcn.data.transforms.base import Pair
from paddlefcn.errors import DataError, UserError
from paddlefcn.yaml_files import parse_yaml

_CLASS = "__class_fullname__"


class Albumentations:
    """Runs a saved pipeline on image and mask, its chance drawn anew from each sample's own.

    For 8-bit images. What the pipeline moves in from outside gets its own `fill_mask`, 0 unless it says
    other: give `fill_mask=255` in it where that should be void. No class but albumentations' own is built
    from the file.

    Args:
        file: the YAML file, from the working directory.

    Raises:
        ValueError: no such file, no pipeline, another class, arguments that albumentations refuses; the
            library is not installed.
    """

    def __init__(self, file: str) -> None:
        if not isinstance(file, str) or not file:
            raise ValueError(f"Albumentations file: expected the path of a YAML file, got {file!r}")
        self.file = file
        self._tree = _read(file)
        self._pipeline: Any = _build(self._tree, file)

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Pair:
        if image.dtype != np.uint8:
            raise DataError(f"Albumentations: takes 8-bit images, got {image.dtype}; use other transforms")
        if self._pipeline is None:  # in a worker
            self._pipeline = _build(self._tree, self.file)
        self._pipeline.set_random_seed(int(rng.integers(2**32)))
        # its warps know no int32; float32 holds every id up to 65535
        mask = label if label.dtype == np.uint8 else label.astype(np.float32)
        done = self._pipeline(image=np.ascontiguousarray(image), mask=np.ascontiguousarray(mask))
        out, ids = done["image"], done["mask"]
        wanted = f"uint8 HxWx{image.shape[2]}"
        if not isinstance(out, np.ndarray) or out.dtype != np.uint8:
            raise DataError(f"{self.file}: made no {wanted} of the image; leave Normalize and ToTensor out")
        out = out[:, :, None] if out.ndim == 2 else out
        if out.shape != (*ids.shape, image.shape[2]):
            raise DataError(f"{self.file}: made {out.shape} of image and {ids.shape} of mask, not {wanted}")
        return out, ids if ids.dtype == label.dtype else np.rint(ids).astype(label.dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pipeline": None}


def _read(file: str) -> dict[str, Any]:
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ValueError(f"Albumentations file {file}: {reason}") from None
    try:
        tree = parse_yaml(text, file)
    except UserError as error:
        raise ValueError(f"Albumentations file {error}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("transform"), dict):
        raise ValueError(
            f"Albumentations file {file}: holds no pipeline; write it with A.save(…, data_format='yaml')"
        )
    return tree


def _build(tree: dict[str, Any], file: str) -> Any:
    library = _library()
    from albumentations.core import serialization

    table = serialization.SERIALIZABLE_REGISTRY
    for name in _class_names(tree["transform"]):
        made = table.get(serialization.shorten_class_name(name)) if isinstance(name, str) else None
        if made is None or not made.__module__.startswith("albumentations."):
            version = library.__version__
            raise ValueError(f"Albumentations file {file}: {name!r} is no class of albumentations {version}")
    try:
        with warnings.catch_warnings():
            # it says of a misspelt argument no more than a warning
            warnings.filterwarnings("error", message=".*not valid for transform.*")
            pipeline = serialization.from_dict(tree)
    # it raises whatever its checkers do
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"Albumentations file {file}: {reason or type(error).__name__}") from error
    return pipeline if isinstance(pipeline, library.Compose) else library.Compose([pipeline])


def _class_names(node: Any) -> Iterator[Any]:
    """Every name that the library would look up; a part of a pipeline without one is named None."""
    yield node.get(_CLASS) if isinstance(node, dict) else None
    if isinstance(node, dict):
        parts = node.get("transforms") or ()
        for part in parts if isinstance(parts, (list, tuple)) else (None,):
            yield from _class_names(part)


def _library() -> Any:
    before = os.environ.get("NO_ALBUMENTATIONS_UPDATE")
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # importing it would ask the network for a newer one
    try:
        import albumentations
    except ImportError:
        raise ValueError("Albumentations: not installed; pip install 'paddlefcn[albumentations]'") from None
    finally:
        if before is None:
            del os.environ["NO_ALBUMENTATIONS_UPDATE"]
        else:
            os.environ["NO_ALBUMENTATIONS_UPDATE"] = before
    return albumentations
