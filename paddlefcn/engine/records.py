"""What a run writes down: metrics.jsonl (the truth), the VisualDL log (made from it), train.log.

metrics.jsonl holds what is the same in every repetition of the run; clock values go to timing.jsonl
and VisualDL. A VisualDL log whose last record was torn by a kill can be neither read nor appended to,
so a resumed run writes a new one from these records.

Lines are written unbuffered: what could not be written is an error at that line, not at closing.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paddlefcn.data.images import read_image
from paddlefcn.engine.history import is_evaluation
from paddlefcn.engine.visual_log import VisualLog
from paddlefcn.errors import DataError, OutputError, RunError
from paddlefcn.files import naming_errors, write_bytes
from paddlefcn.visualize import write_picture

if TYPE_CHECKING:
    from paddlefcn.engine.checkpoint import Checkpoint

Record = dict[str, Any]
LINES = "records/lines"  # of a checkpoint's arrays: a checksum for each line of metrics.jsonl so far
_PREVIEW = re.compile(r"iter_(\d+)_(\d+)\.png")


def read_records(path: Path) -> list[Record]:
    """The complete lines of a JSON-lines file; a last line torn by a kill is left out."""
    return [record for record, _ in _read_lines(path)]


def _read_lines(path: Path) -> list[tuple[Record, bytes]]:
    """`read_records` with the lines as they stand in the file, their ends included."""
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("iter"), int):
            records.append((record, line + b"\n"))
    return records


def check_lines(path: Path, checkpoint: Checkpoint) -> list[str]:
    """Whether metrics.jsonl begins with the lines that stood there when a checkpoint was written.

    What a schedule, an early stop and the curves go by is read from it. Returns what to tell the user.

    Raises:
        DataError: a line was changed, removed or put in; names the first.
    """
    state, sums = checkpoint.state, checkpoint.training.get(LINES, ())
    if not state.lines_sha256:
        return []  # an earlier version's
    if not path.exists():
        return [f"{path} is gone: the records begin anew after iteration {state.iteration}"]
    lines = [line + b"\n" for line in path.read_bytes().split(b"\n")[:-1]][: state.lines]
    if hashlib.sha256(b"".join(lines)).hexdigest() == state.lines_sha256:
        return []
    same = itertools.takewhile(lambda pair: zlib.crc32(pair[0]) == pair[1], zip(lines, sums))
    number = sum(1 for _ in same) + 1
    what = f"line {number} is not as the run wrote it" if number <= len(lines) else f"line {number} is gone"
    raise DataError(
        f"{path}: {what} before {checkpoint.folder}; put it back, or remove the whole file to go on without "
        "these records"
    )


class Records:
    """The growing records of one run.

    Args:
        folder: the run's folder.
        upto: iterations after this one are cut (a resume continues there).
        evaluated: whether the evaluation of iteration `upto` itself stays.
        log_iters: VisualDL gets a training point (the mean of the iterations since the last) this often.
        writes: False keeps the records in memory alone (of a rank that is not the first).
    """

    def __init__(
        self, folder: Path, *, upto: int, evaluated: bool, log_iters: int, writes: bool = True
    ) -> None:
        self.folder, self.log_iters, self.writes = folder, log_iters, writes
        self.stage: str | None = None
        metrics = [
            (record, line)
            for record, line in _read_lines(folder / "metrics.jsonl")
            if record["iter"] < upto or (record["iter"] == upto and (evaluated or not is_evaluation(record)))
        ]
        self.metrics = [record for record, _ in metrics]
        self._sums, self._digest = array.array("L"), hashlib.sha256()
        for _, line in metrics:
            self._count(line)
        self.evaluations = [record for record in self.metrics if is_evaluation(record)]
        timing = [pair for pair in _read_lines(folder / "timing.jsonl") if pair[0]["iter"] <= upto]
        class_scores = [
            (record, line)
            for record, line in _read_lines(folder / "class_scores.jsonl")
            if record["iter"] < upto or (record["iter"] == upto and evaluated)
        ]
        self.class_scores = [record for record, _ in class_scores]
        self._window: list[Record] = []
        self._metrics: Any
        self._timing: Any
        self._class_scores: Any
        self._vdl: Any
        if not writes:
            self._metrics = self._timing = self._class_scores = self._vdl = Nothing()
            return
        for name, kept in (("metrics", metrics), ("timing", timing), ("class_scores", class_scores)):
            write_bytes(folder / f"{name}.jsonl", b"".join(line for _, line in kept))
        self._metrics = Lines(folder / "metrics.jsonl")
        self._timing = Lines(folder / "timing.jsonl")
        self._class_scores = Lines(folder / "class_scores.jsonl")
        shutil.rmtree(folder / "vdl", ignore_errors=True)
        self._vdl = VisualLog(folder / "vdl", display_name=folder.name)
        for record in self.metrics:
            self._show(record)
        for record, _ in timing:
            self._show_timing(record)
        self._show_previews({record["iter"] for record in self.evaluations})

    def _show_previews(self, evaluated: Collection[int]) -> None:
        """Puts the pictures of earlier evaluations back."""
        for path in sorted((self.folder / "preview").glob("iter_*.png")):
            match = _PREVIEW.fullmatch(path.name)
            if match is not None and int(match[1]) in evaluated:
                with contextlib.suppress(DataError):  # damaged since: it can be drawn again, not trained
                    self._vdl.add_image(f"preview/{int(match[2])}", read_image(path, 3), int(match[1]))

    def write(self, record: Record) -> None:
        """Adds a training or an evaluation line, with the stage it belongs to if the run has stages."""
        if self.stage is not None:
            record = {**record, "stage": self.stage}
        self.metrics.append(record)
        if is_evaluation(record):
            self.evaluations.append(record)
        line = _line(record)
        self._metrics.append(line)
        self._count(line.encode("utf-8", "replace"))
        self._show(record)

    def _count(self, line: bytes) -> None:
        self._sums.append(zlib.crc32(line))
        self._digest.update(line)

    def extent(self) -> tuple[int, str]:
        """How many lines metrics.jsonl has, and their SHA-256: `check_lines` compares them on a resume."""
        return len(self._sums), self._digest.copy().hexdigest()

    def line_sums(self) -> np.ndarray:
        """A checksum for each of these lines: [lines] uint32."""
        return np.array(self._sums, np.uint32)

    def write_class_scores(self, iteration: int, iou: Mapping[str, float | None]) -> None:
        """Adds the IoU of each class at an evaluation: one line of class_scores.jsonl."""
        record: Record = {"iter": iteration, "iou": dict(iou)}
        if self.stage is not None:
            record["stage"] = self.stage
        self.class_scores.append(record)
        self._class_scores.append(_line(record))

    def write_timing(self, record: Record) -> None:
        """Adds clock values: images a second, share of time waiting for data."""
        self._timing.append(_line(record))
        self._show_timing(record)

    def write_texts(self, texts: Mapping[str, str], hparams: Mapping[str, Any]) -> None:
        """The config and the hyper-parameters, once a run."""
        for tag, text in texts.items():
            self._vdl.add_text(tag, text, step=0)
        self._vdl.add_hparams(
            hparams_dict=dict(hparams), metrics_list=["score/mean_iou", "loss/val", "loss/train"]
        )

    def write_preview(self, number: int, picture: Any, iteration: int) -> None:
        """The picture [H, W, 3] uint8 of a validation image: to preview/ and to VisualDL."""
        if not self.writes:
            return
        write_picture(self.folder / "preview" / f"iter_{iteration:06}_{number}.png", picture)
        self._vdl.add_image(f"preview/{number}", picture, step=iteration)

    def sync(self) -> None:
        """Makes the records durable: a checkpoint that outlives a power cut needs those before it."""
        self._metrics.sync()
        self._timing.sync()
        self._class_scores.sync()

    def close(self) -> None:
        """Ends every file."""
        self._metrics.close()
        self._timing.close()
        self._class_scores.close()
        self._vdl.close()

    def _show(self, record: Record) -> None:
        step = record["iter"]
        if is_evaluation(record):
            for name, value in record.items():
                if isinstance(value, float):
                    self._vdl.add_scalar("loss/val" if name == "val_loss" else f"score/{name}", value, step)
            return
        self._window.append(record)
        if step % self.log_iters == 0 or step == 1:
            losses = [item["loss"] for item in self._window if item["loss"] is not None]
            if losses:
                self._vdl.add_scalar("loss/train", sum(losses) / len(losses), step)
            self._vdl.add_scalar("train/learning_rate", record["learning_rate"], step)
            self._window = []

    def _show_timing(self, record: Record) -> None:
        for name, value in record.items():
            if name != "iter":
                self._vdl.add_scalar(f"train/{name}", value, record["iter"])


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


class Nothing:
    """Takes every call and does nothing, in the place of what a process does not write."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *args: Any, **keywords: Any) -> None:
        return None


class Lines:
    """A text file that grows by whole lines, each on disk when `append` returns.

    Raises:
        RunError, OutputError: from every method, when the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with naming_errors(path):
            self._stream = open(path, "ab", buffering=0)  # noqa: SIM115 - held as long as the run

    def append(self, line: str) -> None:
        """Adds a line, its end included."""
        rest = memoryview(line.encode("utf-8", "replace"))
        with naming_errors(self.path):
            while rest:
                rest = rest[self._stream.write(rest) :]

    def sync(self) -> None:
        """Makes the lines so far outlive a power cut."""
        with naming_errors(self.path):
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Ends the file."""
        self._stream.close()


class TextLog:
    """train.log: plain lines with the time of day."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)

    def __call__(self, line: str) -> None:
        self._lines.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def last_words(self, line: str) -> None:
        """Says why the run stops; where even that cannot be written, the reason itself matters more."""
        with contextlib.suppress(OutputError, RunError):
            self(line)

    def close(self) -> None:
        """Ends the log."""
        self._lines.close()
