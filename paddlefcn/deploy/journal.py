"""Which images of a prediction are done: written as they are finished, read when it is resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from paddlefcn.deploy.inputs import Input
from paddlefcn.errors import OutputError
from paddlefcn.files import json_text, naming_errors, write_text
from paddlefcn.ownership import mark, own_folder

SHARES_FILE = "shares.json"
JOURNAL_FILE = ".progress.jsonl"


class Journal:
    """A line of JSON an image in the output folder; at the end it becomes shares.json.

    Only the names and places of the lines are kept in memory. The folder is claimed by a lock on the file,
    which dies with the process: of two predictions into one folder, the second is refused.
    """

    def __init__(
        self,
        folder: Path,
        made_by: str,
        class_names: Sequence[str] = (),
        finished: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.folder, self.made_by, self.class_names = folder, made_by, class_names
        self.path = folder / JOURNAL_FILE
        self._places: dict[str, tuple[int, int]] = {}
        with naming_errors(self.path):
            self._stream = open(self.path, "a+b")  # noqa: SIM115  # held until `finish`
        if not _lock(self._stream):
            self._stream.close()
            raise OutputError(f"output folder {folder} is being written to by another prediction")
        self._stream.truncate(0)
        self._append({"made_by": made_by})
        for entry in finished:
            self.add(entry)

    def add(self, entry: dict[str, Any]) -> None:
        """An image's summary, or its `error`; on disk when this returns."""
        self._places[entry["file"]] = self._append(entry)

    def done(self, item: Input) -> bool:
        """Whether the image was predicted, as the same file, and its class ids are still there."""
        place = self._places.get(str(item.file))
        if place is None:
            return False
        entry = self._read(place)
        there = any((self.folder / f"{item.name}{ending}").is_file() for ending in (".png", ".tif"))
        return there and "error" not in entry and entry.get("stamp") == stamp(item.file)

    def entries(self, order: Sequence[Input]) -> Iterator[dict[str, Any]]:
        """What was added, in the order of the inputs."""
        for item in order:
            if str(item.file) in self._places:
                entry = self._read(self._places[str(item.file)])
                entry.pop("stamp", None)
                yield entry

    def finish(self, order: Sequence[Input]) -> None:
        """Writes shares.json and removes the journal."""
        write_text(self.folder / SHARES_FILE, self._shares(order))
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leaves the journal for a resume."""
        self._stream.close()

    def _shares(self, order: Sequence[Input]) -> str:
        pixels, totals = 0, dict.fromkeys(self.class_names, 0.0)
        images, failed = [], []
        for entry in self.entries(order):
            line = json_text(entry)
            if "error" in entry:
                failed.append(line)
                continue
            images.append(line)
            size = entry["height"] * entry["width"]
            pixels += size
            for name in self.class_names:
                totals[name] += size * entry["shares"][name]
        total = {name: value / pixels if pixels else None for name, value in totals.items()}
        head = {"classes": list(self.class_names), "total": total, "made_by": self.made_by}
        text = json_text(head, indent=2)[:-2]
        lists = [f'"images": [{_lines(images)}]', f'"unreadable": [{_lines(failed)}]']
        return text + ",\n  " + ",\n  ".join(lists) + "\n}\n"

    def _append(self, entry: dict[str, Any]) -> tuple[int, int]:
        line = json_text(entry).encode("utf-8") + b"\n"
        with naming_errors(self.path):
            start = self._stream.seek(0, os.SEEK_END)
            self._stream.write(line)
            self._stream.flush()
        return start, len(line)

    def _read(self, place: tuple[int, int]) -> dict[str, Any]:
        self._stream.seek(place[0])
        return json.loads(self._stream.read(place[1]))


def open_journal(
    output: str | Path,
    made_by: str,
    class_names: Sequence[str],
    *,
    overwrite: bool,
    resume: bool,
    names: Sequence[str] = (),
) -> Journal:
    """The output folder, new or emptied, or as a stopped prediction of the same left it.

    Args:
        made_by: what predicts, and how; a prediction by another is not resumed.
        class_names: of the shares.
        names: the files that it will write, which a later `overwrite` may remove.

    Raises:
        OutputError: the folder holds something else.
    """
    folder = Path(output)
    if not resume or not folder.is_dir() or not any(folder.iterdir()):
        with own_folder(folder, "predictions", overwrite=overwrite, names=names):
            return Journal(folder, made_by, class_names)
    before = _stopped(folder) or _complete(folder)
    if before is None:
        raise OutputError(f"output folder {folder} holds no prediction to resume; choose another")
    if before[0] != made_by:
        raise OutputError(
            f"output folder {folder} was predicted by another network, or with other options; "
            "choose another, or --overwrite"
        )
    journal = Journal(folder, made_by, class_names, before[1])
    mark(folder, "predictions", names)
    return journal


def _lock(stream: BinaryIO) -> bool:
    try:
        import fcntl
    except ImportError:  # a system without such locks
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def stamp(file: Path) -> list[int]:
    """Size and time of a file: whether it is still the one that was predicted."""
    try:
        state = file.stat()
    except OSError:
        return []
    return [state.st_size, state.st_mtime_ns]


def failure(file: Path, error: BaseException) -> dict[str, Any]:
    """The entry of an image that could not be predicted; names it."""
    message = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        message = "is too large for the memory; use --tile"
    if str(file) not in message:
        message = f"image {file}: {message}"
    return {"file": str(file), "error": message}


def _stopped(folder: Path) -> tuple[str, list[dict[str, Any]]] | None:
    path = folder / JOURNAL_FILE
    if not path.is_file():
        return None
    entries = []
    for line in path.read_bytes().splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break  # the line that a kill cut short
    if not entries or not isinstance(entries[0], dict) or "made_by" not in entries[0]:
        return None
    return str(entries[0]["made_by"]), [entry for entry in entries[1:] if isinstance(entry, dict)]


def _complete(folder: Path) -> tuple[str, list[dict[str, Any]]] | None:
    path = folder / SHARES_FILE
    if not path.is_file():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        entries = [dict(entry, stamp=stamp(Path(entry["file"]))) for entry in tree["images"]]
        return str(tree["made_by"]), entries
    except (ValueError, KeyError, TypeError, OSError):
        return None


def _lines(entries: Sequence[str]) -> str:
    return "\n    " + ",\n    ".join(entries) + "\n  " if entries else ""
