"""Which folder a run writes to, and the claim that keeps a second run out of it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from paddlefcn import ownership
from paddlefcn.errors import OutputError
from paddlefcn.files import lock, naming_errors, sweep_partial_files

_LOCK = ".lock"
# of everything a run writes, one path each
_WRITTEN = (
    *("config.yml", "environment.json", "split.json", "metrics.jsonl", "class_scores.jsonl", "timing.jsonl"),
    *("curves.png", "train.log", "best/model.safetensors", "checkpoints/last", "vdl/log", "preview/picture"),
)


class Claim:
    """A run folder that belongs to this process until it ends.

    The lock is the process's own (POSIX record lock): it dies with the process, whatever kills it, and
    a forked worker does not inherit it.
    """

    def __init__(self, folder: Path, stream: IO[str]) -> None:
        self.folder, self._stream = folder, stream

    def close(self) -> None:
        """Lets others have the folder."""
        with contextlib.suppress(OSError):  # on a full disk the number in it could not be written
            self._stream.close()


def claim(save_dir: Path, existing: Path | None, overwrite: bool, inputs: Sequence[str | Path] = ()) -> Claim:
    """The folder to write to: of the run that goes on, of the one that is replaced, or a new one.

    Args:
        inputs: files and folders that the run reads.

    Raises:
        OutputError: another process is training there, or the folder cannot be made or replaced.
    """
    if existing is not None:
        return claim_existing(existing)
    if save_dir.name in ("", ".."):
        raise OutputError(f"train.save_dir {save_dir}: names no folder; give one, such as output/run")
    if overwrite:
        return claim_overwritten(save_dir, inputs)
    made = claim_new(save_dir)
    if made.folder != save_dir:
        print(f"{save_dir} holds a run already; this one writes to {made.folder}", flush=True)
    return made


def claim_new(save_dir: Path) -> Claim:
    """`save_dir`, or the next free sibling (`NAME-2`, …) if a run stands there or takes it just now.

    Raises:
        OutputError: the folder cannot be made.
    """
    for number in range(1, 10_000):
        folder = save_dir if number == 1 else save_dir.with_name(f"{save_dir.name}-{number}")
        if not is_free(folder):
            continue
        claim = _try_claim(folder)
        if claim is None:
            continue
        if is_free(folder):  # looked at again now that nobody else can write there
            sweep_partial_files(folder)
            return claim
        claim.close()
    raise OutputError(f"{save_dir} and 9,998 siblings are taken; choose another train.save_dir")


def is_free(folder: Path) -> bool:
    """Whether a new run may start there: no folder, or nothing in it."""
    # a partial file is what a run leaves that was killed before its config.yml stood there
    return not folder.is_dir() or all(
        path.name in (_LOCK, ownership.MARK) or path.suffix == ".partial" for path in folder.iterdir()
    )


def is_begun(folder: Path) -> bool:
    """Whether a run was killed there before its recipe stood in the folder."""
    return (folder / _LOCK).is_file() and not ownership.strangers(folder, "run")


def claim_existing(folder: Path) -> Claim:
    """A run's own folder, to resume in it.

    Raises:
        OutputError: another process is training there.
    """
    claim = _try_claim(folder)
    if claim is None:
        raise OutputError(f"{folder} is in use by another run; wait for it or stop it")
    sweep_partial_files(folder)
    return claim


def claim_overwritten(save_dir: Path, inputs: Sequence[str | Path] = ()) -> Claim:
    """`save_dir` emptied of an earlier run; files that no run writes are left alone, and named.

    Raises:
        OutputError: no run stands there, it holds an input or the working folder, a file of the user's is
            in the way, or another process is training there. Nothing was touched.
    """
    found = [] if is_free(save_dir) else ownership.find_own(save_dir, "run", names=_WRITTEN, inputs=inputs)
    claim = claim_existing(save_dir)
    with naming_errors(save_dir):
        ownership.remove(save_dir, [path for path in found if path.name != _LOCK])
    return claim


def runs_of(save_dir: Path) -> list[Path]:
    """The runs of this `save_dir` and its numbered siblings, the one that was started last first."""
    pattern = re.compile(re.escape(save_dir.name) + r"(-[0-9]+)?")
    if not save_dir.parent.is_dir():
        return []
    runs = [
        path
        for path in save_dir.parent.iterdir()
        if pattern.fullmatch(path.name) and (path / "config.yml").is_file()
    ]
    return sorted(runs, key=lambda path: (path / "config.yml").stat().st_mtime_ns, reverse=True)


def _try_claim(folder: Path) -> Claim | None:
    """The locked folder, made if need be; None if another process holds it."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"train.save_dir {folder} is a file; choose another")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = open(folder / _LOCK, "a+", encoding="utf-8")  # noqa: SIM115 - held as long as the run
    except OSError as error:
        raise OutputError(f"cannot write to run folder {folder}: {error.strerror}") from None
    if not lock(stream):
        stream.close()
        return None
    with contextlib.suppress(OSError):
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
    return Claim(folder, stream)
