"""Progress bars over known work, on a terminal's standard error; silent elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm


def bar(total: int | None, what: str, unit: str, *, initial: int = 0, quiet: bool = False) -> tqdm[Any]:
    """A bar that disappears when it is closed; a context manager with `update(n)`.

    Args:
        total: how much there is to do; None if that is unknown.
        what: the words before the bar.
        unit: of what; "B" for bytes, which are then shown as kB and MB.
        initial: how much of it was done before.
        quiet: show nothing, whatever standard error is.
    """
    return tqdm(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=unit == "B",
        initial=initial,
        disable=quiet or not sys.stderr.isatty(),
        leave=False,
        dynamic_ncols=True,
    )


def say_above(line: str, *, error: bool = False) -> None:
    """Prints a line above whatever bar is shown."""
    stream = sys.stderr if error else sys.stdout
    # a closed pipe or a full disk under the output must not cost a training its iterations
    with contextlib.suppress(OSError, ValueError):
        tqdm.write(line, file=stream)
        stream.flush()


class Steps:
    """A bar that appears with the first call and goes with the last: `steps(done, total)`."""

    def __init__(self, what: str, unit: str = "image") -> None:
        self.what, self.unit = what, unit
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = bar(total or None, self.what, self.unit)
        self._bar.update(done - self._bar.n)
        if total and done >= total:
            self.close()

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextlib.contextmanager
def byte_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for a download: `progress(bytes there, bytes in all or 0)`."""
    steps = Steps(what, "B")
    try:
        yield steps
    finally:
        steps.close()
