"""State files: finding, reading and writing a network's tensors.

Reading never runs code from the file and never allocates more than the file's size accounts for.
"""

from __future__ import annotations

import errno
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from paddlefcn.errors import UserError, WeightsError
from paddlefcn.files import atomic_file, read_text, sync_folder
from paddlefcn.weights.safetensors_file import (
    is_safetensors,
    read_header,
    read_safetensors,
    widen_bfloat16,
    write_safetensors,
)
from paddlefcn.weights.unpickle import settle, unpickle

MODEL_FILE = "model.safetensors"
# where other projects' checkpoints keep the network among their other entries
NESTED = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
# Paddle's table of structured to generated names, which rides along in every .pdparams
PADDLE_NAME_TABLE = "StructuredToParameterName@@"
# a compressed archive may be larger than its file, but weights hardly compress
_MAX_EXPANSION = 20
_FREE_EXPANSION = 2**26
_PICKLE_SUFFIXES = (".pdparams", ".pdopt", ".pth", ".pt", ".pkl", ".bin", ".tar")

State = dict[str, np.ndarray]


# --- finding -------------------------------------------------------------------------------------


def resolve_weights(path: str | Path) -> Path:
    """The weight file meant by a file, a checkpoint's folder or a run's folder.

    A run's folder means its `best/`, else the last checkpoint that is whole. Raises WeightsError
    if there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        kind = "a pipe or device; expected a file" if path.exists() else "no such file or folder"
        raise WeightsError(f"weights {path}: {kind}")
    for folder in (path, path / "best"):
        if _is_whole(folder):
            return folder / MODEL_FILE
    checkpoints = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    for folder in _newest_first(checkpoints):
        if _is_whole(folder):
            return folder / MODEL_FILE
    for folder in (path, path / "best"):
        if (folder / MODEL_FILE).exists():
            read_header(folder / MODEL_FILE)  # says what is wrong with it
    raise WeightsError(
        f"weights {path}: holds no whole {MODEL_FILE}, nor best/ or checkpoints/iter_N/ with one;"
        " give a .safetensors or .pdparams file, a checkpoint's folder or a run's folder"
    )


def _newest_first(checkpoints: Path) -> list[Path]:
    folders = [entry for entry in checkpoints.glob("iter_*") if re.fullmatch(r"iter_\d+", entry.name)]
    folders.sort(key=lambda folder: int(folder.name[5:]), reverse=True)
    try:
        last = checkpoints / read_text(checkpoints / "last").strip()
    except (OSError, UnicodeDecodeError):
        return folders
    return [last, *folders] if last in folders else folders


def _is_whole(folder: Path) -> bool:
    """Whether the folder's weights have the size their header, and its manifest, promise."""
    file = folder / MODEL_FILE
    try:
        read_header(file)
    except (OSError, WeightsError):
        return False
    try:
        entry = json.loads(read_text(folder / "manifest.json"))[MODEL_FILE]
        return entry["size"] == file.stat().st_size
    except (OSError, ValueError, KeyError, TypeError):
        return True  # best/ of another tool, or a copy of the weights alone


# --- reading -------------------------------------------------------------------------------------


def read_state(path: str | Path) -> State:
    """The tensors of a `.safetensors`, `.pdparams` or `.npz` file, by name.

    bfloat16 comes as float32 (exact). Raises WeightsError, one line, for anything else: a file
    that is missing, empty, truncated, foreign, or that tries to run code.
    """
    return read_state_and_metadata(path)[0]


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a `.safetensors` file; empty for files of other formats."""
    path = Path(path)
    with reading(path):
        if not is_safetensors(first_bytes(path)):
            return {}
        return read_header(path)[1]


def read_state_and_metadata(path: str | Path) -> tuple[State, dict[str, str]]:
    """`read_state` and `read_metadata` in one reading."""
    path = Path(path)
    with reading(path):
        head = first_bytes(path)
        if is_safetensors(head):
            return _not_empty(path, *read_safetensors(path))
        if head[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(path) as archive:
                if any(name.endswith("data.pkl") for name in archive.namelist()):
                    raise WeightsError(f"{path}: {_IMPORT.format('PyTorch')}")
                return _not_empty(path, _read_npz(path, archive), {})
        if path.suffix == ".caffemodel":
            raise WeightsError(f"{path}: {_IMPORT.format('Caffe')}")
        if head[:1] == b"\x80" or path.suffix in _PICKLE_SUFFIXES:
            return _not_empty(path, _read_pdparams(path), {})
    raise WeightsError(f"{path}: neither safetensors, .pdparams nor .npz")


_IMPORT = "a {} file; turn it into ours with `paddlefcn import-weights` first"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever a reader meets in a broken file ends as one line naming the file."""
    try:
        yield
    except WeightsError as error:
        message = " ".join(str(error).splitlines())  # names in a damaged file hold anything
        if message == str(error) and str(path) in message:
            raise
        raise WeightsError(message if str(path) in message else f"{path}: {message}") from None
    except UserError:
        raise
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # these come of damaged offsets
            raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
        raise WeightsError(f"{path}: damaged, truncated or no weight file") from error
    # the zip, pickle and number readers raise nearly every type there is on damaged bytes
    except Exception as error:
        known = str(error) and not isinstance(error, KeyError)
        detail = " ".join(str(error).split())[:120] if known else type(error).__name__
        raise WeightsError(f"{path}: damaged, truncated or no weight file ({detail})") from error


