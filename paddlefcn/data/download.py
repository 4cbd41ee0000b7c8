"""Downloads that can be broken off and trusted: resumed, checked, unpacked without leaving the target."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from paddlefcn.data.stream import BLOCK, Answer
from paddlefcn.data.unpack import unpack as unpack
from paddlefcn.errors import DataError, RunError
from paddlefcn.files import lock, naming_errors, read_text, write_text

VOC2012_URL = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
VOC2012_CHECKSUM = "md5:6cd6e144f989b92b3379bac3b3de84fd"
_ATTEMPTS = 5
_WORTHWHILE = 1 << 16  # bytes that make an attempt count as getting on
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
Progress = Callable[[int, int], None]  # (bytes there, bytes in all or 0)


def download(
    url: str,
    target: str | Path,
    *,
    checksum: str | None,
    progress: Progress | None = None,
    max_bytes: int = 64 << 30,
    timeout: float = 30.0,
    max_seconds: float = 24 * 3600.0,
) -> Path:
    """Fetches `url` to the file `target`, which is complete and checked, or absent.

    What has come is kept beside it (`NAME.partial`); a broken connection, or a later call, goes on from
    there if the server still has the same file (its ETag or date), and from the start if not. A file that
    stands at `target` is never replaced.

    Args:
        url: http, https or file.
        checksum: "md5:…" or "sha256:…" of the file (8 digits of it or more), or None if none has been
            published; then the server must say how long the file is.
        progress: called with (bytes there, bytes in all; 0 if the server does not say).
        max_bytes: more than this is refused, and never read.
        timeout: seconds without a byte after which a connection counts as broken.
        max_seconds: the whole download may take so long.

    Raises:
        DataError: no such file on the server, a wrong checksum, too large, a wrong URL, another file
            at `target`.
        RunError: the connection broke again and again, time is up, or the disk is full; a later call
            goes on.
    """
    target = Path(target)
    name, _, wanted = (checksum or "").partition(":")
    if checksum is not None and (name not in ("md5", "sha256") or not re.fullmatch("[0-9a-f]{8,64}", wanted)):
        raise ValueError(f"checksum {checksum!r}: expected md5:HEX or sha256:HEX")
    _check_address(url)
    if os.path.lexists(target):
        _check_file(target, name, wanted)
        return target
    partial = target.with_name(target.name + ".partial")
    with naming_errors(partial):
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, partial, progress, _Limits(max_bytes, timeout, time.monotonic() + max_seconds, checksum))
        found = _digest(partial, name) if checksum is not None else ""
        if not found.startswith(wanted):
            _forget(partial)
            raise DataError(
                f"{url}: {name} {found}, expected {wanted}: damaged on the way, or not the published file; "
                f"it was deleted, try again"
            )
        os.replace(partial, target)
        _forget(partial)
    return target


def _check_address(url: str) -> None:
    """DataError unless this can be asked for: a scheme, a machine, a port that exists."""
    if not re.match(r"(https?|file)://", url):
        raise DataError(f"{url}: expected an http, https or file address")
    try:
        parts = urllib.parse.urlsplit(url)
        fits = bool(parts.hostname) and parts.port != 0 and not re.search(r"[\x00-\x20\x7f]", url)
    except ValueError as error:  # brackets, a port that is no number
        raise DataError(f"{url}: is no address ({_short(error)})") from None
    if not fits and parts.scheme != "file":
        raise DataError(f"{url}: is no address; spaces are written %20")


def _check_file(path: Path, name: str, wanted: str) -> None:
    """DataError unless the file that stands where a download would go is what would be downloaded."""
    if not path.is_file():
        raise DataError(f"{path}: stands where a download should go, and is no file; remove it")
    found = _digest(path, name) if name else ""
    if not found.startswith(wanted):
        raise DataError(
            f"{path}: its {name} is {found}, expected {wanted}: damaged, or another file; it was left as it "
            f"is: move it away to download it anew"
        )


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


@dataclasses.dataclass(frozen=True)
class _Limits:
    """What a download may take at most; `until` is a time of the monotonic clock."""

    max_bytes: int
    timeout: float
    until: float
    checksum: str | None


def _fetch(url: str, partial: Path, progress: Progress | None, limits: _Limits) -> None:
    """Downloads into `partial`, going on after broken connections; raises DataError, RunError."""
    failures = 0
    with _owned(partial) as file:
        while True:
            before = os.fstat(file.fileno()).st_size
            try:
                _fetch_once(url, partial, file, progress, limits)
                return
            except urllib.error.HTTPError as error:
                if error.code == 416:  # longer than the server's file: not a part of it
                    _forget_note(partial)
                elif error.code < 500:
                    raise DataError(f"{url}: the server says {error.code} {_short(error.reason)}") from error
                reason: object = f"{error.code} {error.reason}"
            except _BROKEN as error:
                reason = getattr(error, "reason", None) or error
            after = os.fstat(file.fileno()).st_size
            # a server that gives a few bytes a connection must not go on for ever
            failures = 0 if after >= before + _WORTHWHILE else failures + 1
            late = time.monotonic() > limits.until
            if failures >= _ATTEMPTS or late:
                how = "time is up" if late else f"the connection broke {failures} times"
                raise RunError(
                    f"{url}: {how} ({_short(reason)}); {after} bytes are kept in "
                    f"{partial}, start again to go on"
                )
            time.sleep(min(8.0, 0.2 * 2**failures))


def _short(reason: object) -> str:
    return " ".join(str(reason).split())[:200]


@contextlib.contextmanager
def _owned(partial: Path) -> Iterator[BinaryIO]:
    """The partial file, made if need be, that no other process writes; a link there is not followed."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    if partial.is_symlink() or (partial.exists() and not partial.is_file()):
        raise DataError(f"{partial}: a link or no file stands there; remove it")
    with open(os.open(partial, flags | getattr(os, "O_NONBLOCK", 0), 0o666), "r+b") as file:
        if not lock(file):
            raise RunError(f"{partial}: another process is downloading it; wait for it")
        yield file


