"""Reading pickles without running anything from them.

A pickle is a program: it may name any function of any module and call it. Here it may name only the
few things that state dicts are made of, and none of those is the real one: each stands for a small
function below that checks what it is given. So neither foreign code nor numpy's own unpickling ever
sees the file's values, and no shape in the file allocates memory before its bytes are there.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, ClassVar

import numpy as np

from paddlefcn.errors import WeightsError

# The pure Python machine: the C one gives a memo index of two billion its 32 GB.
_Machine: Any = pickle._Unpickler  # type: ignore[attr-defined]

# Extension codes, out-of-band buffers and NEWOBJ_EX are left out: no state dict has them.
_OPCODES = (  # noqa: SIM905
    "MARK STOP POP POP_MARK DUP FLOAT INT BININT BININT1 LONG BININT2 NONE BINPERSID REDUCE STRING "
    "BINSTRING SHORT_BINSTRING UNICODE BINUNICODE APPEND BUILD GLOBAL DICT EMPTY_DICT APPENDS GET "
    "BINGET INST LONG_BINGET LIST EMPTY_LIST OBJ PUT BINPUT LONG_BINPUT SETITEM TUPLE EMPTY_TUPLE "
    "SETITEMS BINFLOAT PROTO NEWOBJ TUPLE1 TUPLE2 TUPLE3 NEWTRUE NEWFALSE LONG1 LONG4 BINBYTES "
    "SHORT_BINBYTES SHORT_BINUNICODE BINUNICODE8 BINBYTES8 STACK_GLOBAL MEMOIZE FRAME"
).split()
_MAX_LINE = 65536  # the longest text line: int() of a longer one takes seconds
_MAX_STEPS = 1_000_000  # opcodes: each may make an object of a few hundred bytes

Allowed = dict[tuple[str, str], Any]


class RefusedError(WeightsError):
    """A pickle that names something no weight file needs."""


class Pending:
    """A tensor on its way: its values may come later in the file."""

    def array(self) -> np.ndarray:
        """The array it stands for, once the file is read."""
        raise ValueError("a tensor without its values")


class PendingArray(Pending):
    """A numpy array on its way: `_reconstruct` makes it empty, BUILD fills it."""

    value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _from_bytes(data, dtype, shape, "F" if fortran else "C")

    def array(self) -> np.ndarray:
        """The array itself."""
        return super().array() if self.value is None else self.value


class PendingParameter(Pending):
    """A torch Parameter of old files: NEWOBJ makes it empty, BUILD gives it its tensor."""

    def __init__(self, value: Any = None, *_: Any) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> None:
        self.value = state[0]

    def array(self) -> np.ndarray:
        """The array of the parameter."""
        return self.value.array() if isinstance(self.value, Pending) else super().array()


class PendingDtype:
    """A plain numpy dtype on its way: its name first, its byte order with BUILD."""

    def __init__(self, name: Any) -> None:
        self.dtype = np.dtype(_text(name))
        if self.dtype.kind not in "fiub":
            raise RefusedError(f"it holds an array of dtype {name}; only numbers are read")

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def dimensions(value: Any) -> tuple[int, ...]:
    """A shape or strides: few integers of a size that can be; nothing of the file is converted or printed."""
    numbers = tuple(value) if isinstance(value, (tuple, list)) and len(value) <= 32 else (None,)
    if not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        raise ValueError("a tensor of an impossible shape")
    return numbers


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str) or len(value) > 32:
        raise ValueError("a name was expected")
    return value


def _from_bytes(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if isinstance(data, str):  # pickled by Python 2
        data = data.encode("latin-1")
    if not isinstance(data, bytes) or not isinstance(dtype, PendingDtype):
        raise ValueError("an array without plain bytes")
    shape = dimensions(shape)
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise ValueError(f"an array of shape {shape} in {len(data)} bytes")
    if not data:  # an empty buffer is refused by numpy
        return np.zeros(shape, dtype.dtype)
    array = np.frombuffer(data, dtype=dtype.dtype)
    return array.reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, data: Any) -> np.ndarray:
    return _from_bytes(data, dtype, (), "C")


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return _from_bytes(data, dtype, shape, _text(order))


def _encode(text: Any, encoding: Any) -> bytes:
    # how Python 3 writes bytes into pickles of protocol 2
    if encoding not in ("latin1", "latin-1"):
        raise RefusedError(f"refused: the file tries to call _codecs.encode with {_printed(encoding)}")
    return text.encode("latin-1")


def _empty_bytes(*arguments: Any) -> bytes:
    # and how it writes bytes that hold nothing
    if arguments:
        raise RefusedError("refused: the file tries to call builtins.bytes with arguments")
    return b""


def _eval(source: Any, scope: Any = None) -> Any:
    # Paddle writes a dense tensor as eval('data', {'data': array}); nothing else is answered
    if source != "data" or not isinstance(scope, dict) or set(scope) != {"data"}:
        raise RefusedError(f"refused: the file tries to call builtins.eval({_printed(source)})")
    return scope["data"]


def _ordered_dict(*items: Any) -> Any:
    if items and isinstance(items[0], (list, tuple)):
        _check_keys([pair[0] for pair in items[0]])
    return OrderedDict(*items)


def _check_keys(keys: Sequence[Any]) -> None:
    """Refuses keys whose hashing takes longer than their bytes: nested tuples, numbers of one hash."""
    for key in keys:
        plain = isinstance(key, (str, bytes, bool)) or key is None
        if not plain and not (type(key) is int and abs(key) < 2**31):
            raise RefusedError(f"refused: a {type(key).__name__} as a key, which no weight file needs")


def _printed(value: Any) -> str:
    """A value of the file in a message; only text, since printing nested lists may never end."""
    return repr(value[:60]) if isinstance(value, str) else f"a {type(value).__name__}"


def _tuple(items: Any = ()) -> tuple:
    return tuple(items)


_NDARRAY = "numpy.ndarray, only named"


def _reconstruct(kind: Any, shape: Any, code: Any) -> PendingArray:
    if kind is not _NDARRAY:
        raise RefusedError("refused: the file tries to build an array subclass")
    return PendingArray()


def _numpy_names() -> Allowed:
    names: Allowed = {("numpy", "dtype"): lambda name, *_: PendingDtype(name)}
    names["numpy", "ndarray"] = _NDARRAY
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = _reconstruct
        names[f"{core}.multiarray", "scalar"] = _scalar
        names[f"{core}.numeric", "_frombuffer"] = _frombuffer
    return names


PLAIN: Allowed = {
    **_numpy_names(),
    ("collections", "OrderedDict"): _ordered_dict,
    ("builtins", "tuple"): _tuple,
    ("__builtin__", "tuple"): _tuple,
    ("builtins", "eval"): _eval,
    ("__builtin__", "eval"): _eval,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _empty_bytes,
    ("__builtin__", "bytes"): _empty_bytes,
}


class _Bounded:
    """A file whose reads cannot ask for more than is left of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        here = file.tell()
        self._end = file.seek(0, io.SEEK_END)
        self.size = self._end - here
        file.seek(here)

    def read(self, count: int) -> bytes:
        if count > self._end - self._file.tell():
            raise EOFError("the file ends inside a value")
        return self._file.read(count)

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)  # type: ignore[attr-defined]

    def readline(self) -> bytes:
        line = self._file.readline(_MAX_LINE)
        if len(line) == _MAX_LINE:
            raise ValueError("a text line without an end")
        return line


