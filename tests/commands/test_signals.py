"""Signals, closed outputs and wild rates: a line, an exit code, and no iteration lost."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from paddlefcn.engine.interrupt import Interrupts

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def start(repo, *arguments, **more):
    command = [sys.executable, "-m", "paddlefcn", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.Popen(command, cwd=repo, text=True, **pipes)


@pytest.mark.parametrize(
    ("number", "line", "code"),
    [
        (signal.SIGINT, "interrupted", 130),
        (signal.SIGTERM, "terminated", 143),
        (signal.SIGHUP, "terminated", 129),
    ],
)
@pytest.mark.parametrize("moment", ["while paddle is imported", "after"])
def test_a_signal_outside_of_a_training_is_one_line(tmp_path, repo, number, line, code, moment):
    program = (
        "import os, signal, sys, threading, time\\n"
        # a shell starts what runs in the background with SIGINT ignored, and nohup SIGHUP
        "signal.signal(signal.SIGINT, signal.default_int_handler)\\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\\n"
        "from paddlefcn import commands, runtime\\n"
        f"def send(): os.kill(os.getpid(), {int(number)})\\n"
        "class Slow:\\n"
        "    WRITES = ()\\n"
        "    def run(args):\\n"
        "        if os.environ['MOMENT'] == 'after':\\n"
        "            runtime.prepare(); send(); time.sleep(5)\\n"
        "        threading.Timer(0.05, send).start()\\n"
        "        runtime.prepare(); time.sleep(5); return 0\\n"
        "import argparse\\n"
        "with commands.plain_output():\\n"
        "    commands._catch_signals()\\n"
        "    sys.exit(commands._guarded(Slow, argparse.Namespace(debug=False)))\\n"
    ).replace("\\n", "\n")
    environment = {**os.environ, "MOMENT": moment, "PYTHONPATH": str(repo)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=100
    )
    assert (done.returncode, done.stderr) == (code, f"error: {line}\n")


@pytest.mark.parametrize(("handler", "code"), [(signal.SIG_DFL, 129), (signal.SIG_IGN, 0)])
def test_a_hangup_ends_the_iteration_like_the_others_unless_it_is_ignored(handler, code):
    before = signal.signal(signal.SIGHUP, handler)  # the suite itself may run under nohup
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
            assert interrupts.code == code
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_launcher_that_repeats_itself_does_not_end_a_rank_before_its_checkpoint():
    with Interrupts(patient=True) as outer:
        with Interrupts(patient=True) as interrupts:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.01)
            assert interrupts.code == 143
        os.kill(os.getpid(), signal.SIGTERM)  # while the last lines are written
        time.sleep(0.01)
        with Interrupts() as later:
            assert later.code == 143
    assert outer.code == 143


def test_a_closed_output_costs_no_iteration(tiny, tmp_path, repo):
    reader, writer = os.pipe()
    process = start(repo, "train", *tiny(), stdout=writer)
    os.close(writer)
    os.close(reader)
    _, errors = process.communicate(timeout=200)
    assert (tmp_path / "run" / "checkpoints" / "iter_8").is_dir()
    assert (tmp_path / "run" / "curves.png").is_file()
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    assert process.returncode == 1, errors


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_output_costs_no_iteration(tiny, tmp_path, repo):
    with open("/dev/full", "w") as full:
        process = start(repo, "train", *tiny(), stdout=full)
        _, errors = process.communicate(timeout=200)
    assert (tmp_path / "run" / "checkpoints" / "iter_8").is_dir()
    assert "Traceback" not in errors
    assert process.returncode == 1, errors
    assert errors.endswith("error: standard output: No space left on device\n")


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_streams_that_the_shell_closed_are_neither_a_traceback_nor_the_next_file(tmp_path, repo, closed):
    """`>&-`: the next file opened would take the number, and what libraries print would stand in it."""
    for folder in ("pred", "labels"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / folder / "a.png")
    program = (
        "import os, sys\n"
        "from paddlefcn.commands import main\n"
        "from paddlefcn.scoring import folders\n"
        "real = folders.find_pairs\n"
        "def find(*rest, **more):\n"
        "    with open('free', 'w') as stream:\n"
        "        open('number', 'w').write(str(stream.fileno()))\n"
        "    return real(*rest, **more)\n"
        "folders.find_pairs = find\n"
        "sys.exit(main(['score', '--pred', 'pred', '--labels', 'labels', '--json', 'x.json']))\n"
    )
    shell = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(program)} " + " ".join(
        f"{n}>&-" for n in closed
    )
    environment = {**os.environ, "PYTHONPATH": str(repo)}
    done = subprocess.run(
        ["sh", "-c", shell], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "x.json").is_file()
    assert int((tmp_path / "number").read_text()) > 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("target", ["pipe", "full"])
def test_what_cannot_be_printed_costs_no_result(tmp_path, repo, target):
    for folder in ("pred", "labels"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / folder / "a.png")
    arguments = [
        "score",
        "--pred",
        tmp_path / "pred",
        "--labels",
        tmp_path / "labels",
        "--json",
        tmp_path / "x",
    ]
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "w") as full:
        process = start(repo, *map(str, arguments), stdout=full if target == "full" else writer)
        os.close(writer)
        _, errors = process.communicate(timeout=100)
    assert (tmp_path / "x").is_file()
    said = "error: standard output: No space left on device\n" if target == "full" else ""
    assert (process.returncode, errors) == (1, said)
