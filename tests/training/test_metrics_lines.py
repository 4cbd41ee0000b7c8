"""metrics.jsonl on a resume: compared with the checkpoint; a changed line is named, the lines stay."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import TINY, files_below

from paddlefcn.commands import main


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that stands at iteration 4 of 5, and the arguments to go on with it."""
    place = tmp_path_factory.mktemp("stopped")
    (place / "tiny.yml").write_text(TINY)
    run = place / "run"
    arguments = [
        "-c",
        str(place / "tiny.yml"),
        "-o",
        "train.iters=5",
        "train.previews=0",
        "train.eval_iters=2",
    ]
    arguments += [f"train.save_dir={run}"]
    assert main(["train", *arguments]) == 0
    finished = (run / "metrics.jsonl").read_bytes()
    shutil.rmtree(run / "checkpoints" / "iter_5")
    (run / "checkpoints" / "last").write_text("iter_4\n")
    shutil.copytree(run, place / "kept")
    return arguments, run, finished


@pytest.fixture
def again(stopped):
    """The same, as it stood."""
    arguments, run, finished = stopped
    shutil.rmtree(run)
    shutil.copytree(run.with_name("kept"), run)
    return arguments, run, finished


def digit(lines, number):
    """A loss that was edited by hand."""
    record = json.loads(lines[number])
    key = "loss" if "loss" in record else "mean_iou"
    record[key] += 0.5
    lines[number] = json.dumps(record).encode()
    return lines


CHANGES = {
    "the first line": (lambda lines: digit(lines, 0), "line 1 is not as the run wrote it"),
    "a line in the middle": (lambda lines: digit(lines, 3), "line 4 is not as the run wrote it"),
    "an evaluation": (lambda lines: digit(lines, 2), "line 3 is not as the run wrote it"),
    "the evaluation of the checkpoint": (lambda lines: digit(lines, 5), "line 6 is not as the run wrote it"),
    "a space": (lambda lines: [lines[0] + b" ", *lines[1:]], "line 1 is not as"),
    "a line that is gone": (lambda lines: [lines[0], *lines[2:]], "line 2 is not as"),
    "a line twice": (lambda lines: [lines[0], *lines], "line 2 is not as"),
    "two lines in the other order": (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1 is not as"),
    "no JSON": (lambda lines: [lines[0], b"oops", *lines[2:]], "line 2 is not as"),
    "cut short": (lambda lines: lines[:4], "line 5 is gone"),
    "empty": (lambda lines: [], "line 1 is gone"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_line_is_named_and_nothing_is_touched(again, capsys, name):
    change, words = CHANGES[name]
    arguments, run, _ = again
    lines = (run / "metrics.jsonl").read_bytes().splitlines()
    (run / "metrics.jsonl").write_bytes(b"".join(line + b"\n" for line in change(lines)))
    before = files_below(run)
    assert main(["train", *arguments, "--resume"]) == 2
    error = capsys.readouterr().err
    assert f"{run / 'metrics.jsonl'}: {words}" in error
    assert error.count("\n") == 1
    changed = {name for name, content in files_below(run).items() if before.get(name) != content}
    assert {path.name for path in changed} <= {".lock"}


def test_lines_after_the_checkpoint_may_be_torn_and_the_others_stay_as_they_are(again):
    arguments, run, finished = again
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b"".join(lines[:6]) + lines[6][:9])
    assert main(["train", *arguments, "--resume"]) == 0
    assert (run / "metrics.jsonl").read_bytes() == finished


def test_without_the_file_the_run_goes_on_and_says_so(again, capsys):
    arguments, run, _ = again
    (run / "metrics.jsonl").unlink()
    assert main(["train", *arguments, "--resume"]) == 0
    assert "metrics.jsonl is gone: the records begin anew after iteration 4" in capsys.readouterr().out
    assert [json.loads(line)["iter"] for line in (run / "metrics.jsonl").open()] == [5, 5]


def test_lines_of_an_earlier_version_are_not_compared_and_stay_as_they_are(again):
    from paddlefcn.files import replace_in_folder

    arguments, run, _ = again
    folder = run / "checkpoints" / "iter_4"
    state = json.loads((folder / "state.json").read_text())
    del state["lines"], state["lines_sha256"]
    replace_in_folder(folder, "state.json", json.dumps(state).encode())
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    lines[0] = lines[0].replace(b", ", b" ,  ", 1)
    (run / "metrics.jsonl").write_bytes(b"".join(lines))
    assert main(["train", *arguments, "--resume"]) == 0
    assert (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)[:6] == lines[:6]
