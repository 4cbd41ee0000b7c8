"""The train command as its user runs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from paddlefcn.commands import main


def _files(run):
    return {
        "weights": load_file(run / "checkpoints" / "iter_8" / "model.safetensors"),
        "training": dict(np.load(run / "checkpoints" / "iter_8" / "training.npz")),
        "best": load_file(run / "best" / "model.safetensors"),
        "metrics": (run / "metrics.jsonl").read_bytes(),
        "state": (run / "checkpoints" / "iter_8" / "state.json").read_bytes(),
    }


def _assert_same(one, other):
    for name, value in one.items():
        if isinstance(value, bytes):
            assert value == other[name], name
        else:
            assert value.keys() == other[name].keys()
            for key, array in value.items():
                np.testing.assert_array_equal(array, other[name][key], err_msg=key)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A run from start to end in one go."""
    from conftest import TINY

    folder = tmp_path_factory.mktemp("reference")
    (folder / "tiny.yml").write_text(TINY)
    assert main(["train", "-c", str(folder / "tiny.yml"), "-o", f"train.save_dir={folder / 'run'}"]) == 0
    return folder / "run"


def test_a_run_leaves_what_the_contract_says(uninterrupted):
    names = {path.name for path in uninterrupted.iterdir()}
    assert names >= {"config.yml", "environment.json", "checkpoints", "best", "vdl", "metrics.jsonl"}
    assert names >= {"curves.png", "preview", "train.log"}
    records = [json.loads(line) for line in (uninterrupted / "metrics.jsonl").open()]
    training = [record for record in records if "loss" in record]
    assert [record["iter"] for record in training] == list(range(1, 9))
    assert set(training[0]) == {"iter", "loss", "learning_rate"}
    evaluations = [record for record in records if "mean_iou" in record]
    assert [record["iter"] for record in evaluations] == [4, 8]
    assert {"val_loss", "pixel_accuracy", "mean_iou"} <= set(evaluations[0])
    weights = [p.name for p in uninterrupted.rglob("*") if p.suffix in (".safetensors", ".pdparams")]
    assert set(weights) == {"model.safetensors"}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_stopped_and_resumed_matches_an_uninterrupted_one(uninterrupted, tiny, tmp_path, workers):
    options = [f"data.num_workers={workers}"]
    # the schedule must be that of 8 iterations: the run is stopped by taking its later checkpoints away
    assert main(["train", *tiny(*options)]) == 0
    run = tmp_path / "run"
    for iteration in (6, 8):
        for path in sorted((run / "checkpoints" / f"iter_{iteration}").iterdir()):
            path.unlink()
        (run / "checkpoints" / f"iter_{iteration}").rmdir()
    with open(run / "metrics.jsonl", "a") as stream:
        stream.write('{"iter": 9, "lo')
    assert main(["train", *tiny(*options), "--resume"]) == 0
    _assert_same(_files(uninterrupted), _files(run))


def test_the_visualdl_log_of_a_resumed_run_has_the_earlier_pictures_and_scores(tiny, tmp_path):
    from visualdl import LogReader

    def logged(run):
        (path,) = (run / "vdl").iterdir()
        reader = LogReader(file_path=str(path))
        tags = reader.get_tags()
        images = {tag: [image.id for image in reader.get_data("image", tag)] for tag in tags["image"]}
        scores = [tag for tag in tags["scalar"] if not tag.startswith("train/")]
        return images, {tag: [(p.id, p.value) for p in reader.get_data("scalar", tag)] for tag in scores}

    assert main(["train", *tiny()]) == 0
    run = tmp_path / "run"
    before = logged(run)
    assert before[0] == {"preview/0": [4, 8]}
    shutil.rmtree(run / "checkpoints" / "iter_8")
    shutil.rmtree(run / "vdl")
    assert main(["train", *tiny(), "--resume"]) == 0
    assert logged(run) == before


