"""A progress bar on a terminal, plain lines elsewhere; both tell the same."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from tqdm import tqdm

from paddlefcn.bars import say_above

T = TypeVar("T")


class TrainingProgress:
    """Loss, learning rate, images a second, share of the time waiting for data, time left.

    Args:
        done, total: iterations.
        images: an attribute, how many an iteration takes; stages may differ.
        log_iters: a plain line this often (all of them go to `log` as well).
        log: where lines go too (train.log).
        silent: nothing on the screen.
    """

    def __init__(
        self, *, done: int, total: int, log_iters: int, log: Callable[[str], None], silent: bool = False
    ) -> None:
        self.total, self.log_iters, self.log = total, log_iters, log
        self.images = 1
        self.silent, self.on_terminal = silent, sys.stderr.isatty() and not silent
        self._bar = tqdm(
            total=total,
            initial=done,
            disable=not self.on_terminal,
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}  {unit}",
            desc="train",
        )
        self._losses: list[float] = []
        self._start_window()

    def _start_window(self) -> None:
        self._since, self._steps, self._waiting, self._paused = time.perf_counter(), 0, 0.0, 0.0
        self._losses.clear()

    def waited(self, batches: Iterator[T]) -> T:
        """The next batch; the time it takes counts as waiting for data."""
        start = time.perf_counter()
        batch = next(batches)
        self._waiting += time.perf_counter() - start
        return batch

    def step(self, iteration: int, loss: float | None, learning_rate: float) -> dict[str, float] | None:
        """One iteration done; returns clock values whenever a line is due."""
        self._steps += 1
        if loss is not None:
            self._losses.append(loss)
        due = iteration % self.log_iters == 0 or iteration == self.total
        if not (due or self.on_terminal):
            return None
        seconds = max(time.perf_counter() - self._since - self._paused, 1e-9)
        rate = self._steps / seconds
        clock = {"images_per_second": rate * self.images, "data_share": min(1.0, self._waiting / seconds)}
        mean_loss = sum(self._losses) / len(self._losses) if self._losses else float("nan")
        facts = (
            f"loss {mean_loss:.4f}  lr {learning_rate:.2e}  {clock['images_per_second']:.1f} img/s  "
            f"data {clock['data_share']:.0%}  ETA {clock_time((self.total - iteration) / rate)}"
        )
        # `{postfix}` would put a comma before it; short, so that the bar itself can be seen in 80 columns
        left = clock_time((self.total - iteration) / rate)
        self._bar.unit = f"loss {mean_loss:.4f}  {clock['images_per_second']:.1f} img/s  ETA {left}"
        self._bar.update(1)
        if not due:
            return None
        self.say(f"iter {iteration}/{self.total}  {facts}", on_screen=not self.on_terminal)
        self._start_window()
        return clock

    def say(self, line: str, *, on_screen: bool = True) -> None:
        """A line for the reader, above the bar, and for train.log."""
        self.log(line)
        if on_screen and not self.silent:
            say_above(line)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is no training; its time does not count in images a second."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - start

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()


def clock_time(seconds: float) -> str:
    """Seconds as 1:02 or 3:05:09."""
    minutes, second = divmod(round(max(0.0, seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
