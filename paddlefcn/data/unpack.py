"""Archives unpacked without leaving the target, without following a link, without replacing a file."""

from __future__ import annotations

import contextlib
import filecmp
import gzip
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from paddlefcn.errors import DataError, RunError
from paddlefcn.files import naming_errors

_BLOCK = 1 << 20
_MAX_HEADER = 1 << 16
_GZIP = b"\x1f\x8b"
_DAMAGED = (
    *(tarfile.TarError, gzip.BadGzipFile, zlib.error),
    *(EOFError, ValueError, OverflowError, RecursionError),
)


def unpack(
    archive: str | Path, target: str | Path, *, max_bytes: int = 64 << 30, max_files: int = 1_000_000
) -> None:
    """Unpacks a tar, gzipped or not, below `target`: plain files and folders only, all of them or none.

    Everything is looked at first, then unpacked into a hidden folder of the target, then moved. A file of
    the same name that stands there already is kept if it is the same, and else nothing is unpacked.

    Raises:
        DataError: a path outside the target, a link, a device, too many bytes or files, a damaged tar,
            another file or a link where a file would go.
        RunError: the disk is full.
    """
    archive, target = Path(archive), Path(target)
    with naming_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    with _staging(target, archive.name) as staging, naming_errors(target):
        try:
            with open(archive, "rb") as file:
                mode: Literal["r:gz", "r:"] = "r:gz" if file.read(2) == _GZIP else "r:"
            with tarfile.open(archive, mode, tarinfo=_Member) as tar:
                members = _safe_members(tar, archive, max_bytes, max_files)
                free = shutil.disk_usage(target).free
                need = sum(member.size for member in members)
                if need > free:
                    raise RunError(
                        f"{target}: {archive.name} needs {need >> 20} MB, {free >> 20} MB are free"
                    )
                for member in members:
                    _write_member(tar, member, staging / member.name)
                _check_end(tar, archive, max_bytes)
        except _DAMAGED as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{archive}: is no tar file, or damaged ({error})") from error
        _check_places(staging, target)
        _merge(staging, target)


class _Member(tarfile.TarInfo):
    """A header; long names and the like, which tarfile reads into memory, are bounded."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        kinds = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"x", b"g", b"X")
        if self.type in kinds and self.size > _MAX_HEADER:
            raise tarfile.HeaderError(f"a header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


@contextlib.contextmanager
def _staging(target: Path, name: str) -> Iterator[Path]:
    """A new hidden folder in the target, so that nobody can have put a link there; removed at the end."""
    prefix = f".{name[:100]}.unpacking-"
    for left in target.glob(f"{prefix.replace('[', '[[]')}*"):
        number = re.fullmatch(r"([0-9]{1,9})-\w+", left.name[len(prefix) :])
        if number and not left.is_symlink() and _is_dead(int(number[1])):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=target))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_dead(process: int) -> bool:
    if os.name == "nt":  # where asking would end it
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _safe_members(
    tar: tarfile.TarFile, archive: Path, max_bytes: int, max_files: int
) -> Sequence[tarfile.TarInfo]:
    members, size = [], 0
    for member in tar:
        path = PurePosixPath(member.name)
        if not (member.isreg() or member.isdir()) or member.issparse():
            kind = "a link" if member.issym() or member.islnk() else "a device or special file"
            raise DataError(f"{archive}: {member.name[:200]!r} is {kind}; only plain files are unpacked")
        outside = path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name
        if outside or "\0" in member.name or not path.parts:
            raise DataError(
                f"{archive}: {member.name[:200]!r} would leave the target folder; nothing was unpacked"
            )
        if max(map(len, path.parts)) > 255 or len(path.parts) > 100 or member.size < 0:
            raise DataError(f"{archive}: {member.name[:200]!r} fits no disk; nothing was unpacked")
        size += member.size
        members.append(member)
        if size > max_bytes or len(members) > max_files:
            raise DataError(
                f"{archive}: holds more than {max_bytes} bytes or {max_files} files; not unpacked"
            )
    return members


def _check_end(tar: tarfile.TarFile, archive: Path, max_bytes: int) -> None:
    """Reads what a gzipped tar has left: its checksum stands at the end, and damage is raised there."""
    if not isinstance(tar.fileobj, gzip.GzipFile):
        return
    rest = 0
    while block := tar.fileobj.read(_BLOCK):
        rest += len(block)
        if rest > max_bytes:
            raise DataError(f"{archive}: more than {max_bytes} bytes stand behind its files; not unpacked")


def _write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None  # it is a plain file
    with source, open(path, "wb") as file:
        shutil.copyfileobj(source, file, _BLOCK)
    if path.stat().st_size != member.size:
        raise tarfile.TarError(f"{member.name} is cut short")


def _check_places(staging: Path, target: Path) -> None:
    """DataError unless everything unpacked has a free place, or stands there just so."""
    for path in sorted(staging.iterdir()):
        place = target / path.name
        if place.is_symlink():
            raise DataError(
                f"{place}: a link stands there; remove it, archives are not unpacked through links"
            )
        if not place.exists():
            continue
        if path.is_dir() and place.is_dir():
            _check_places(path, place)
        elif path.is_dir() or not place.is_file():
            raise DataError(f"{place}: a folder and a file of one name; remove it; nothing was unpacked")
        elif not filecmp.cmp(path, place, shallow=False):
            raise DataError(
                f"{place}: another file of this name stands there; move it away; nothing was unpacked"
            )


def _merge(staging: Path, target: Path) -> None:
    """Moves what was unpacked to its place: whole folders where none are yet, so in one step."""
    for path in sorted(staging.iterdir()):
        place = target / path.name
        if path.is_dir() and place.is_dir() and not place.is_symlink():
            _merge(path, place)
        elif not os.path.lexists(place):
            os.rename(path, place)
