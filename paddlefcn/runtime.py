"""Device, threads, seeds and quiet logs: the one place that touches the environment.

`prepare` imports paddle, because the math library reads its settings once: it must be the first to do so.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paddlefcn.errors import UserError
from paddlefcn.version import __version__

_QUIET = (
    "No ccache found",
    "When training, we now always track",
    "Warning: 3D attention",
)


_made: dict[str, str] = {}  # what was set here: the environment is the process's


def prepare(*, leave_processor: bool = False) -> dict[str, str]:
    """Sets threads, the MKL path for AMD processors, what is done with freed memory, and log levels; then
    imports paddle quietly.

    What the user set stays. With `leave_processor` only the logs are made quiet. Returns the settings
    made, by this call or an earlier one, for the log; none where paddle was imported before.

    Raises:
        UserError: paddle is not installed, or its installation is broken.
    """
    # on a fresh machine it says in the middle of a training that it looks at the fonts
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    if "paddle" in sys.modules:
        return dict(_made)
    # several ranks of one machine share its cores; paddle.distributed.launch has given each a single one
    local_ranks = int(os.environ.get("PADDLE_LOCAL_SIZE", "1"))
    threads = max(1, _cores() // local_ranks)
    if local_ranks > 1 and os.environ.get("OMP_NUM_THREADS") == "1" and not leave_processor:
        del os.environ["OMP_NUM_THREADS"]
    settings = {"OMP_NUM_THREADS": str(threads), "MKL_DEBUG_CPU_TYPE": "5"}
    if not is_amd():
        # on AMD processors MKL takes its slow path unless it is told which instructions there are
        del settings["MKL_DEBUG_CPU_TYPE"]
    for name, value in settings.items():
        if name not in os.environ and not leave_processor:
            os.environ[name] = value
            _made[name] = value
    if not leave_processor:
        _made.update(_keep_freed_memory())
    os.environ.setdefault("GLOG_minloglevel", "2")
    for message in _QUIET:
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"paddle\..*")
    try:
        # paddle puts handlers of its own in place, and an import that is broken off looks like a broken one
        with _SignalsDeferred(), SilencedStderr():
            import paddle  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"paddle cannot be imported ({error}); pip install paddlepaddle, or paddlepaddle-gpu"
        ) from error
    return dict(_made)


# glibc's option, the variable that means the same, and values of which the first that it takes counts
_MALLOC = (
    (-1, "MALLOC_TRIM_THRESHOLD_", (2**31 - 1,)),
    (-3, "MALLOC_MMAP_THRESHOLD_", (2**30, 2**25)),
)


def _keep_freed_memory() -> dict[str, str]:
    """Tells glibc to keep freed memory for the next allocation; returns what was set, as variables.

    Otherwise it gives large blocks back to the system, which has to clear them whenever they come again: for
    every training step and every image. Processes that are started from here inherit it.
    """
    if platform.libc_ver()[0] != "glibc":
        return {}
    mallopt = ctypes.CDLL(None).mallopt
    made = {}
    for option, name, values in _MALLOC:
        taken = next((value for value in values if name not in os.environ and mallopt(option, value)), None)
        if taken is not None:
            made[name] = str(taken)
    os.environ.update(made)
    return made


def select_device(name: str | None) -> str:
    """Selects "cpu", "gpu" or "gpu:N"; without a name, a GPU if there is one.

    Raises:
        UserError: the device was asked for and is not there, or is no device.
    """
    prepare()
    import paddle

    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if name is None:
        name = "gpu:0" if count else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "gpu") or (index and not (kind == "gpu" and re.fullmatch("[0-9]{1,4}", index))):
        raise UserError(f"--device {name}: expected cpu, gpu or gpu:N")
    if kind == "gpu" and int(index or 0) >= count:
        built = "this paddle has no GPU support (install paddlepaddle-gpu)"
        reason = f"{count} GPU(s) found" if paddle.is_compiled_with_cuda() else built
        raise UserError(f"--device {name}: {reason}")
    device = f"gpu:{index or 0}" if kind == "gpu" else "cpu"
    paddle.set_device(device)
    return device


class _SignalsDeferred:
    """Signals that come within are answered at the end, by the handlers that stood before."""

    def __enter__(self) -> None:
        self._came: list[int] = []
        self._before: dict[int, Any] = {}
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is None or threading.current_thread() is not threading.main_thread():
                continue
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._before[number] = signal.signal(number, lambda came, frame: self._came.append(came))

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for number in self._came[:1]:
            signal.raise_signal(number)


class SilencedStderr:
    """Keeps paddle's C++ banner about OMP_NUM_THREADS off the screen while it is imported."""

    def __enter__(self) -> None:
        sys.stderr.flush()
        try:
            self.saved = os.dup(2)
        except OSError:
            self.saved = -1
            return
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 2)
        os.close(sink)

    def __exit__(self, *error: object) -> None:
        if self.saved >= 0:
            os.dup2(self.saved, 2)
            os.close(self.saved)


@contextlib.contextmanager
def quiet_descriptors() -> Iterator[None]:
    """Keeps libraries that write past Python, to the descriptors 1 and 2, off the screen."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = {}
    for number in (1, 2):
        with contextlib.suppress(OSError):  # closed by whoever started us
            saved[number] = os.dup(number)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in saved:
            os.dup2(sink, number)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for number, descriptor in saved.items():
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(sink)


def seed_everything(seed: int) -> None:
    """Seeds Python, numpy and paddle; augmentations have generators of their own."""
    import random

    import numpy as np
    import paddle

    random.seed(seed)
    np.random.seed(seed % 2**32)
    paddle.seed(seed)


def is_amd() -> bool:
    """Whether this is an AMD processor, where MKL needs to be told its instruction set."""
    return "AuthenticAMD" in processor_details() or "AMD" in platform.processor()


def processor_details() -> str:
    """Vendor and model of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        wanted = ("vendor_id", "model name")
        lines = info.read_text(errors="replace").splitlines()
        values = {
            line.split(":")[0].strip(): line.split(":", 1)[1].strip()
            for line in lines
            if line.startswith(wanted)
        }
        return " ".join(values.values())
    return f"{platform.processor()} {os.environ.get('PROCESSOR_IDENTIFIER', '')}".strip()


def environment(device: str) -> dict[str, Any]:
    """Versions, device, command, threads and git state: what `environment.json` holds."""
    import numpy as np
    import paddle
    import yaml

    return {
        "paddlefcn": __version__,
        "paddle": paddle.__version__,
        "numpy": np.__version__,
        "pyyaml": yaml.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor_details(),
        "cores": _cores(),
        "device": device,
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "mkl_debug_cpu_type": os.environ.get("MKL_DEBUG_CPU_TYPE"),
        "command": sys.argv,
        "git": _git_state(),
    }


def _git_state() -> str | None:
    """Commit of the working folder, with "+changes" if files differ; None outside of git."""
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty=+changes", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return commit.stdout.strip() or None if commit.returncode == 0 else None


def _cores() -> int:
    """Cores this process may use (a container's limit counts, the machine's do not)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