def first_bytes(path: Path) -> bytes:
    """The first 512 bytes, enough to tell the formats apart. An empty file is an error."""
    if path.exists() and not path.is_file():
        kind = "folder" if path.is_dir() else "pipe or device"
        raise WeightsError(f"{path}: a {kind}; a weight file is needed")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise WeightsError(f"{path}: the file is empty")
    return head


def _not_empty(path: Path, state: State, metadata: dict[str, str]) -> tuple[State, dict[str, str]]:
    if not state:
        raise WeightsError(f"{path}: holds no tensors")
    return state, metadata


def check_expansion(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive that would unpack to far more than its own size."""
    total = sum(info.file_size for info in archive.infolist())
    allowed = _FREE_EXPANSION + _MAX_EXPANSION * path.stat().st_size
    if total > allowed:
        raise WeightsError(f"{path}: would unpack to {total} bytes, more than weights ever do")


def _read_npz(path: Path, archive: zipfile.ZipFile) -> State:
    check_expansion(path, archive)
    state = {}
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            raise WeightsError(f"{path}: holds {info.filename[:80]!r}; not a .npz of arrays")
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                version, np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read(member)
            if dtype.kind not in "fiub":
                raise WeightsError(f"{path}: {info.filename[:80]} has dtype {dtype}, not numbers")
            data = member.read()
        # np.frombuffer and reshape check the length; np.load would allocate what the header says
        array = np.frombuffer(data, dtype) if data else np.zeros(0, dtype)
        state[info.filename[:-4]] = array.reshape(shape, order="F" if fortran else "C")
    return state


def _read_pdparams(path: Path) -> State:
    with path.open("rb") as file:
        content = unpickle(file)
    if content == _TORCH_MAGIC:
        raise WeightsError(f"{path}: {_IMPORT.format('PyTorch')}")
    state = tensors_of(path, content)
    # Paddle has no numpy bfloat16 either: it writes the bits as uint16; one array may have many names
    wide = {
        id(v): widen_bfloat16(v) for v in {id(v): v for v in state.values()}.values() if v.dtype == np.uint16
    }
    return {k: wide.get(id(v), v) for k, v in state.items()}


_TORCH_MAGIC = 0x1950A86A20F9469CFC6C


def tensors_of(path: Path, content: Any) -> State:
    """The arrays of an unpickled state dict or checkpoint; other entries (counters) are left.

    A checkpoint that keeps its network under one of the usual names is opened there.
    """
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not a dict of tensors")
    for name in NESTED:
        nested = content.get(name)
        if isinstance(nested, dict) and nested:
            return tensors_of(path, nested)
    state = {}
    for name, value in content.items():
        value = settle(value)
        if isinstance(name, str) and isinstance(value, np.ndarray):
            state[name] = value
    return state


# --- writing -------------------------------------------------------------------------------------


def save_state(layer_or_state: Any, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a layer's state, or a dict of arrays or tensors, as `.safetensors`.

    The file is there whole or not at all. `metadata` maps text to text. Raises
    OutputError for a place that cannot be written to, RunError when the disk is full.
    """
    path = Path(path)
    state = layer_or_state if isinstance(layer_or_state, Mapping) else layer_or_state.state_dict()
    arrays = {name: _as_array(value) for name, value in state.items()}
    with atomic_file(path) as file:
        write_safetensors(file, arrays, metadata)
    sync_folder(path.parent)


def _as_array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    array = np.asarray(value.numpy())
    return widen_bfloat16(array) if str(value.dtype).endswith("bfloat16") else array
