"""Work in other processes, with results in order: nothing hangs, nothing is left running.

The processes are started fresh ("spawn"), because a fork of a process that holds paddle's threads may
never return. A script of your own that uses workers needs the usual `if __name__ == "__main__":`.
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from paddlefcn.errors import RunError, UserError

Task = TypeVar("Task")
Result = TypeVar("Result")

_work: Callable[[Any], Any] | None = None  # in a worker: what it was started for


def ordered_map(
    work: Callable[[Task], Result], tasks: Iterable[Task], num_workers: int, *, ahead: int = 2
) -> Iterator[Result]:
    """`work(task)` for every task, in their order, computed by `num_workers` processes (0: in this one).

    `work` is sent to each worker once and must be picklable; `tasks` may be endless. `ahead` results a
    worker are computed in advance. Closing the generator ends the workers at once.

    Raises:
        UserError: as `work` raised it.
        RunError: a worker died, or `work` failed by a bug of its own (named in the message).
    """
    if num_workers == 0:
        for task in tasks:
            yield _run(work, task)
        return
    pool = ProcessPoolExecutor(
        num_workers, multiprocessing.get_context("spawn"), initializer=_start, initargs=(work,)
    )
    pending: collections.deque[Future[Result]] = collections.deque()
    tasks = iter(tasks)
    try:
        for task in tasks:
            with _signals_held():
                pending.append(pool.submit(_run_sent, task))
            if len(pending) > num_workers * ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise RunError(
            f"a data worker died ({num_workers} were running): killed from outside or out of memory; lower "
            f"data.num_workers, or set it to 0 to see its own error"
        ) from error
    finally:
        _stop(pool)


def _stop(pool: ProcessPoolExecutor) -> None:
    """Ends the pool without waiting for what its workers are at."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        with contextlib.suppress(Exception):  # it may have ended by itself
            process.kill()
    pool.shutdown(wait=True)


def _start(work: Callable[[Any], Any]) -> None:
    """A worker's first steps."""
    import cv2

    global _work
    _work = work
    cv2.setNumThreads(0)
    # Ctrl-C and a SIGTERM to the whole group are the parent's to answer: it still needs its batches
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a parent that was killed reads no results; its worker would wait for ever


def _run_sent(task: Any) -> Any:
    assert _work is not None
    return _run(_work, task)


def _run(work: Callable[[Task], Result], task: Task) -> Result:
    try:
        return work(task)
    except (UserError, RunError):
        raise
    # everything travels as one of our own errors: others may not survive the way between processes
    except Exception as error:
        reason = " ".join(str(error).split())
        raise RunError(f"loading data failed: {type(error).__name__}: {reason[:500]}") from error


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Workers that start meanwhile inherit blocked SIGINT and SIGTERM: none dies before `_start`."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
