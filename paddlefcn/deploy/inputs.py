"""The images that predict and infer are given: files, folders and lists, and what each is called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from paddlefcn.data.images import SUFFIXES, image_files
from paddlefcn.errors import DataError, OutputError

LIST_SUFFIX = ".txt"
Inputs = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Input:
    """An image and its name: the path within the input folder, without the suffix."""

    file: Path
    name: str


def given_paths(inputs: Inputs) -> list[Path]:
    """One path or several as a list."""
    return [Path(inputs)] if isinstance(inputs, (str, Path)) else [Path(item) for item in inputs]


def find_inputs(inputs: Inputs, output: str | Path, endings: Sequence[str]) -> list[Input]:
    """The images of files, folders (every image below, but for an output folder within) and .txt lists.

    A list has a path a line, relative to its own folder; empty lines and lines with # are left out.

    Args:
        endings: what is written for each image: ".png" for NAME.png, "_overlay.png" …

    Raises:
        DataError: nothing there, or two inputs would write one file.
    """
    found: list[Input] = []
    for path in given_paths(inputs):
        found += _images_of(path, Path(output).resolve())
    if not found:
        raise DataError("no input given")
    _check_names(found, endings)
    return found


def _images_of(given: Path, written: Path) -> list[Input]:
    if not given.exists():
        raise DataError(f"input {given}: no such file or folder")
    if given.suffix.lower() == LIST_SUFFIX and not given.is_dir():
        return _listed(given)
    if not given.is_dir():
        return [Input(given, given.stem)]
    found = [
        Input(file, file.relative_to(given).with_suffix("").as_posix())
        for file in image_files(given)
        if written not in file.resolve().parents
    ]
    if not found:
        raise DataError(f"input {given}: no image below ({', '.join(SUFFIXES)})")
    return found


def _listed(given: Path) -> list[Input]:
    if not given.is_file() or given.stat().st_size > 1 << 28:
        raise DataError(f"input {given}: expected a list of paths, one a line")
    try:
        lines = given.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"input {given}: cannot be read as a list of paths ({error})") from error
    found = []
    for line in (line.strip() for line in lines):
        if not line or line.startswith("#"):
            continue
        path = Path(line)
        inside = not path.is_absolute() and ".." not in path.parts
        found.append(Input(given.parent / path, path.with_suffix("").as_posix() if inside else path.stem))
    if not found:
        raise DataError(f"input {given}: lists no image")
    return found


def _check_names(found: Sequence[Input], endings: Sequence[str]) -> None:
    writer: dict[str, Path] = {}
    for item in found:
        for name in (f"{item.name}{ending}" for ending in endings):
            if name in writer:
                raise DataError(f"input: {writer[name]} and {item.file} would both write {name}; rename one")
            writer[name] = item.file


def keep_sources(output: str | Path, sources: Iterable[str | Path]) -> None:
    """Refuses an output folder that holds what is about to be read: --overwrite would empty it.

    Raises:
        OutputError: the folder is a source, or a source lies below it.
    """
    folder = Path(output).resolve()
    for source in sources:
        read = Path(source).resolve()
        if read == folder or folder in read.parents:
            raise OutputError(f"output folder {output} holds the input {source}; choose another")
