"""Files and folders that are complete or absent: written beside the target, flushed to disk, renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from paddlefcn.errors import OutputError, RunError

MANIFEST = "manifest.json"
# the user's to mend, unlike a full or failing disk: permissions, a read-only disk, a place that cannot be
_MENDABLE = "EACCES EPERM EROFS ENOTDIR EISDIR EEXIST ENOENT ENAMETOOLONG ELOOP"
_NOT_ALLOWED = tuple(getattr(errno, name) for name in _MENDABLE.split() if hasattr(errno, name))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Replaces a file in one step, so that a kill or a full disk leaves the old content or the new."""
    target = Path(path)
    # the process id keeps two processes that write the same file from sharing the partial one
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    with said(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)


def sweep_partial_files(folder: Path) -> None:
    """Removes what killed processes left of `write_bytes` anywhere below; nobody may be writing there."""
    for path in folder.rglob(".*.partial"):
        if path.is_file():
            with contextlib.suppress(OSError):  # it only takes room
                path.unlink()


def write_text(path: str | Path, text: str) -> None:
    """`write_bytes` for text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def said(path: Path) -> Iterator[None]:
    """Names the file when the disk is full or the folder cannot be written to."""
    try:
        yield
    except OSError as error:
        if error.errno in _NOT_ALLOWED:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        raise RunError(f"writing {path} failed: {error.strerror or error}") from error


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
    partial = target.with_name(f".{target.name}.partial")
    try:
        with said(target):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            manifest = {}
            for name, content in files.items():
                with open(partial / name, "wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                manifest[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            write_text(partial / MANIFEST, json.dumps(manifest, indent=1))
            sync_folder(partial)
            _swap(partial, target)
    except (OutputError, RunError):
        shutil.rmtree(partial, ignore_errors=True)  # gives the space of a half-written folder back
        raise


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
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
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
