"""Files and folders that are complete or absent: written beside the target, flushed to disk, renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from paddlefcn.errors import OutputError, RunError

MANIFEST = "manifest.json"
# the user's to mend, unlike a full or failing disk: permissions, a read-only disk, a place that cannot be
_MENDABLE = "EACCES EPERM EROFS ENOTDIR EISDIR EEXIST ENOENT ENAMETOOLONG ELOOP"
_NOT_ALLOWED = tuple(getattr(errno, name) for name in _MENDABLE.split() if hasattr(errno, name))

_NO_ROOM = 1 << 16  # bytes: a disk with fewer is full


def cache_folder() -> Path:
    """Where downloads and builds are kept: $PADDLEFCN_CACHE, else the user's cache folder."""
    if os.environ.get("PADDLEFCN_CACHE"):
        return Path(os.environ["PADDLEFCN_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "paddlefcn"


def read_bytes(path: str | Path, max_bytes: int) -> bytes:
    """A plain file's content, read without waiting for a pipe's writer or a device's end.

    Raises:
        OSError: no such file, no plain one, or more bytes than `max_bytes`; its strerror says which.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
            raise OSError(errno.EINVAL, f"is {kind}; expected a file", str(path))
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"more than {max_bytes} bytes; this is not such a file", str(path))
    return content


def read_text(path: str | Path, max_bytes: int = 1 << 28) -> str:
    """`read_bytes` as text in UTF-8; UnicodeDecodeError if it is none."""
    return read_bytes(path, max_bytes).decode("utf-8")


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[IO[bytes]]:
    """A stream that becomes the file in one step, so that a kill or a full disk leaves the old or the new.

    A device or a pipe is written to: replacing it would take it from everybody.

    Raises:
        OutputError: a place that cannot be written to.
        RunError: the disk is full or failing.
    """
    target = Path(path)
    if target.exists() and not target.is_file() and not target.is_dir():
        with naming_errors(target), open(target, "wb") as device:
            yield device
        return
    # the process id keeps two processes that write the same file from sharing the partial one
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    with naming_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Replaces a file in one step (`atomic_file`)."""
    with atomic_file(path) as stream:
        stream.write(content)


def sweep_partial_files(folder: Path) -> None:
    """Removes what killed processes left of `write_bytes` anywhere below; nobody may be writing there."""
    for path in folder.rglob(".*.partial"):
        if path.is_file():
            with contextlib.suppress(OSError):  # it only takes room
                path.unlink()


def write_text(path: str | Path, text: str) -> None:
    """`write_bytes` for text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON beside the target and renames it; NaN and infinities become null."""
    write_text(path, json_text(_finite(value), indent=2) + "\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON as people read it; with escapes where a name in it is not UTF-8, and could not be written."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        text = json.dumps(value, indent=indent)
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "tolist"):  # numpy numbers and arrays
        return _finite(value.tolist())
    return value


@contextlib.contextmanager
def naming_errors(path: Path) -> Iterator[None]:
    """Names the file when the disk is full or the folder cannot be written to."""
    try:
        yield
    except OSError as error:
        if error.errno in _NOT_ALLOWED:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        raise RunError(f"writing {path} failed: {error.strerror or error}") from error


@contextlib.contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Around libraries that write files themselves, and tell a full disk in their own words, or not at all.

    Raises:
        RunError: in the place of whatever failed while there was no room left.
    """
    try:
        yield
    except Exception as error:
        with contextlib.suppress(OSError):
            if shutil.disk_usage(folder).free < _NO_ROOM:
                raise RunError(f"writing {folder} failed: No space left on device") from error
        raise


def lock(stream: IO[Any]) -> bool:
    """Whether this process has the open file to itself from now on, until it closes it or dies.

    A POSIX record lock: a forked worker does not inherit it.
    """
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sync_folder(path: Path) -> None:
    """Makes renames within a folder durable, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_folder(target: Path, files: dict[str, bytes]) -> None:
    """Writes a folder with a manifest of sizes and checksums, complete or not at all.

    A folder that stands there is replaced; it is only taken away once the new one is complete
    (`recover_folder` undoes a replacement that was cut short).
    """
    with _new_folder(target) as partial:
        manifest = {name: _write_durably(partial / name, content) for name, content in files.items()}
        write_text(partial / MANIFEST, json.dumps(manifest, indent=1))


def replace_in_folder(target: Path, name: str, content: bytes) -> None:
    """Replaces one file of a folder that `write_folder` made, and its line of the manifest, in one step.

    The other files are linked, not copied, where the disk can.
    """
    manifest = json.loads(read_text(target / MANIFEST))
    with _new_folder(target) as partial:
        for other in manifest:
            if other != name:
                try:
                    os.link(target / other, partial / other)
                except OSError:  # a disk without links
                    shutil.copyfile(target / other, partial / other)
        manifest[name] = _write_durably(partial / name, content)
        write_text(partial / MANIFEST, json.dumps(manifest, indent=1))


@contextlib.contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside the target that takes its place once everything in it is written."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        with naming_errors(target):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            sync_folder(partial)
            _swap(partial, target)
    except (OutputError, RunError):
        shutil.rmtree(partial, ignore_errors=True)  # gives the space of a half-written folder back
        raise


def _write_durably(path: Path, content: bytes) -> dict[str, Any]:
    """Writes a file to the disk itself; returns its line of the manifest."""
    with open(path, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _swap(partial: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(partial, target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(target: Path) -> None:
    """After a kill in the middle of a replacement, puts the old folder back."""
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        os.replace(old, target)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(target.with_name(f".{target.name}.partial"), ignore_errors=True)


def damage(folder: Path) -> str | None:
    """What is wrong with a folder by its manifest, or None if every file is as it was written."""
    try:
        manifest: dict[str, Any] = json.loads(read_text(folder / MANIFEST))
        for name, wanted in manifest.items():
            content = (folder / name).read_bytes()
            if len(content) != wanted["size"]:
                return f"{name} has {len(content)} bytes of {wanted['size']}"
            if hashlib.sha256(content).hexdigest() != wanted["sha256"]:
                return f"{name} does not match its checksum"
    except OSError as error:
        return f"{Path(error.filename or folder).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is not readable"
    return None


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
