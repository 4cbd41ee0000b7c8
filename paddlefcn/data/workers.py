"""Work in other processes, with results in order: nothing hangs, nothing is left running.

The processes are started fresh ("spawn"), because a fork of a process that holds paddle's threads may
never return. Other than spawn does by itself, they import the script that was started only if the work
needs something of it (a data set's class, say): only then that script needs an
`if __name__ == "__main__":`, and the imports of the others cost no worker time or memory.

Not concurrent.futures: its workers share one result pipe, and one killed in the middle of a batch leaves
the reader waiting for the rest for ever. Here every worker has its own, which ends when the worker does.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import dataclasses
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import spawn
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

from paddlefcn.data.handover import Receiver, Sender
from paddlefcn.errors import RunError, UserError

Task = TypeVar("Task")
Result = TypeVar("Result")

_DIED = (
    "a data worker died ({}): killed from outside or out of memory; lower data.num_workers, or set it to 0 "
    "to see its own error"
)


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
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_Worker(work)) for _ in range(num_workers)]
        # task k goes to worker k modulo their number, so that results need no sorting
        busy: collections.deque[_Worker] = collections.deque()
        for number, task in enumerate(tasks):
            worker = workers[number % num_workers]
            worker.send(task)
            busy.append(worker)
            if len(busy) >= num_workers * ahead:
                yield busy.popleft().result()
        while busy:
            yield busy.popleft().result()


_starting = threading.Lock()  # what a process is told of the script is the whole program's


class _Worker:
    """A process with its own two-way pipe; a thread empties the pipe, so that the process works ahead.

    Arrays come through shared memory; with each task the worker gets back the memory that is free again.
    """

    def __init__(self, work: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        try:
            with _starting, _signals_held():
                process = context.Process(target=_serve, args=(theirs, _Packed(work)), daemon=True)
                with _script_hidden():
                    process.start()
        except BrokenPipeError:
            raise RunError(_DIED.format("while it started")) from None
        self._process = process
        theirs.close()  # the process now holds the only other end: reading ends when it does
        atexit.register(self._kill)
        self._receiver = Receiver(self._pipe)
        self._results: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *reason: object) -> None:
        self._kill()
        self._process.join()
        atexit.unregister(self._kill)
        self._thread.join()
        self._pipe.close()

    def send(self, task: Any) -> None:
        with contextlib.suppress(OSError):  # a dead worker's: `result` says it
            self._pipe.send((task, self._receiver.released()))

    def result(self) -> Any:
        """The oldest result that was not taken yet."""
        kind, value = self._results.get()
        if kind == "result":
            return value
        if kind == "error":
            raise value
        self._process.join(1)
        code = self._process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
        raise RunError(_DIED.format(how))

    def _receive(self) -> None:
        try:
            while True:
                self._results.put(self._receiver.receive())
        # whatever ends the pipe ends the worker's use; `result` tells how the process ended
        except Exception as error:
            self._results.put(("died", error))

    def _kill(self) -> None:
        self._process.kill()


class _Packed:
    """Work on its way to a worker, which gets an `_Opened`: the script is imported only if it is needed."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work, self.script = work, _script()

    def __reduce__(self) -> tuple[Any, ...]:
        packed = bytes(ForkingPickler.dumps(self.work))
        return _Opened, (packed, self.script if b"__main__" in packed else {})


@dataclasses.dataclass(frozen=True)
class _Opened:
    """What arrives of it."""

    packed: bytes
    script: dict[str, Any]

    def __call__(self) -> Callable[[Any], Any]:
        """The work. What keeps it from being loaded is raised by every task, and so reaches the reader."""
        try:
            spawn.prepare(self.script)  # imports it, unless empty
            work: Callable[[Any], Any] = ForkingPickler.loads(self.packed)
            return work
        except RunError as error:
            return _Refusal(str(error))
        except (Exception, SystemExit) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return _Refusal(
                f"data workers cannot load what reads the data ({reason[:300]}); put its classes at the top "
                "of a .py file that can be imported, or set data.num_workers: 0"
            )


@dataclasses.dataclass(frozen=True)
class _Refusal:
    message: str

    def __call__(self, task: Any) -> Any:
        raise RunError(self.message)


def _script() -> dict[str, Any]:
    """Where a worker would find the script that was started."""
    if multiprocessing.current_process().daemon:  # a worker, which imports the script
        raise RunError(
            'a script whose own classes read data needs `if __name__ == "__main__":` around its calls; '
            "or put them into another file that it imports, or set data.num_workers: 0"
        )
    told = spawn.get_preparation_data("")
    return {key: value for key, value in told.items() if key.startswith("init_main")}


@contextlib.contextmanager
def _script_hidden() -> Iterator[None]:
    """Workers that start meanwhile are not told of the script."""
    main = sys.modules["__main__"].__dict__
    before: dict[str, Any] = {key: main[key] for key in ("__spec__", "__file__") if key in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(before)


def _serve(pipe: Connection, opened: Callable[[], Callable[[Any], Any]]) -> None:
    """A worker's life."""
    import cv2

    cv2.setNumThreads(0)
    # Ctrl-C and a SIGTERM to the whole group are the parent's to answer: it still needs its batches
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work, sender = opened(), Sender(pipe)
    with contextlib.suppress(EOFError, OSError):  # the parent has closed the pipe
        while True:
            task, free = pipe.recv()
            sender.recycle(free)
            try:
                answer: tuple[str, Any] = ("result", _run(work, task))
            except (UserError, RunError) as error:
                answer = ("error", error)
            sender.send(answer)
            del answer  # its memory is free for the next


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a parent that was killed reads no results


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
    """Workers that start meanwhile inherit blocked SIGINT and SIGTERM: none dies before `_serve`."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its own start would unblock them again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
