"""A run folder belongs to one process, and an earlier run is never written into."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from paddlefcn.errors import OutputError
from paddlefcn.ownership import mark
from paddlefcn.training.folder import claim_existing, claim_new, claim_overwritten, is_begun, runs_of

HOLD = """
import sys, time
from paddlefcn.ownership import mark
from paddlefcn.training.folder import claim_new
claim = claim_new(__import__('pathlib').Path(sys.argv[1]))
print(claim.folder.name, flush=True)
time.sleep(60)
"""


@pytest.fixture
def hold(repo):
    processes = []

    def start(folder):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True, cwd=repo
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_a_new_run_takes_the_next_free_sibling(tmp_path):
    first = claim_new(tmp_path / "run")
    (first.folder / "config.yml").write_text("")
    first.close()
    (tmp_path / "run-2").mkdir()
    (tmp_path / "run-2" / "notes.txt").write_text("mine")
    assert claim_new(tmp_path / "run").folder.name == "run-3"


def test_an_empty_folder_is_taken_as_it_is(tmp_path):
    (tmp_path / "run").mkdir()
    assert claim_new(tmp_path / "run").folder.name == "run"


def test_of_two_processes_at_the_same_moment_one_gets_the_folder(tmp_path, hold):
    names = {process.stdout.readline().strip() for process in [hold(tmp_path / "run") for _ in range(3)]}
    assert names == {"run", "run-2", "run-3"}


def test_the_claim_dies_with_its_process(tmp_path, hold):
    process = hold(tmp_path / "run")
    assert process.stdout.readline().strip() == "run"
    with pytest.raises(OutputError, match="in use by another run"):
        claim_existing(tmp_path / "run")
    process.kill()
    process.wait()
    claim_existing(tmp_path / "run").close()


def test_overwriting_removes_a_run_and_nothing_else(tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints" / "iter_1").mkdir(parents=True)
    (folder / "config.yml").write_text("")
    (folder / "my_notes.txt").write_text("keep me")
    with pytest.raises(OutputError, match="without this library's mark"):
        claim_overwritten(folder)
    mark(folder, "run")
    claim_overwritten(folder).close()
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock",
        ".paddlefcn.json",
        "checkpoints",
        "my_notes.txt",
    ]


def test_the_newest_run_is_the_one_started_last(tmp_path):
    assert runs_of(tmp_path / "run") == []
    for name in ("run", "run-3", "run-2", "runner"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yml").write_text("")
        time.sleep(0.02)
    assert [path.name for path in runs_of(tmp_path / "run")] == ["run-2", "run-3", "run"]


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        claim_new(tmp_path / "run")


@pytest.mark.parametrize(
    "left", ["..paddlefcn.json.12.partial", ".config.yml.12.partial", ".split.json.12.partial"]
)
def test_a_run_killed_before_its_recipe_stood_there_is_begun_whatever_was_being_written(tmp_path, left):
    """Class weights are written before the mark: a resume took the next folder instead."""
    (tmp_path / ".lock").write_text("12\n")
    (tmp_path / "class_weights.json").write_text("{}")
    (tmp_path / left).write_text("{")
    assert is_begun(tmp_path)
    (tmp_path / "thesis.doc").write_text("mine")
    assert not is_begun(tmp_path)
