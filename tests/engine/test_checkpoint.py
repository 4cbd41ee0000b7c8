"""Checkpoints are complete or absent, and a damaged one is named and passed over."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from paddlefcn.engine.checkpoint import Checkpoints, State
from paddlefcn.errors import RunError, WeightsError
from paddlefcn.files import damage, recover_folder, write_bytes, write_folder

WEIGHTS = {"fc6.conv.weight": np.arange(6, dtype="float32").reshape(2, 3)}
TRAINING = {"optim/fc6.conv.weight/velocity_0": np.ones(3, "float32")}


@pytest.fixture
def checkpoints(tmp_path):
    made = Checkpoints(tmp_path, keep=2, metadata={"paddlefcn.normalize": "{}"})
    for iteration in (1, 2, 3):
        made.save(State(iteration=iteration, best_score=0.5, best_iteration=1), WEIGHTS, TRAINING)
    return made


def test_a_checkpoint_comes_back_as_it_was(checkpoints):
    newest, notes = checkpoints.newest()
    assert notes == []
    assert newest.state == State(iteration=3, best_score=0.5, best_iteration=1)
    np.testing.assert_array_equal(newest.weights["fc6.conv.weight"], WEIGHTS["fc6.conv.weight"])
    np.testing.assert_array_equal(newest.training["optim/fc6.conv.weight/velocity_0"], np.ones(3))
    assert (checkpoints.folder / "last").read_text() == "iter_3\n"


def test_only_the_newest_are_kept(checkpoints):
    assert [number for number, _ in checkpoints.numbered()] == [3, 2]


@pytest.mark.parametrize("name", ["model.safetensors", "training.npz", "state.json", "manifest.json"])
@pytest.mark.parametrize("how", ["truncated", "flipped", "removed"])
def test_a_damaged_newest_one_is_named_and_the_one_before_is_used(checkpoints, name, how):
    path = checkpoints.folder / "iter_3" / name
    content = path.read_bytes()
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(content[:-5] if how == "truncated" else b"\xff" + content[1:])
    newest, notes = checkpoints.newest()
    assert newest.state.iteration == 2
    assert len(notes) == 1
    assert "iter_3 is damaged" in notes[0]


def test_one_that_is_whole_but_empty_is_named_too(checkpoints):
    (checkpoints.folder / "iter_3" / "manifest.json").write_text("{}")
    (checkpoints.folder / "iter_3" / "training.npz").unlink()
    newest, notes = checkpoints.newest()
    assert newest.state.iteration == 2
    assert "iter_3 is damaged (FileNotFoundError" in notes[0]


def test_one_of_another_version_is_named_too(tmp_path):
    made = Checkpoints(tmp_path, keep=2, metadata={})
    made.save(State(iteration=1), WEIGHTS, TRAINING)
    files = {path.name: path.read_bytes() for path in (made.folder / "iter_1").iterdir()}
    del files["manifest.json"]
    files["state.json"] = b'{"iteration": 2, "phase_of_the_moon": 0.5}'
    write_folder(made.folder / "iter_2", files)
    newest, notes = made.newest()
    assert newest.state.iteration == 1
    assert "phase_of_the_moon" in notes[0]


def test_a_damaged_newer_one_does_not_take_the_place_of_a_kept_one(tmp_path):
    made = Checkpoints(tmp_path, keep=1, metadata={})
    made.save(State(iteration=8), WEIGHTS, TRAINING)
    (made.folder / "iter_8" / "state.json").write_text("{")
    made.save(State(iteration=3), WEIGHTS, TRAINING)
    assert [number for number, _ in made.numbered()] == [3]


def test_what_a_kill_prevented_is_made_up_for(checkpoints):
    checkpoints.keep = 1
    (checkpoints.folder / "last").unlink()
    checkpoints.settle(3)
    assert [number for number, _ in checkpoints.numbered()] == [3]
    assert (checkpoints.folder / "last").read_text() == "iter_3\n"


def test_all_damaged_is_an_error(checkpoints):
    for _, folder in checkpoints.numbered():
        (folder / "state.json").write_text("{")
    with pytest.raises(WeightsError, match=r"every checkpoint .* is damaged"):
        checkpoints.newest()


def test_a_replacement_that_was_cut_short_is_undone(tmp_path):
    target = tmp_path / "best"
    write_folder(target, {"a": b"old"})
    target.rename(tmp_path / ".best.old")  # what a kill between the two renames leaves
    (tmp_path / ".best.partial").mkdir()
    recover_folder(target)
    assert (target / "a").read_bytes() == b"old"
    assert damage(target) is None
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_full_disk_leaves_what_was_there_and_names_the_file(tmp_path, monkeypatch):
    target = tmp_path / "iter_1"
    write_folder(target, {"a": b"old"})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("paddlefcn.files.os.fsync", full)
    with pytest.raises(RunError, match=r"writing .*iter_1 failed: No space left on device"):
        write_folder(target, {"a": b"new"})
    with pytest.raises(RunError, match=r"writing .*note.txt failed"):
        write_bytes(tmp_path / "note.txt", b"x")
    assert (target / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["iter_1"]


def test_the_state_has_only_plain_values():
    assert all(
        value is None or isinstance(value, (int, float, str)) for value in dataclasses.astuple(State())
    )
