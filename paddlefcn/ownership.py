"""Where this library may write, and what of a folder is its own to remove.

A folder that a command fills gets a mark, `.paddlefcn.json`: which kind of output it holds, and which files.
`--overwrite` removes these alone. Whatever else stands there stays; if it stands where a file is to be
written, or if the folder holds what is being read, nothing is touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from paddlefcn.errors import OutputError
from paddlefcn.files import lock, naming_errors, read_text, write_text

MARK = ".paddlefcn.json"
_RESULTS = (".json", ".csv")  # what of a folder that is read may be an earlier result
# folders that are replaced as a whole: whatever else stands in them would go with them
_UNITS = re.compile(r"(best|checkpoints/iter_[0-9]+)/.*")
_NAMED = 3  # files that a message names
_CHECKPOINT = r"(model\.safetensors|training\.npz|state\.json|manifest\.json)"
# what each kind of folder holds beside the files that its mark lists; paths below the folder, with /
KINDS = {
    "predictions": r"shares\.json|\.progress\.jsonl",
    "scores": r"confusion\.png|worst\.png|worst/[0-9]{3,}_[^/]*\.png",
    "calibration": r"calibration\.json|reliability\.png",
    "oracle": r"oracle\.png",
    "annotations": r"annotations\.json",
    "export": r"deploy\.yaml(\.sha256)?|model\.(json|pdmodel|pdiparams|onnx|xml|bin)",
    "run": r"config\.yml|(environment|split|class_weights)\.json|(metrics|class_scores|timing)\.jsonl"
    rf"|train\.log|\.lock|curves\.png|(best|checkpoints/iter_[0-9]+)/{_CHECKPOINT}|checkpoints/last"
    r"|vdl/[^/]*vdlrecords\.[^/]*\.log|preview/iter_[0-9]+_[0-9]+\.png",
}
# folders of versions that wrote no mark: the file, and a word in it that no other program's has
_UNMARKED = {"run": ("environment.json", '"paddlefcn"'), "export": ("deploy.yaml", "paddlefcn:")}


def check_file(option: str, path: str | Path, *, overwrite: bool, inputs: Iterable[str | Path] = ()) -> None:
    """Whether a file may be written: a new one, a device, or with `overwrite` one that is no input.

    Args:
        option: what asked for it, for the message.
        inputs: what the command reads. Of a folder, pictures and the files of a run or an export are never
            replaced; `--json RUN/scores.json` beside them may be.

    Raises:
        OutputError: it must not be written.
    """
    file = Path(path)
    if not str(path) or file.is_dir():
        raise OutputError(
            f"{option} {str(path)!r}: {'is a folder' if str(path) else 'is empty'}; give a file"
        )
    if not os.path.lexists(file):
        return
    if is_device(file):
        return
    if file.is_symlink():
        raise OutputError(f"{option} {path}: a link stands there; remove it, or give another name")
    for source in inputs:
        if _is_of(file, Path(source)):
            raise OutputError(f"{option} {path}: is what this command reads; give another name")
    if not overwrite:
        raise OutputError(f"{option} {path}: exists; choose another or --overwrite")


def _is_of(file: Path, source: Path) -> bool:
    """Whether a file is an input, or one of an input folder."""
    try:
        if not source.is_dir():
            return os.path.samefile(file, source)
        name = file.resolve().relative_to(source.resolve()).as_posix()
    except (OSError, ValueError):  # no file at all, none any more, or not below
        return False
    own = any(re.fullmatch(KINDS[kind], name) for kind in ("run", "export"))
    return own or file.suffix.lower() not in _RESULTS


def is_device(path: Path) -> bool:
    """Whether a pipe, a terminal or another device stands there: it is written to, never replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


class Owned:
    """A folder that this process fills, until `close`: no other process writes there meanwhile.

    Attributes:
        folder: where it is.
    """

    def __init__(self, folder: Path, stream: IO[Any]) -> None:
        self.folder, self._stream = folder, stream

    def __enter__(self) -> Path:
        return self.folder

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets others have the folder."""
        self._stream.close()


def own_folder(
    path: str | Path,
    kind: str,
    *,
    overwrite: bool,
    names: Sequence[str] = (),
    inputs: Iterable[str | Path] = (),
) -> Owned:
    """Takes an output folder: makes and marks it, and with `overwrite` removes what its mark lists.

    Args:
        kind: one of KINDS.
        names: the files that will be written, below the folder with /, as far as KINDS does not tell.
        inputs: what is read: files and folders.

    Raises:
        OutputError: the folder is not empty (without `overwrite`), carries no mark of this kind, holds an
            input or the working folder, is being filled by another process, or other files stand in the
            way. Nothing was touched.
    """
    folder = Path(path)
    if not str(path) or (os.path.lexists(folder) and not folder.is_dir()):
        raise OutputError(f"output {str(path)!r} is no folder; choose another")
    with naming_errors(folder):
        _check_place(folder, inputs)
        found = [] if not folder.is_dir() else sorted(folder.iterdir())
        if found and not overwrite:
            raise OutputError(f"output folder {folder} is not empty; choose another or --overwrite")
        own = find_own(folder, kind, names=names, inputs=inputs) if found else []
        folder.mkdir(parents=True, exist_ok=True)
        stream = _claimed(folder)
        try:
            remove(folder, own)
            stream.seek(0)
            stream.truncate()
            stream.write(_mark_text(kind, names))
            stream.flush()
        except BaseException:
            stream.close()
            raise
    return Owned(folder, stream)


def find_own(
    folder: Path, kind: str, *, names: Sequence[str] = (), inputs: Iterable[str | Path] = ()
) -> list[Path]:
    """The files of a folder that `--overwrite` may remove; what stays is said on standard output.

    Args:
        names: files that will be written, below the folder with /.
        inputs: what is read: files and folders.

    Raises:
        OutputError: the folder carries no mark of this kind, holds an input or the working folder, or other
            files stand in the way. Nothing was touched.
    """
    _check_place(folder, inputs)
    own, rest = _divided(folder, kind)
    _check_free(folder, rest, names)
    if rest:
        print(f"{folder}: {len(rest)} files of others stay ({_some(rest)})", flush=True)
    return own


def strangers(folder: Path, kind: str) -> list[Path]:
    """The files of a folder that no output of this kind has, whether the folder carries a mark or not."""
    pattern = re.compile(KINDS[kind])
    names = [(path, _name(path, folder)) for path in _below(folder)]
    return [
        path
        for path, name in names
        if name != MARK
        and not pattern.fullmatch(name)
        and not _is_partial(path, frozenset(), pattern, folder)
    ]


def mark(folder: Path, kind: str, names: Sequence[str] = ()) -> None:
    """Marks a folder as this library's; for commands that lock it by other means."""
    write_text(folder / MARK, _mark_text(kind, names))


