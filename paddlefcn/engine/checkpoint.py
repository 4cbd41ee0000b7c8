"""Checkpoints: everything a run needs to go on to the same result as if it had not been stopped."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from paddlefcn.errors import WeightsError
from paddlefcn.files import damage, read_text, recover_folder, replace_in_folder, write_folder, write_text
from paddlefcn.weights.safetensors_file import write_safetensors

if TYPE_CHECKING:
    from paddlefcn.engine.averaging import Average


_UNREADABLE = (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile, SafetensorError)


@dataclasses.dataclass
class State:
    """How far a run is. The data position and the random numbers follow from `iteration` and the seed.

    Attributes:
        iteration: optimisation steps done.
        evaluated: the last iteration that was evaluated.
        best_score, best_iteration: the best evaluation of this stage so far (None before the first).
        skipped: steps left out because their loss or gradients were not finite.
        stage: the stage whose network this is, from 1.
        step_images: images a step, over all batches and ranks; 0 where an earlier version wrote none.
        lines, lines_sha256: of metrics.jsonl so far; 0 and "" where an earlier version wrote none.
    """

    iteration: int = 0
    evaluated: int = 0
    best_score: float | None = None
    best_iteration: int = 0
    skipped: int = 0
    stage: int = 1
    step_images: int = 0
    lines: int = 0
    lines_sha256: str = ""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read from disk."""

    folder: Path
    state: State
    weights: Mapping[str, np.ndarray]
    training: Mapping[str, np.ndarray]


class Checkpoints:
    """The `checkpoints/` and `best/` of one run folder; those of iterations in `always` are never removed."""

    def __init__(
        self, run: Path, keep: int, metadata: Mapping[str, str], always: Collection[int] = ()
    ) -> None:
        self.folder, self.best, self.keep = run / "checkpoints", run / "best", keep
        self.always = frozenset(always)
        self.metadata = dict(metadata)

    def save(self, state: State, weights: Mapping[str, np.ndarray], training: Mapping[str, Any]) -> Path:
        """Writes iter_N, marks it as the last, and removes what is older than the newest `keep`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"iter_{state.iteration}"
        write_folder(target, self._files(state, weights, training))
        for number, folder in self.numbered():
            if number > state.iteration:  # damaged: the run had to go back behind it
                shutil.rmtree(folder, ignore_errors=True)
        self.settle(state.iteration)
        return target

    def settle(self, iteration: int) -> None:
        """Marks iter_`iteration` as the last and removes what is not kept; a kill may have prevented it."""
        last, name = self.folder / "last", f"iter_{iteration}\n"
        if not last.exists() or read_text(last) != name:
            write_text(last, name)
        older = [path for n, path in self.numbered() if n <= iteration and n not in self.always]
        for folder in older[self.keep :]:
            shutil.rmtree(folder, ignore_errors=True)

    def save_best(self, state: State, weights: Mapping[str, np.ndarray], training: Mapping[str, Any]) -> None:
        """Replaces best/."""
        write_folder(self.best, self._files(state, weights, training))

    def restate(self, state: State) -> None:
        """Writes a newer state into the checkpoint of its iteration, if there is one; weights stay."""
        target = self.folder / f"iter_{state.iteration}"
        if target.is_dir():
            replace_in_folder(target, "state.json", _state_json(state))

    def _files(
        self, state: State, weights: Mapping[str, np.ndarray], training: Mapping[str, Any]
    ) -> dict[str, bytes]:
        return {
            "model.safetensors": _safetensors(weights, self.metadata),
            "training.npz": _npz(training),
            "state.json": _state_json(state),
        }

    def numbered(self) -> list[tuple[int, Path]]:
        """The checkpoint folders, newest first."""
        if not self.folder.is_dir():
            return []
        found = [
            (int(path.name[5:]), path)
            for path in self.folder.glob("iter_*")
            if re.fullmatch("[0-9]{1,18}", path.name[5:]) and path.is_dir()
        ]
        return sorted(found, reverse=True)

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest complete checkpoint and a line for every damaged one that is newer.

        Raises:
            WeightsError: there are checkpoints and all of them are damaged.
        """
        recover_folder(self.best)
        for cut_short in [*self.folder.glob(".iter_*.old"), *self.folder.glob(".iter_*.partial")]:
            recover_folder(self.folder / cut_short.stem[1:])
        notes: list[str] = []
        for _, folder in self.numbered():
            problem = damage(folder)
            if problem is None:
                try:
                    return _read(folder), notes
                except _UNREADABLE as error:  # whole, and yet not what this version writes
                    problem = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            notes.append(f"checkpoint {folder} is damaged ({problem}); using the one before")
        if notes:
            raise WeightsError(f"every checkpoint in {self.folder} is damaged; the newest: {notes[0]}")
        return None, []


def _state_json(state: State) -> bytes:
    return json.dumps(dataclasses.asdict(state), indent=1).encode()


def _safetensors(weights: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    stream = io.BytesIO()
    write_safetensors(stream, weights, metadata)
    return stream.getvalue()


class SharedCheckpoints(Checkpoints):
    """Those of a rank that is not the first, which writes them: read alone."""

    def save(self, state: State, weights: Mapping[str, np.ndarray], training: Mapping[str, Any]) -> Path:
        """Where the first rank writes; nothing is written here."""
        return self.folder / f"iter_{state.iteration}"

    def settle(self, iteration: int) -> None:
        """Nothing: the first rank does it."""

    def save_best(self, state: State, weights: Mapping[str, np.ndarray], training: Mapping[str, Any]) -> None:
        """Nothing: the first rank does it."""

    def restate(self, state: State) -> None:
        """Nothing: the first rank does it."""


def _npz(arrays: Mapping[str, Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **{name.replace("/", "|"): value for name, value in arrays.items()})
    return stream.getvalue()


def _read(folder: Path) -> Checkpoint:
    with np.load(folder / "training.npz", allow_pickle=False) as archive:
        training = {name.replace("|", "/"): archive[name] for name in archive.files}
    return Checkpoint(
        folder=folder,
        state=State(**json.loads(read_text(folder / "state.json"))),
        weights=safetensors.load_file(folder / "model.safetensors"),
        training=training,
    )


def model_arrays(model: Any, average: Average) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The weights to use (averaged ones if there are any), and the raw ones that training goes on with."""
    raw = {name: value.numpy() for name, value in model.state_dict().items()}
    averaged = average.arrays()
    if averaged is None:
        return raw, {}
    return averaged, {f"raw/{name}": value for name, value in raw.items()}
