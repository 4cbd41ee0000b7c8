"""What reaches a terminal: text, never control. A file's name may hold escape sequences that recolour,
retitle, overwrite or answer for the user; they are shown as they are written, not obeyed.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

# C0 but for line ends and tabs, DEL, C1, marks that turn the direction of the text, halves of characters
_CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_ANY = re.compile(f"[{_CONTROL}]")
# what progress bars need: back to the line's start, and a line up
_BUT_BARS = re.compile(rf"\x1b\[A|\r|([{_CONTROL}])")


def plain(text: str) -> str:
    """The text with its control characters written out (`\\x1b`); line ends and tabs stay."""
    return _ANY.sub(_written, text)


def _written(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


class _Plain:
    """A text stream that control characters do not get through."""

    def __init__(self, stream: Any, *, bars: bool) -> None:
        self._stream, self._bars = stream, bars
        self.lost: OSError | None = None  # why something could not be written: it must stop no command

    def write(self, text: str) -> int:
        if self._bars:
            cleaned = _BUT_BARS.sub(lambda match: _written(match) if match.group(1) else match.group(), text)
        else:
            cleaned = plain(text)
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            self._stream.write(cleaned.encode(encoding, "backslashreplace").decode(encoding))
        except OSError as error:
            self.lost = error
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self.lost = error

    def end(self) -> None:
        """Forgets what cannot be written, which Python would try again at its end, with a traceback."""
        self.flush()
        if self.lost is not None:
            with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor
                _silence(self._stream.fileno())
                self._stream.flush()

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _silence(number: int) -> None:
    """Whatever is written to a descriptor from now on goes nowhere."""
    sink = os.open(os.devnull, os.O_RDWR)
    os.dup2(sink, number)
    os.close(sink)


def open_standard_streams() -> None:
    """Streams that whoever started us has closed go nowhere, for good.

    Else the next file opened takes such a descriptor, and what libraries print ends in a user's file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as we run


@contextlib.contextmanager
def plain_output() -> Iterator[_Plain]:
    """Within, everything printed is plain, whoever prints it; bars on stderr still move.

    Gives the standard output; its `lost` tells whether all could be printed.
    """
    before = sys.stdout, sys.stderr
    output, errors = _Plain(sys.stdout, bars=False), _Plain(sys.stderr, bars=True)
    sys.stdout, sys.stderr = output, errors
    try:
        yield output
    finally:
        output.end()
        errors.end()
        sys.stdout, sys.stderr = before