class _Counted(dict):
    """The opcodes' functions; asking for one too many is refused."""

    def __init__(self, functions: dict) -> None:
        super().__init__(functions)
        self._left = _MAX_STEPS

    def __getitem__(self, opcode: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise RefusedError(f"refused: more than {_MAX_STEPS} steps, which no weight file needs")
        return super().__getitem__(opcode)


class RestrictedUnpickler(_Machine):
    """Pickle's own machine with the opcodes state dicts need and the names in `allowed` alone."""

    dispatch: ClassVar[dict] = {
        getattr(pickle, name)[0]: _Machine.dispatch[getattr(pickle, name)[0]] for name in _OPCODES
    }

    def __init__(
        self,
        file: BinaryIO,
        allowed: Allowed = PLAIN,
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        bounded = _Bounded(file)
        super().__init__(bounded, encoding="latin-1")
        # a call copies what it is given, and one value can be given many times: count it
        self._budget = 8 * bounded.size + 2**20
        self.dispatch = _Counted(type(self).dispatch)  # type: ignore[misc]
        self._allowed = allowed
        self._persistent = persistent

    def find_class(self, module: str, name: str) -> Any:
        """A class or function of the allowed ones alone."""
        try:
            return self._allowed[module, name]
        except KeyError:
            shown = f"{module}.{name}"[:120].replace("\n", " ")
            raise RefusedError(
                f"refused: the file tries to call {shown}, which no weight file needs"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        """A storage that lies beside the pickle."""
        if self._persistent is None:
            raise pickle.UnpicklingError("a persistent id outside a PyTorch file")
        return self._persistent(pid)

    # the stack's top must be one of ours: anything else has a __setstate__ we have not written
    def load_build(self) -> None:
        """Sets the state of what stands for an array; of anything else it is refused."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, (PendingArray, PendingDtype, PendingParameter)):
            self._charge(state)
            target.__setstate__(state)
        elif not isinstance(target, OrderedDict):  # a state dict's _metadata: of no use here
            raise RefusedError(f"refused: the file tries to set the state of a {type(target).__name__}")

    def _charge(self, arguments: Any) -> None:
        for value in arguments:
            if isinstance(value, (str, bytes)):
                self._budget -= len(value)
            elif isinstance(value, (list, tuple, dict)):
                self._budget -= 8 * len(value)
        if self._budget < 0:
            raise RefusedError("refused: the file copies its values over and over")

    def _call(self, function: Any, arguments: Any) -> Any:
        if not callable(function) or not isinstance(arguments, tuple):
            raise RefusedError("refused: the file tries to call something that is not a function")
        self._charge(arguments)
        return function(*arguments)

    def load_dict(self) -> None:
        """A dict whose keys were checked."""
        items = self.pop_mark()
        _check_keys(items[::2])
        self.append(dict(zip(items[::2], items[1::2])))

    def load_setitem(self) -> None:
        """Checks the key, then as the base class."""
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Checks the keys, then as the base class."""
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_reduce(self) -> None:
        """Calls one of the allowed functions, its arguments charged against the budget."""
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    def _instantiate(self, function: Any, arguments: Any) -> None:
        self.append(self._call(function, tuple(arguments)))

    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_reduce


def unpickle(file: BinaryIO, allowed: Allowed = PLAIN, persistent: Callable[[Any], Any] | None = None) -> Any:
    """The object of a pickle at the file's position; arrays come as Pending, see `settle`."""
    return RestrictedUnpickler(file, allowed, persistent).load()


def settle(value: Any) -> Any:
    """An unpickled leaf with its pending array or tensor put in place."""
    if isinstance(value, Pending):
        return value.array()
    # Paddle writes a tensor inside other objects as (name, array)
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Pending):
        return value[1].array()
    return value
