"""What reaches a terminal: text, never control. A file's name may hold escape sequences that recolour,
retitle, overwrite or answer for the user; they are shown as they are written, not obeyed.
"""

from __future__ import annotations

import contextlib
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

    def write(self, text: str) -> int:
        if self._bars:
            cleaned = _BUT_BARS.sub(lambda match: _written(match) if match.group(1) else match.group(), text)
        else:
            cleaned = plain(text)
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(cleaned.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def plain_output() -> Iterator[None]:
    """Within, everything printed is plain, whoever prints it; bars on stderr still move."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Plain(sys.stdout, bars=False), _Plain(sys.stderr, bars=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
