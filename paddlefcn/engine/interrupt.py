"""SIGINT and SIGTERM: the iteration in flight ends first; a second signal stops at once."""

from __future__ import annotations

import os
import signal
import types
from typing import Any


class Interrupted(Exception):  # noqa: N818 - no error: the user asked for it
    """Raised by `Interrupts.check`, for work that can be given up and repeated."""


# a closed terminal sends SIGHUP, where there is one
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupts:
    """Within `with Interrupts() as interrupts:`, `interrupts.code` becomes 130, 143 or 129 at a signal.

    A second signal ends the process at once; files are written beside their target and renamed, so
    nothing is damaged by that. Within another one, a signal that came to that counts here too.

    Args:
        patient: no SIGTERM after the first ends the process: a launcher of several sends it again and again.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.code, self.patient = 0, patient
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in SIGNALS:
            if number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup: the user wants the run to go on
            try:
                before = self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: whoever runs us there handles signals
                break
            outer = getattr(before, "__self__", None)
            if isinstance(outer, Interrupts):
                self.code = self.code or outer.code
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises Interrupted once a signal has come."""
        if self.code:
            raise Interrupted

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        code = 128 + number
        if self.code and self.patient and number == signal.SIGTERM:
            return
        if self.code:
            os._exit(code)
        self.code = code
