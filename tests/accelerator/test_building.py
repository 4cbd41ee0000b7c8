"""What a build depends on, and what is said where it cannot be."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

import pytest

from paddlefcn.accelerator import AcceleratorError, accelerator_for, building
from paddlefcn.commands import main

pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="for Linux on x86-64 alone"
)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A cache of its own, a Paddle that fits, and a compiler that writes what it is told to."""
    monkeypatch.setenv("PADDLEFCN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", sys.executable)
    library = tmp_path / "libdnnl.so.3"
    library.write_bytes(b"oneDNN")

    class Machine:
        cache = tmp_path / "cache" / "accelerator"
        output = b"a library"
        fails = ""
        commands: list[list[str]] = []  # noqa: RUF012 - made anew with the class

        @staticmethod
        def run(command, place, failure):
            Machine.commands.append(command)
            if Machine.fails and Machine.fails in failure:
                raise AcceleratorError(f"accelerator: {failure}")
            if command[-2:-1] == ["-o"]:
                Path(command[-1]).write_bytes(Machine.output)

    real = building._place

    def place():
        found = real()
        return building._Place(library, found.key)

    monkeypatch.setattr(building, "_paddle_version", lambda package: "3.3.1")
    monkeypatch.setattr(building, "_run", Machine.run)
    monkeypatch.setattr(building, "_place", place if (_libs() / "libdnnl.so.3").exists() else real)
    return Machine


def _libs() -> Path:
    import paddle

    return Path(paddle.__file__).parent / "libs"


needs_onednn = pytest.mark.skipif(not (_libs() / "libdnnl.so.3").exists(), reason="this paddle has no oneDNN")


@needs_onednn
def test_a_build_is_compiled_checked_and_then_found_again(machine):
    first = building.built()
    assert [command[-2] for command in machine.commands] == ["-o", "paddlefcn.accelerator.checks"]
    assert building.built() == first
    assert len(machine.commands) == 2


@needs_onednn
@pytest.mark.parametrize("damage", ["library", "note", "missing"])
def test_a_damaged_cache_is_built_again(machine, damage):
    file = building.built()
    note = next(machine.cache.glob("*.json"))
    if damage == "library":
        file.write_bytes(b"cut")
    elif damage == "note":
        note.write_text("{")
    else:
        file.unlink()
    again = building.built()
    assert again.read_bytes() == b"a library"
    assert len(machine.commands) == 4


@needs_onednn
def test_two_builds_at_once_do_not_touch_each_others_library(machine):
    first = building.rebuild()
    machine.output = b"the other process's library"
    second = building.rebuild()
    assert first != second
    assert first.read_bytes() == b"a library"  # still what the first process has loaded
    assert building.built() == second


@needs_onednn
def test_another_processor_or_paddle_has_a_build_of_its_own(machine, monkeypatch):
    first = building.built()
    monkeypatch.setattr(building, "_processor", lambda: "another one")
    second = building.built()
    monkeypatch.setattr(building, "_paddle_version", lambda package: "3.4.0")
    assert len({first, second, building.built()}) == 3


def test_without_a_compiler_auto_goes_on_and_true_says_what_is_missing(machine, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    if not (_libs() / "libdnnl.so.3").exists():
        pytest.skip("this paddle has no oneDNN")
    used, lines = accelerator_for("auto", "cpu")
    assert not used
    assert len(lines) == 1
    assert "no C++ compiler" in lines[0]
    assert "\n" not in lines[0]
    with pytest.raises(AcceleratorError, match="install g\\+\\+"):
        accelerator_for(True, "cpu")


def test_with_paddle_2_auto_goes_on_and_true_says_why_not(machine, monkeypatch):
    monkeypatch.setattr(building, "_paddle_version", lambda package: "2.6.2")
    used, lines = accelerator_for("auto", "cpu")
    assert (used, len(lines)) == (False, 1)
    with pytest.raises(AcceleratorError, match=r"needs paddle 3 or newer; this is 2\.6\.2"):
        accelerator_for(True, "cpu")


def test_another_system_is_named(machine, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(AcceleratorError, match="this is Darwin"):
        building.built()


def test_a_gpu_is_left_alone_and_true_there_is_an_error():
    assert accelerator_for("auto", "gpu:0") == (False, [])
    assert accelerator_for(False, "cpu") == (False, [])
    with pytest.raises(AcceleratorError, match="the device is gpu:0"):
        accelerator_for(True, "gpu:0")


@needs_onednn
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_may_not_be_written_names_the_variable(machine, tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    monkeypatch.setenv("PADDLEFCN_CACHE", str(closed))
    with pytest.raises(AcceleratorError, match="PADDLEFCN_CACHE"):
        building.built()


@needs_onednn
def test_a_cache_that_is_a_file_names_the_variable(machine, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PADDLEFCN_CACHE", str(tmp_path / "file"))
    with pytest.raises(AcceleratorError, match="PADDLEFCN_CACHE"):
        building.built()


@needs_onednn
def test_a_build_that_failed_its_check_is_not_tried_at_every_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PADDLEFCN_CACHE", str(tmp_path))
    compiler = tmp_path / "compiler"
    compiler.write_text(
        '#!/bin/sh\necho x >> "$(dirname "$0")/calls"\necho "kernels.cpp:1: error: odd" >&2\nexit 1\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr(building, "_paddle_version", lambda package: "3.3.1")
    for _ in range(2):
        with pytest.raises(
            AcceleratorError, match=r"compiling failed \(exit code 1\): kernels.cpp:1: error: odd"
        ):
            building.built()
    assert (tmp_path / "calls").read_text() == "x\n"
    assert main(["build-accelerator"]) == 2
    assert (tmp_path / "calls").read_text() == "x\nx\n"
    assert capsys.readouterr().err.count("\n") == 1
    assert "failed" in json.loads(next((tmp_path / "accelerator").glob("*.json")).read_text())
