"""A VisualDL log whose records are on disk when `add_scalar` returns.

VisualDL's own writer hands records to a thread. When the disk is full that thread dies without a word
to its caller, the queue behind it fills up, and the next record waits for ever; a kill loses two minutes.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from visualdl import LogWriter

from paddlefcn.files import naming_errors


class _RecordFile:
    """What LogWriter writes to: a length of 8 bytes and a serialised record, over and over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with naming_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # unbuffered: a record is written or it is an error here, and closing has nothing left to fail at
            self._stream = open(path, "wb", buffering=0)  # noqa: SIM115 - held as long as the run

    def add_record(self, record: Any) -> None:
        content = record.SerializeToString()
        with naming_errors(self.path):
            rest = memoryview(struct.pack("<Q", len(content)) + content)
            while rest:
                rest = rest[self._stream.write(rest) :]

    def get_filename(self) -> str:
        return str(self.path)

    def get_logdir(self) -> str:
        return str(self.path.parent)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self._stream.close()


class VisualLog(LogWriter):
    """VisualDL's LogWriter over a plain file in `folder`.

    Raises:
        RunError: from every `add_…`, when the disk is full.
    """

    def __init__(self, folder: Path, display_name: str) -> None:
        self._records = _RecordFile(folder / "vdlrecords.run.log")
        super().__init__(logdir=str(folder), display_name=display_name)

    def _get_file_writer(self) -> _RecordFile:
        return self._records

    @property
    def file_name(self) -> str:
        """The path of the log."""
        return self._records.get_filename()

    def close(self) -> None:
        self._records.close()