def _check_place(folder: Path, inputs: Iterable[str | Path]) -> None:
    place = folder.resolve()
    for source in inputs:
        if not str(source):
            continue
        read = Path(source).resolve()
        if read == place or place in read.parents:
            raise OutputError(f"output folder {folder} holds the input {source}; choose another")
    if Path.cwd().resolve().is_relative_to(place) or (folder / ".git").exists():
        raise OutputError(f"output folder {folder} holds more than results; choose another")


def _divided(folder: Path, kind: str) -> tuple[list[Path], list[Path]]:
    listed = _listed(folder, kind)
    pattern = re.compile(KINDS[kind])
    own: list[Path] = []
    rest: list[Path] = []
    for path in _below(folder):
        name = path.relative_to(folder).as_posix()
        ours = name in listed or pattern.fullmatch(name) or _is_partial(path, listed, pattern, folder)
        plain = stat.S_ISREG(path.lstat().st_mode)
        if name != MARK:
            (own if ours and plain else rest).append(path)
    return own, rest


def _below(folder: Path) -> list[Path]:
    """Everything below a folder but folders; links are not followed."""
    found = []
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found += [Path(place, name) for name in (*files, *links)]
    return sorted(found)


def _is_partial(path: Path, listed: frozenset[str], pattern: re.Pattern[str], folder: Path) -> bool:
    """Whether a file is what a killed process left of writing one of ours."""
    match = re.fullmatch(r"\.(.+)\.[0-9]+\.partial", path.name)
    if match is None:
        return False
    name = path.with_name(match[1]).relative_to(folder).as_posix()
    return name == MARK or name in listed or pattern.fullmatch(name) is not None


def _listed(folder: Path, kind: str) -> frozenset[str]:
    """The files that a folder's mark lists.

    Raises:
        OutputError: no mark, or of another kind.
    """
    try:
        mark = json.loads(read_text(folder / MARK, 1 << 28))
        found, names = mark["kind"], mark["files"]
        if found == kind and all(isinstance(name, str) for name in names):
            return frozenset(name for name in names if _is_inside(name))
        what = f"{found if found in KINDS else 'something else'}"
    except FileNotFoundError:
        file, word = _UNMARKED.get(kind, ("", ""))
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if file and word in read_text(folder / file, 1 << 24):
                return frozenset()
        what = "files without this library's mark"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        what = f"a mark that cannot be read ({MARK})"
    raise OutputError(f"{folder} holds {what}, no {kind} to overwrite; choose another")


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _check_free(folder: Path, rest: Sequence[Path], names: Sequence[str]) -> None:
    """OutputError where a file that stays stands in the way of one that is to be written."""
    places = {folder / name for name in names}
    ways = {parent for place in places for parent in place.parents}
    taken = [path for path in rest if path in places or path in ways or _UNITS.fullmatch(_name(path, folder))]
    taken += [place for place in sorted(places) if place.is_dir() and not place.is_symlink()]
    if taken:
        raise OutputError(
            f"{_some(taken)}: not this library's, and in the way; move it, or choose another folder"
        )


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _claimed(folder: Path) -> IO[Any]:
    """The folder's mark, made if need be and locked."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    stream = open(os.open(folder / MARK, flags, 0o666), "r+", encoding="utf-8")  # noqa: SIM115 - held by Owned
    if not lock(stream):
        stream.close()
        raise OutputError(f"{folder} is being filled by another process; wait for it, or choose another")
    return stream


def remove(folder: Path, own: Sequence[Path]) -> None:
    """Removes files of `find_own`, and the folders below `folder` that are empty then."""
    for path in own:
        path.unlink(missing_ok=True)
    for path in sorted({parent for file in own for parent in file.parents}, reverse=True):
        if folder in path.parents:
            with contextlib.suppress(OSError):  # something of the user's is left in it
                path.rmdir()


def _mark_text(kind: str, names: Sequence[str]) -> str:
    return json.dumps({"kind": kind, "files": sorted(names)}, indent=1) + "\n"


def _some(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths[:_NAMED]) + (" …" if len(paths) > _NAMED else "")
