"""Which folder a run writes to, and the claim that keeps a second run out of it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import IO

from paddlefcn.errors import OutputError
from paddlefcn.files import lock, naming_errors, sweep_partial_files

_LOCK = ".lock"
_PARTS = (
    *("checkpoints", "best", "vdl", "preview", "config.yml", "environment.json", "class_weights.json"),
    *("metrics.jsonl", "class_scores.jsonl", "timing.jsonl", "curves.png", "train.log"),
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


def to_resume(save_dir: Path, resume: str | Path | bool | None) -> Path | None:
    """The folder of the run that is to go on; None where a new one starts.

    Args:
        save_dir: where the recipe's runs stand.
        resume: a run's folder, or True for the newest run of `save_dir`; None or False for a new run.

    Raises:
        OutputError: files stand in the folder, and no run.
    """
    if resume is None or resume is False:
        return None
    folder = newest_run(save_dir) if resume is True else Path(resume)
    if folder is None:
        print(f"no run of {save_dir} to resume; starting one", flush=True)
        return None
    if not is_free(folder) and not (folder / "config.yml").exists():
        raise OutputError(f"--resume {folder}: no run stands there (no config.yml)")
    return folder


def claim(save_dir: Path, existing: Path | None, overwrite: bool) -> Claim:
    """The folder to write to: of the run that goes on, of the one that is replaced, or a new one.

    Raises:
        OutputError: another process is training there, or the folder cannot be made.
    """
    if existing is not None:
        return claim_existing(existing)
    if not save_dir.name:
        raise OutputError(f"train.save_dir {save_dir}: names no folder; give one, such as output/run")
    if overwrite:
        return claim_overwritten(save_dir)
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
        path.name == _LOCK or path.suffix == ".partial" for path in folder.iterdir()
    )


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


def claim_overwritten(save_dir: Path) -> Claim:
    """`save_dir` emptied of an earlier run; files that no run writes are left alone.

    Raises:
        OutputError: another process is training there.
    """
    claim = claim_existing(save_dir)
    with naming_errors(save_dir):
        for name in _PARTS:
            path = save_dir / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return claim


def newest_run(save_dir: Path) -> Path | None:
    """The run of this `save_dir` or its numbered siblings that was started last."""
    pattern = re.compile(re.escape(save_dir.name) + r"(-[0-9]+)?")
    if not save_dir.parent.is_dir():
        return None
    runs = [
        path
        for path in save_dir.parent.iterdir()
        if pattern.fullmatch(path.name) and (path / "config.yml").is_file()
    ]
    return max(runs, key=lambda path: (path / "config.yml").stat().st_mtime_ns, default=None)


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
