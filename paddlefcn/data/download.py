"""Downloads that can be broken off and trusted: resumed, checked, unpacked without leaving the target."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from paddlefcn.errors import DataError, RunError

VOC2012_URL = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
VOC2012_CHECKSUM = "md5:6cd6e144f989b92b3379bac3b3de84fd"
_BLOCK = 1 << 20
_ATTEMPTS = 5
_BROKEN = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    socket.timeout,  # is no TimeoutError on Python 3.9
)
Progress = Callable[[int, int], None]  # (bytes there, bytes in all or 0)


def download(
    url: str,
    target: str | Path,
    *,
    checksum: str | None,
    progress: Progress | None = None,
    max_bytes: int = 64 << 30,
    timeout: float = 30.0,
) -> Path:
    """Fetches `url` to the file `target`, which is complete and checked, or absent.

    What has come is kept beside it (`NAME.partial`); a broken connection, or a later call, goes on from
    there if the server still has the same file (its ETag or date), and from the start if not.

    Args:
        url: http, https or file.
        checksum: "md5:…" or "sha256:…" of the file, or None if none has been published.
        progress: called with (bytes there, bytes in all; 0 if the server does not say).
        max_bytes: more than this is refused.

    Raises:
        DataError: no such file on the server, a wrong checksum, too large, a wrong URL.
        RunError: the connection broke again and again, or the disk is full; a later call goes on.
    """
    target = Path(target)
    name, _, wanted = (checksum or "").partition(":")
    if checksum is not None and (
        name not in ("md5", "sha256") or not re.fullmatch("[0-9a-f]{32,64}", wanted)
    ):
        raise ValueError(f"checksum {checksum!r}: expected md5:HEX or sha256:HEX")
    if not re.match(r"(https?|file)://", url):
        raise DataError(f"{url}: expected an http, https or file address")
    if target.exists() and (checksum is None or _digest(target, name) == wanted):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    try:
        _fetch(url, partial, progress, max_bytes, timeout)
    except OSError as error:
        raise RunError(
            f"{partial}: {error.strerror or error}; free the disk, the download goes on there"
        ) from error
    if checksum is not None:
        found = _digest(partial, name)
        if found != wanted:
            _forget(partial)
            raise DataError(
                f"{url}: {name} {found}, expected {wanted}: damaged on the way, or not the published file; "
                f"it was deleted, try again"
            )
    os.replace(partial, target)
    _forget(partial)
    return target


def download_voc2012(root: str | Path, progress: Progress | None = None, *, url: str = VOC2012_URL) -> Path:
    """PASCAL VOC 2012 (1.9 GB) below `root`, unless it is there; returns its folder VOCdevkit/VOC2012.

    Raises:
        DataError, RunError: as `download` and `unpack`.
    """
    root = Path(root)
    folder = root / "VOCdevkit" / "VOC2012"
    if (folder / "ImageSets").is_dir() and (folder / "JPEGImages").is_dir():
        return folder
    archive = download(url, root / Path(url).name, checksum=VOC2012_CHECKSUM, progress=progress)
    unpack(archive, root)
    return folder


@contextlib.contextmanager
def bar(what: str) -> Iterator[Progress]:
    """A progress bar on stderr for `download`; it appears with the first bytes."""
    from tqdm import tqdm

    shown: list[tqdm] = []

    def progress(done: int, total: int) -> None:
        if not shown:
            shown.append(tqdm(desc=what, total=total or None, initial=done, unit="B", unit_scale=True))
        shown[0].update(done - shown[0].n)

    try:
        yield progress
    finally:
        for each in shown:
            each.close()


def unpack(
    archive: str | Path, target: str | Path, *, max_bytes: int = 64 << 30, max_files: int = 1_000_000
) -> None:
    """Unpacks a tar below `target`: plain files and folders only, all of them or none.

    Everything is looked at first, then unpacked into a hidden folder of the target, then moved.

    Raises:
        DataError: a path outside the target, a link, a device, too many bytes or files, a damaged tar.
    """
    archive, target = Path(archive), Path(target)
    target.mkdir(parents=True, exist_ok=True)
    staging = target / f".{archive.name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            members = _safe_members(tar, archive, max_bytes, max_files)
            free = shutil.disk_usage(target).free
            need = sum(member.size for member in members)
            if need > free:
                raise RunError(f"{target}: {archive.name} needs {need >> 20} MB, {free >> 20} MB are free")
            for member in members:
                _write_member(tar, member, staging / member.name)
        _merge(staging, target)
    except (tarfile.TarError, EOFError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{archive}: is no tar file, or damaged ({error})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _safe_members(
    tar: tarfile.TarFile, archive: Path, max_bytes: int, max_files: int
) -> list[tarfile.TarInfo]:
    members, size = [], 0
    for member in tar:
        path = PurePosixPath(member.name)
        if not (member.isreg() or member.isdir()) or member.issparse():
            kind = "a link" if member.issym() or member.islnk() else "a device or special file"
            raise DataError(f"{archive}: {member.name!r} is {kind}; only plain files are unpacked")
        outside = path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name
        if outside or "\0" in member.name or not member.name:
            raise DataError(f"{archive}: {member.name!r} would leave the target folder; nothing was unpacked")
        size += member.size
        members.append(member)
        if size > max_bytes or len(members) > max_files:
            raise DataError(
                f"{archive}: holds more than {max_bytes} bytes or {max_files} files; not unpacked"
            )
    return members


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


def _merge(staging: Path, target: Path) -> None:
    """Moves what was unpacked to its place: whole folders where none are yet, so in one step."""
    for path in sorted(staging.iterdir()):
        place = target / path.name
        if place.is_symlink():
            raise DataError(
                f"{place}: a link stands there; remove it, archives are not unpacked through links"
            )
        if path.is_dir() and place.is_dir():
            _merge(path, place)
        elif place.is_dir() or (path.is_dir() and place.exists()):
            raise DataError(f"{place}: a folder and a file of one name; remove it")
        else:
            os.replace(path, place)


def _fetch(url: str, partial: Path, progress: Progress | None, max_bytes: int, timeout: float) -> None:
    """Downloads into `partial`, going on after broken connections; raises DataError, RunError."""
    failures = 0
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            _fetch_once(url, partial, progress, max_bytes, timeout)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416:  # longer than the server's file: not a part of it
                _forget(partial)
            elif error.code < 500:
                raise DataError(f"{url}: the server says {error.code} {error.reason}") from error
            reason: object = f"{error.code} {error.reason}"
        except _BROKEN as error:
            reason = getattr(error, "reason", None) or error
        after = partial.stat().st_size if partial.exists() else 0
        failures = 0 if after > before else failures + 1
        if failures >= _ATTEMPTS:
            raise RunError(
                f"{url}: the connection broke {failures} times ({reason}); {after} bytes are kept in "
                f"{partial}, start again to go on"
            )
        time.sleep(min(8.0, 0.2 * 2**failures))


def _fetch_once(url: str, partial: Path, progress: Progress | None, max_bytes: int, timeout: float) -> None:
    start, validator = _resumable(partial, url)
    # identity: a compressed transfer has other bytes than the range that is asked for
    headers = {"User-Agent": "paddlefcn", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as answer:
        start = _place(answer, start)
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else 0
        if total > max_bytes:
            raise DataError(f"{url}: {total} bytes, more than the {max_bytes} that are allowed")
        _note(partial, url, answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
        with open(partial, "r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            done = start
            while block := answer.read(_BLOCK):
                file.write(block)
                done += len(block)
                if done > max_bytes:
                    raise DataError(f"{url}: more than the {max_bytes} bytes that are allowed")
                if progress is not None:
                    progress(done, total)
    if total and done < total:
        raise ConnectionError(f"{done} of {total} bytes came")


def _place(answer: http.client.HTTPResponse, wanted: int) -> int:
    """Where in the file the answer begins: `wanted` if the server goes on there, else 0."""
    if not wanted or getattr(answer, "status", 200) != 206:
        return 0
    match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    if match is None or int(match.group(1)) != wanted:
        raise http.client.HTTPException("the server answered with another range than asked for")
    return wanted


def _resumable(partial: Path, url: str) -> tuple[int, str]:
    """Bytes of `partial` that can be gone on from, and the server's mark of the file they are from."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        note = json.loads(_note_path(partial).read_text(encoding="utf-8"))
        validator = note["validator"]
        # a weak mark does not promise equal bytes (RFC 9110, section 13.1.5)
        if note["url"] == url and validator and not validator.startswith("W/"):
            return partial.stat().st_size, validator
    return 0, ""


def _note(partial: Path, url: str, validator: str) -> None:
    _note_path(partial).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _note_path(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _forget(partial: Path) -> None:
    for path in (partial, _note_path(partial)):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _digest(path: Path, name: str) -> str:
    digest = hashlib.new(name, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