def _fetch_once(url: str, partial: Path, file: BinaryIO, progress: Progress | None, limits: _Limits) -> None:
    start, note = _resumable(partial, url)
    # identity: a compressed transfer has other bytes than the range that is asked for
    headers = {"User-Agent": "paddlefcn", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": note["validator"]}
    with Answer(url, headers, limits.timeout) as answer:
        try:
            start = _place(answer, start, note)
            total = _total(answer, start)
        except http.client.HTTPException:
            _forget_note(partial)  # the next attempt starts anew
            raise
        if not total and not answer.chunked and limits.checksum is None:
            raise DataError(
                f"{url}: the server does not say how long the file is, so nobody could tell whether all "
                f"of it came; give its checksum (#sha256=HEX behind the address), or fetch it by other means"
            )
        if total > limits.max_bytes:
            raise DataError(f"{url}: {total} bytes, more than the {limits.max_bytes} that are allowed")
        _note(partial, url, answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "", total)
        file.seek(start)
        file.truncate()
        done = start
        for block in answer.blocks():
            done += len(block)
            allowed = total or limits.max_bytes
            if done > allowed:
                raise DataError(f"{url}: sends more than the {allowed} bytes that are allowed")
            file.write(block)
            file.flush()
            if progress is not None:
                progress(done, total)
            if time.monotonic() > limits.until:
                raise TimeoutError(f"{done} bytes came")
    if total and done < total:
        raise ConnectionError(f"{done} of {total} bytes came")
    if not done:
        raise DataError(f"{url}: the server's file is empty")


def _place(answer: Answer, wanted: int, note: Mapping[str, Any]) -> int:
    """Where in the file the answer begins: `wanted` if the server goes on there with that file, else 0."""
    if answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
        raise http.client.HTTPException("the server compresses what was asked for as it is")
    if not wanted:
        if answer.status == 206:
            raise http.client.HTTPException("the server sends a part where all was asked for")
        return 0
    if answer.status != 206:
        return 0
    found = _range(answer)
    if found is None or found[0] != wanted or found[1] != found[2] - 1:
        raise http.client.HTTPException("the server answered with another range than asked for")
    marks = [answer.headers.get(name) for name in ("ETag", "Last-Modified")]
    # an ETag must come again (RFC 9110, section 15.3.7); a date may be left out
    expected = note["validator"]
    same = expected in marks or (not expected.startswith('"') and marks == [None, None])
    if not same or (note["total"] and note["total"] != found[2]):
        raise http.client.HTTPException("the server goes on with another file than the part that is here")
    return wanted


def _range(answer: Answer) -> tuple[int, int, int] | None:
    """(first byte, last byte, bytes in all) of a partial answer."""
    text = answer.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", text)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def _total(answer: Answer, start: int) -> int:
    """Bytes of the whole file, 0 if the server does not say."""
    lengths = set(answer.headers.get_all("Content-Length") or ())
    if answer.chunked or not lengths:
        found = _range(answer)
        return found[2] if start and found else 0
    (length,) = lengths if len(lengths) == 1 else ("",)
    if not re.fullmatch("[0-9]{1,18}", length):
        raise http.client.HTTPException(f"the server says a length of {_short(', '.join(sorted(lengths)))!r}")
    return start + int(length)


def _resumable(partial: Path, url: str) -> tuple[int, dict[str, Any]]:
    """Bytes of `partial` that can be gone on from, and what is known of the server's file they are from."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        note = json.loads(read_text(_note_path(partial)))
        validator, total = note["validator"], note["total"]
        # a weak mark does not promise equal bytes (RFC 9110, section 13.1.5)
        strong = isinstance(validator, str) and validator and not validator.startswith("W/")
        if note["url"] == url and strong and type(total) is int:
            return partial.stat().st_size, note
    return 0, {}


def _note(partial: Path, url: str, validator: str, total: int) -> None:
    _forget_note(partial)
    write_text(_note_path(partial), json.dumps({"url": url, "validator": validator, "total": total}))


def _note_path(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _forget_note(partial: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        _note_path(partial).unlink()


def _forget(partial: Path) -> None:
    _forget_note(partial)
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()


def _digest(path: Path, name: str) -> str:
    digest = hashlib.new(name, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
