"""Names from outside may hold escape sequences; a terminal never gets them."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pytest

from paddlefcn import commands
from paddlefcn.errors import ConfigError, DataError, RunError, UserError, WeightsError
from paddlefcn.terminal import plain, plain_output

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202etxt.exe\x08\x7f"


def test_control_characters_are_written_out_and_text_stays():
    assert plain(EVIL) == "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202etxt.exe\\x08\\x7f"
    assert plain("ä 天\tb\nc \udcff") == "ä 天\tb\nc \\udcff"


@pytest.mark.parametrize("kind", [UserError, ConfigError, DataError, WeightsError, RunError])
def test_errors_hold_no_control_characters_even_for_those_who_catch_them(kind):
    assert str(kind(f"mask {EVIL}: is empty")) == f"mask {plain(EVIL)}: is empty"
    assert str(kind()) == ""


def test_whoever_prints_within_a_command_prints_text(monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with plain_output():
        print(EVIL, "\r")
        sys.stderr.write(f"\r 50 % \x1b[A{EVIL}")
    assert sys.stdout is out
    assert out.getvalue() == plain(EVIL) + " \\r\n"
    assert err.getvalue() == "\r 50 % \x1b[A" + plain(EVIL)


def test_an_output_of_another_encoding_shows_what_it_can():
    raw = io.BytesIO()
    before, sys.stdout = sys.stdout, io.TextIOWrapper(raw, "ascii")
    try:
        with plain_output():
            print("5 – 天")
        sys.stdout.flush()
        assert raw.getvalue() == b"5 \\u2013 \\u5929\n"
    finally:
        sys.stdout = before


@pytest.mark.skipif(os.name == "nt", reason="no such names on Windows")
def test_names_with_escapes_and_names_that_are_not_utf8_reach_no_terminal(tmp_path):
    from PIL import Image

    recipe = """
data:
  type: Folder
  root: %s
  classes: [background, "disk\\e[31m"]
model: {type: FCN8s, backbone: {type: VGG11}}
loss: [{type: CrossEntropy}]
optimizer: {type: Momentum}
schedule: {type: Poly, learning_rate: 0.1}
train: {iters: 1}
"""
    (tmp_path / "r.yml").write_text(recipe % tmp_path)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for index, name in enumerate((b"evil\x1b[2J.png", b"latin\xe9.png", b"a\r\nerror: b.png")):
            path = os.fsencode(tmp_path / folder) + b"/" + name
            Image.fromarray(np.full((4, 4), 50 + index, np.uint8)).save(os.fsdecode(path))
    command = [sys.executable, "-m", "paddlefcn", "check-data", "-c", "r.yml", "--json", "x.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert done.returncode == 1, done.stderr
    for text in (done.stdout, done.stderr):
        assert b"\x1b" not in text
        assert b"Traceback" not in text
        text.decode()
    assert b"\\x1b[2J" in done.stdout
    assert (tmp_path / "x.json").is_file()
    unknown = subprocess.run(
        [sys.executable, "-m", "paddlefcn", "check-data", "--\x1b[2J", "-c", b"no\xe9\x1b[2J.yml"],
        capture_output=True,
    )
    assert unknown.returncode == 2
    assert b"\x1b" not in unknown.stderr


def test_the_overview_keeps_every_command_apart_from_what_it_does():
    lines = commands._overview().splitlines()[2:]
    assert [line.split()[0].replace("-", "_") for line in lines] == list(commands.NAMES)