def test_a_finished_run_is_left_alone(uninterrupted, capsys):
    before = (uninterrupted / "metrics.jsonl").stat().st_mtime_ns
    recipe = str(uninterrupted.parent / "tiny.yml")
    assert main(["train", "-c", recipe, "--resume", str(uninterrupted)]) == 0
    assert "is finished (8 of 8 iterations)" in capsys.readouterr().out
    assert (uninterrupted / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_new_run_does_not_touch_an_earlier_one(tiny, tmp_path, capsys):
    short = tiny("train.iters=1")
    assert main(["train", *short]) == 0
    assert main(["train", *short]) == 0
    assert (tmp_path / "run-2" / "best").is_dir()
    assert "this one writes to" in capsys.readouterr().out
    assert main(["train", *short, "--overwrite"]) == 0
    assert not (tmp_path / "run-3").exists()


def test_resume_without_a_run_starts_one_and_says_so(tiny, tmp_path, capsys):
    assert main(["train", *tiny("train.iters=1"), "--resume"]) == 0
    assert "to resume; starting one" in capsys.readouterr().out
    assert (tmp_path / "run" / "best").is_dir()


def test_averaged_weights_are_resumed_and_are_what_is_saved(tiny, tmp_path):
    options = ["train.ema_decay=0.5", "train.iters=4", "train.save_iters=2"]
    assert main(["train", *tiny(*options)]) == 0
    run = tmp_path / "run"
    final = load_file(run / "checkpoints" / "iter_4" / "model.safetensors")
    raw = np.load(run / "checkpoints" / "iter_4" / "training.npz")
    assert np.abs(final["fc6.conv.weight"] - raw["raw|fc6.conv.weight"]).max() > 0
    for path in (run / "checkpoints" / "iter_4").iterdir():
        path.unlink()
    (run / "checkpoints" / "iter_4").rmdir()
    assert main(["train", *tiny(*options), "--resume"]) == 0
    again = load_file(run / "checkpoints" / "iter_4" / "model.safetensors")
    for name, value in final.items():
        np.testing.assert_array_equal(value, again[name])


def test_accumulated_batches_count_as_one_step(tiny, tmp_path):
    assert main(["train", *tiny("train.accumulate=2", "train.iters=2")]) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len([line for line in lines if '"loss"' in line]) == 2


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(tiny, capsys):
    wild = ["schedule.learning_rate=1e30", "schedule.warmup_iters=0", "model.backbone.batch_norm=false"]
    assert main(["train", *tiny(*wild)]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: loss is nan at iteration")
    assert "batch: train_" in line
    assert "checkpoint" in line


def test_a_model_that_does_not_fit_the_checkpoint_is_refused(tiny, capsys):
    assert main(["train", *tiny("train.iters=2")]) == 0
    assert main(["train", *tiny("train.iters=4", "model.type=FCN32s"), "--resume"]) == 2
    assert "model.type: 'FCN8s', here 'FCN32s'" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_iteration_writes_a_checkpoint_and_resumes(
    uninterrupted, tiny, tmp_path, repo, number, code
):
    command = [sys.executable, "tools/train.py", *tiny("data.num_workers=1")]
    process = subprocess.Popen(command, cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    if process.returncode != 0:  # a quick machine may have finished the eight iterations
        assert process.returncode == code, errors
        assert "stopped by a signal after iteration" in output
    assert errors == ""
    assert main(["train", *tiny("data.num_workers=1"), "--resume"]) == 0
    _assert_same(_files(uninterrupted), _files(tmp_path / "run"))


def test_a_run_brings_its_own_recipe(uninterrupted, tmp_path, capsys):
    assert main(["val", "--weights", str(uninterrupted), "--json", str(tmp_path / "scores.json")]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["recipe"]["file"] == str(uninterrupted / "config.yml")
    weights = uninterrupted / "checkpoints" / "iter_8" / "model.safetensors"
    assert main(["val", "--weights", str(weights)]) == 0
    capsys.readouterr()
    assert main(["train", "--resume", str(uninterrupted)]) == 0
    assert "is finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "-c/--config: missing; give a recipe, or the name of a shipped one (-c quickstart)"),
        (["train", "-c", "quickstrat"], "no such file or shipped recipe; did you mean 'quickstart'?"),
        (["train", "-c", "quickstart", "-o", "batch_size=4"], "did you mean train.batch_size?"),
        (
            ["val", "--weights", "nowhere.safetensors"],
            "nowhere.safetensors: no such file or folder; give a run",
        ),
        (["val", "--weights", "/"], "is of no run with a config.yml of its own"),
    ],
)
def test_what_names_no_recipe_is_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_every_evaluation_leaves_the_iou_of_each_class(uninterrupted):
    lines = [json.loads(line) for line in (uninterrupted / "class_scores.jsonl").open()]
    assert [line["iter"] for line in lines] == [4, 8]
    metrics = [json.loads(line) for line in (uninterrupted / "metrics.jsonl").open()]
    mean = [line["mean_iou"] for line in metrics if "mean_iou" in line]
    for line, expected in zip(lines, mean):
        known = [value for value in line["iou"].values() if value is not None]
        assert sum(known) / len(known) == pytest.approx(expected)
    assert "striped" in (uninterrupted / "train.log").read_text()


def test_evaluations_inside_a_training_can_go_by_windows(tiny, tmp_path, capsys):
    assert main(["train", *tiny("train.eval_sliding=[16, 8]", "train.iters=2")]) == 0
    scores = tmp_path / "scores.json"
    arguments = ["val", "--weights", str(tmp_path / "run"), "--sliding", "16", "8", "--json", str(scores)]
    assert main(arguments) == 0
    record = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()][-1]
    assert json.loads(scores.read_text())["mean_iou"] == pytest.approx(record["mean_iou"])
    capsys.readouterr()
    assert main(["train", *tiny("train.eval_sliding=[4, 8]")]) == 2
    assert "train: eval_sliding [4, 8]: expected [SIZE] or [SIZE, STRIDE]" in capsys.readouterr().err
