"""Compiles the kernels for this machine and keeps them in the cache. Imports no paddle.

A build is known by what it depends on: the sources, Paddle's version, its oneDNN and the processor. It is
used once a process of its own has compared it with Paddle's operators. A note beside the library tells its
checksum, so that a damaged one is built again; the library's name holds the checksum too, so that two
processes that build at once do not touch each other's.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paddlefcn.errors import OutputError, RunError, UserError
from paddlefcn.files import cache_folder, checksum, write_bytes, write_text

SOURCES = Path(__file__).parent / "sources"
# no -ffast-math: NaN must stay NaN, and the order of sums is part of the result
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math")
_FLAGS_LIBRARY = ("-fopenmp", "-fPIC", "-shared")
_CHECK_SECONDS = 600


class AcceleratorError(UserError):
    """The accelerator cannot be built or used here; says what is missing."""


@dataclass(frozen=True)
class _Place:
    """What a build depends on, and where it goes."""

    onednn: Path
    key: str

    @property
    def note(self) -> Path:
        return cache_folder() / "accelerator" / f"{self.key}.json"


def built(say: Callable[[str], None] = lambda line: None) -> Path:
    """The checked library for this machine, from the cache or built now.

    Raises:
        AcceleratorError: what is missing, or why it failed.
    """
    place = _place()
    return _cached(place) or _build(place, say)


def rebuild(say: Callable[[str], None] = lambda line: None) -> Path:
    """Builds and checks, whatever the cache holds.

    Raises:
        AcceleratorError: what is missing, or why it failed.
    """
    return _build(_place(), say)


def _place() -> _Place:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise AcceleratorError(
            f"accelerator: for Linux on x86-64 alone; this is {platform.system()} on {platform.machine()}"
        )
    found = importlib.util.find_spec("paddle")
    if found is None or not found.origin:
        raise AcceleratorError("accelerator: paddle is not installed; pip install paddlepaddle")
    version = _paddle_version(Path(found.origin).parent)
    if not version.split(".")[0].isdigit() or int(version.split(".")[0]) < 3:
        raise AcceleratorError(f"accelerator: needs paddle 3 or newer; this is {version}")
    onednn = Path(found.origin).parent / "libs" / "libdnnl.so.3"
    if not onednn.exists():
        raise AcceleratorError(f"accelerator: this paddle has no oneDNN 3 ({onednn} is not there)")
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    state = onednn.stat()
    libraries = [path.name for path in _libraries(onednn)]
    facts = (version, onednn, state.st_size, state.st_mtime_ns, _processor(), _FLAGS, libraries)
    digest.update(repr(facts).encode())
    return _Place(onednn, digest.hexdigest()[:24])


def _libraries(onednn: Path) -> list[Path]:
    """What a build is linked with: first Paddle's OpenMP, which its oneDNN runs on.

    With the compiler's own there would be two sets of threads, spinning on each other's cores.
    """
    openmp = onednn.with_name("libiomp5.so")
    return [openmp, onednn] if openmp.exists() else [onednn]


def _paddle_version(package: Path) -> str:
    """The version of an installation that has not been imported."""
    with contextlib.suppress(OSError):
        for line in (package / "version" / "__init__.py").read_text(encoding="utf-8").splitlines():
            if line.startswith("full_version"):
                return line.split("=")[1].strip().strip("'\"")
    return "unknown"


def _processor() -> str:
    """Model and instruction sets: code for one processor may stop another one dead."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))
    return platform.processor()


def _cached(place: _Place) -> Path | None:
    """The library that stands in the cache, if it is whole.

    Raises:
        AcceleratorError: the same build has failed before.
    """
    try:
        note = json.loads(place.note.read_text(encoding="utf-8"))
        if "failed" in note:
            raise AcceleratorError(str(note["failed"]))
        file = place.note.with_name(str(note["file"]))
        return file if checksum(file) == note["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, AcceleratorError):
            raise
        return None


def _build(place: _Place, say: Callable[[str], None]) -> Path:
    compiler = os.environ.get("CXX") or "g++"
    if not shutil.which(compiler.split()[0]):
        raise AcceleratorError(
            f"accelerator: no C++ compiler to build it with ({compiler} is not found); "
            "install g++, or name one in CXX"
        )
    start = time.perf_counter()
    say("building the accelerator (once on this machine)")
    with tempfile.TemporaryDirectory(prefix="paddlefcn-") as folder:
        library = Path(folder) / "kernels.so"
        sources = [str(path) for path in sorted(SOURCES.glob("*.cpp"))]
        command = [
            *compiler.split(),
            *_FLAGS,
            *_FLAGS_LIBRARY,
            *sources,
            *map(str, _libraries(place.onednn)),
            "-o",
            str(library),
        ]
        _run(command, place, "compiling failed")
        _run([sys.executable, "-m", "paddlefcn.accelerator.checks", str(library)], place, "its check failed")
        target = place.note.with_name(f"{place.key}-{checksum(library)[:16]}.so")
        try:
            write_bytes(target, library.read_bytes())
            note = {"file": target.name, "sha256": checksum(library)}
            write_text(place.note, json.dumps(note, indent=1))
        except (OutputError, RunError) as error:
            raise AcceleratorError(
                f"accelerator: {error}; set PADDLEFCN_CACHE to a place that can"
            ) from error
    say(f"accelerator built and checked in {time.perf_counter() - start:.0f} s: {target}")
    return target


def _run(command: list[str], place: _Place, failure: str) -> None:
    """One step of a build; what fails is noted, so that not every start tries again."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_CHECK_SECONDS,
            env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise AcceleratorError(f"accelerator: {failure}: no end after {_CHECK_SECONDS} s") from error
    except OSError as error:
        raise AcceleratorError(f"accelerator: {failure}: {error.strerror}") from error
    if done.returncode == 0:
        return
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    # a compiler's or the check's own; of an exception its last line
    told = [line for line in lines if re.search(r"(^|: )(fatal )?error:", line)]
    told = told or lines[-1:] or ["no message"]
    message = f"accelerator: {failure} (exit code {done.returncode}): {told[0].strip()[:300]}"
    if done.returncode > 0:  # not a signal, which may have been the user's or the memory's
        with contextlib.suppress(OutputError, RunError):
            again = f"{message}; `paddlefcn build-accelerator` tries again"
            write_text(place.note, json.dumps({"failed": again}, indent=1))
    raise AcceleratorError(message)
