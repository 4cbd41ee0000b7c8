"""The compiled kernels as Python functions over tensors: float32 images in channels-last storage.

A tensor here has Paddle's shape [N, C, H, W] and the strides of [N, H, W, C]: Paddle's own operators take
it (they copy it first), ours hand it on as it is.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import paddle

from paddlefcn.errors import RunError

_POINTER, _INT, _LONG, _FLOAT = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_float
_P, _I, _L, _F = _POINTER, _INT, _LONG, _FLOAT
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "fcn_supported": (_P,),
    "fcn_convolution": (_P, _P, _P, _P),
    "fcn_data_gradient": (_P, _P, _P, _P),
    "fcn_weight_gradient": (_P, _P, _P, _P),
    "fcn_bfloat_is_fast": (),
    "fcn_statistics": (_I, _P, _L, _L, _P, _P),
    "fcn_normalize": (_I, _P, _L, _L, _P, _P, _F, _P, _P, _I, _P),
    "fcn_normalize_gradient": (_I, _P, _P, _L, _L, _P, _P, _F, _P, _P, _I, _I, _P, _P, _P),
    "fcn_add_bias": (_I, _P, _L, _L, _P, _I, _P),
    "fcn_bias_gradient": (_I, _P, _P, _L, _L, _I, _P, _P),
    "fcn_to_channels_last": (_I, _P, _L, _L, _L, _P),
    "fcn_narrow": (_P, _L, _P),
    "fcn_add_relu": (_P, _P, _L, _P),
    "fcn_add_relu_gradient": (_P, _P, _L, _P, _P),
    "fcn_copy_channels": (_P, _L, _P, _L, _L, _L),
    "fcn_max_pool": (_P, _P, _P, _P),
    "fcn_max_pool_gradient": (_P, _P, _P, _P),
}
_BYTES = {"float32": 4, "int16": 2, "uint8": 1}
_LARGE = 4 * 2**20  # bytes; smaller tensors come from memory that is in use already
# buffers inside the library that live from one call to the next, see sources/shared.h
GRADIENT, TRANSPOSED = 2, 4


class Kernels:
    """One loaded library."""

    def __init__(self, file: Path) -> None:
        """Raises OSError where the file is no library of ours."""
        library = ctypes.CDLL(str(file))
        self._functions = {}
        for name, arguments in _SIGNATURES.items():
            try:
                function = getattr(library, name)
            except AttributeError as error:
                raise OSError(f"{file}: no {name}") from error
            function.argtypes, function.restype = arguments, _INT
            self._functions[name] = function
        self._buffer = library.fcn_buffer
        self._buffer.argtypes, self._buffer.restype = (_INT, _LONG), _POINTER
        self._large_pages = library.fcn_use_large_pages
        self._large_pages.argtypes, self._large_pages.restype = (_POINTER, _LONG), None

    def call(self, name: str, *arguments: Any) -> None:
        """Raises RunError where the kernel could not run."""
        if not self._functions[name](*arguments):
            raise RunError(
                f"accelerator: {name} failed (out of memory?); runtime.cpu_accelerator=false does without"
            )

    def says(self, name: str, *arguments: Any) -> bool:
        """Calls a kernel that answers yes or no."""
        return bool(self._functions[name](*arguments))

    def buffer(self, purpose: int, size: int) -> int:
        """The address of `size` bytes that stay until the same purpose is asked for again."""
        address = self._buffer(purpose, size)
        if not address:
            raise RunError(f"accelerator: no memory for {size / 2**20:.0f} MB; lower batch_size or the crop")
        return int(address)

    def empty(self, shape: Sequence[int], dtype: str = "float32") -> paddle.Tensor:
        """An uninitialised tensor."""
        tensor = paddle.empty(shape, dtype)
        size = math.prod(shape) * _BYTES[dtype]
        if size >= _LARGE:
            self._large_pages(tensor.data_ptr(), size)
        return tensor

    def channels_last(self, shape: Sequence[int]) -> paddle.Tensor:
        """An uninitialised float32 tensor of this [N, C, H, W] in channels-last storage."""
        n, c, h, w = shape
        return self.empty([n, h, w, c]).transpose([0, 3, 1, 2])


def is_channels_last(x: paddle.Tensor) -> bool:
    """Whether the numbers of [N, C, H, W] lie as [N, H, W, C]."""
    _, c, h, w = x.shape
    wanted = (h * w * c, 1, w * c, c)
    return all(size == 1 or stride == want for size, stride, want in zip(x.shape, x.strides, wanted))


def numbers(values: Sequence[int]) -> Any:
    """Whole numbers as the kernels take them."""
    return (ctypes.c_int64 * len(values))(*values)
