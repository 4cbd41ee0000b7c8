"""Training in stages: one run, one network after the other, resumed anywhere."""

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
from safetensors import safe_open
from safetensors.numpy import load_file

from paddlefcn import build
from paddlefcn.commands import main

STAGES = (
    "stages=[{model: FCN32s, iters: 3}, {model: FCN16s, iters: 5, learning_rate: 0.02, batch_size: 3},"
    " {model: {type: FCN8s, dropout: 0.0}, iters: 2, learning_rate: 0.01, schedule: {power: 0.5}}]"
)
OPTIONS = [STAGES, "train.iters=null", "model.upsample=transposed", "train.keep=2"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A staged run from start to end in one go: FCN-32s to 3, FCN-16s to 8, FCN-8s to 10."""
    from conftest import TINY

    folder = tmp_path_factory.mktemp("staged")
    (folder / "tiny.yml").write_text(TINY)
    arguments = ["-c", str(folder / "tiny.yml"), "-o", f"train.save_dir={folder / 'run'}", *OPTIONS]
    assert main(["train", *arguments]) == 0
    return folder / "run"


def _records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").open()]


def _assert_same(one, other):
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    for folder in ("checkpoints/iter_3", "checkpoints/iter_8", "checkpoints/iter_10", "best"):
        assert (one / folder / "state.json").read_bytes() == (other / folder / "state.json").read_bytes()
        weights, again = (load_file(run / folder / "model.safetensors") for run in (one, other))
        training, more = (dict(np.load(run / folder / "training.npz")) for run in (one, other))
        for first, second in ((weights, again), (training, more)):
            assert first.keys() == second.keys()
            for name, value in first.items():
                np.testing.assert_array_equal(value, second[name], err_msg=f"{folder} {name}")


def _cut_back(run, iteration):
    """Leaves the run as a kill just after the checkpoint of `iteration` would."""
    for folder in (run / "checkpoints").glob("iter_*"):
        if int(folder.name[5:]) > iteration:
            shutil.rmtree(folder)
    with open(run / "metrics.jsonl", "a") as stream:
        stream.write('{"iter": 11, "lo')


def test_iterations_run_on_over_the_stages(uninterrupted):
    training = [record for record in _records(uninterrupted) if "loss" in record]
    assert [record["iter"] for record in training] == list(range(1, 11))
    assert [record["stage"] for record in training] == ["FCN32s"] * 3 + ["FCN16s"] * 5 + ["FCN8s"] * 2
    # each stage has its own schedule, warm-up of two iterations included
    rates = [record["learning_rate"] for record in training]
    assert rates[3] == pytest.approx(0.02 / 3)
    assert rates[5] == pytest.approx(0.02 * (1 - 2 / 5) ** 0.9)
    assert rates[9] == pytest.approx(0.01 * (1 - 1 / 2) ** 0.5 * 2 / 3)
    scored = [(record["iter"], record["stage"]) for record in _records(uninterrupted) if "mean_iou" in record]
    assert scored == [(3, "FCN32s"), (4, "FCN16s"), (8, "FCN16s"), (10, "FCN8s")]


def test_checkpoints_say_their_stage_and_those_that_end_one_stay(uninterrupted):
    folders = {int(path.name[5:]): path for path in (uninterrupted / "checkpoints").glob("iter_*")}
    assert sorted(folders) == [3, 6, 8, 10]  # 2 and 4 went, as train.keep=2 asks
    stages = {n: json.loads((path / "state.json").read_text())["stage"] for n, path in folders.items()}
    assert stages == {3: 1, 6: 2, 8: 2, 10: 3}
    with safe_open(folders[6] / "model.safetensors", "np") as file:
        assert file.metadata()["paddlefcn.stage"] == "stage 2 of 3, FCN16s"


def test_best_belongs_to_the_last_stage(uninterrupted):
    state = json.loads((uninterrupted / "best" / "state.json").read_text())
    assert (state["stage"], state["best_iteration"]) == (3, 10)
    assert "score_pool3.weight" in load_file(uninterrupted / "best" / "model.safetensors")


def test_a_stage_takes_what_fits_and_starts_the_rest(uninterrupted):
    log = (uninterrupted / "train.log").read_text()
    line = next(line for line in log.splitlines() if "stage 2 of 3, FCN16s: " in line and "tensors" in line)
    assert "new: score_pool4.weight, score_pool4.bias, upscore2.weight, upscore16.weight" in line
    assert "left: upscore32.weight" in line


def test_a_stage_starts_from_the_weights_that_the_one_before_ended_with(tiny, tmp_path):
    # at a rate of next to nothing the first step of stage 2 leaves the weights as they were put in
    still = STAGES.replace("0.02", "1e-30").replace("iters: 5", "iters: 1")
    assert main(["train", *tiny(still, *OPTIONS[1:], "train.keep=9", "train.save_iters=1")]) == 0
    before = load_file(tmp_path / "run" / "checkpoints" / "iter_3" / "model.safetensors")
    after = load_file(tmp_path / "run" / "checkpoints" / "iter_4" / "model.safetensors")
    for name in ("backbone.conv1_1.conv.weight", "fc6.conv.weight", "score_fr.weight"):
        np.testing.assert_array_equal(before[name], after[name])
    assert np.abs(after["score_pool4.weight"]).max() < 1e-20  # from zero


# in the first stage, at its end, in the middle of the second, at its end, in the middle of the third
@pytest.mark.parametrize("iteration", [2, 3, 6, 8])
def test_a_run_resumed_in_any_stage_matches_an_uninterrupted_one(uninterrupted, tiny, tmp_path, iteration):
    run = tmp_path / "run"
    assert main(["train", *tiny(*OPTIONS, "train.keep=9")]) == 0
    _cut_back(run, iteration)
    assert main(["train", *tiny(*OPTIONS), "--resume"]) == 0
    _assert_same(uninterrupted, run)


def test_averaged_weights_go_on_to_the_next_stage_and_are_resumed(tiny, tmp_path):
    options = tiny(*OPTIONS, "train.ema_decay=0.5", "train.keep=9")
    assert main(["train", *options]) == 0
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    _cut_back(tmp_path / "run", 3)
    assert main(["train", *options, "--resume"]) == 0
    _assert_same(tmp_path / "whole", tmp_path / "run")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_signal_in_the_second_stage_is_resumed_to_the_same_result(uninterrupted, tiny, tmp_path, repo):
    process = subprocess.Popen(
        [sys.executable, "tools/train.py", *tiny(*OPTIONS)], cwd=repo, stdout=subprocess.DEVNULL
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and b"FCN16s" in metrics.read_bytes()) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) in (143, 0)  # a quick machine may have come to the end
    assert main(["train", *tiny(*OPTIONS), "--resume"]) == 0
    _assert_same(uninterrupted, tmp_path / "run")


def test_a_finished_staged_run_is_left_alone(uninterrupted, capsys):
    before = (uninterrupted / "metrics.jsonl").stat().st_mtime_ns
    assert main(["train", "-c", str(uninterrupted / "config.yml"), "--resume", str(uninterrupted)]) == 0
    assert "is finished (10 of 10 iterations)" in capsys.readouterr().out
    assert (uninterrupted / "metrics.jsonl").stat().st_mtime_ns == before


def test_the_run_is_scored_with_the_last_stages_network(uninterrupted, tmp_path):
    target = tmp_path / "scores.json"
    recipe = ["-c", str(uninterrupted / "config.yml")]
    assert main(["val", *recipe, "--weights", str(uninterrupted), "--json", str(target)]) == 0
    last = _records(uninterrupted)[-1]
    assert json.loads(target.read_text())["mean_iou"] == pytest.approx(last["mean_iou"], abs=1e-9)


def test_weights_of_an_earlier_stage_say_how_to_use_them(uninterrupted, capsys):
    recipe = ["-c", str(uninterrupted / "config.yml"), "--weights", str(uninterrupted / "checkpoints/iter_3")]
    assert main(["val", *recipe]) == 2
    message = capsys.readouterr().err
    assert "they are of stage 1 of 3, FCN32s: use -o stages.-1.model=FCN32s" in message
    assert message.count("\n") == 1
    assert main(["val", *recipe, "-o", "stages.-1.model=FCN32s"]) == 0


def test_a_network_trained_twice_has_two_names(tiny, tmp_path):
    twice = "stages=[{iters: 1}, {iters: 1, learning_rate: 0.01}]"
    assert main(["train", *tiny(twice, "train.previews=0")]) == 0
    names = [record["stage"] for record in _records(tmp_path / "run") if "loss" in record]
    assert names == ["FCN8s (1)", "FCN8s (2)"]


def test_rates_and_unused_values_are_said_before_training(tiny, tmp_path, capsys):
    stages = "stages=[{iters: 1, learning_rate: 0.1}, {iters: 1, learning_rate: 1e-10}]"
    assert main(["train", *tiny(stages, "train.previews=0")]) == 0
    said = capsys.readouterr().out
    start = said.index("iter 1/2") if "iter 1/2" in said else said.index("eval at 1")
    warning = "stages.1: learning rate 1e-10 is too small by orders of magnitude"
    assert -1 < said.find(warning) < start
    assert "2e-07 is its equivalent" in said or "2.0e-07" in said
    assert said.count("warning: ") == 1
    assert "note: train.iters 8 is not used" in said
    assert warning in (tmp_path / "run" / "train.log").read_text()


def test_each_network_is_built_once_and_a_later_one_that_cannot_be_leaves_no_folder(
    tiny, tmp_path, monkeypatch, capsys
):
    built, make = [], build.build_model

    def counted(config, **more):
        built.extend([config.model.type] if more.get("pretrained", True) else [])
        return make(config, **more)

    monkeypatch.setattr(build, "build_model", counted)
    assert main(["train", *tiny(*OPTIONS)]) == 0
    assert built == ["FCN32s", "FCN16s", "FCN8s"]
    wrong = OPTIONS[0].replace("dropout: 0.0", "deep_supervision: true")
    loss, place = "loss=[{type: CrossEntropy, weights: [1.0]}]", f"train.save_dir={tmp_path / 'wrong'}"
    assert main(["train", *tiny(wrong, *OPTIONS[1:], loss, place)]) == 2
    assert "loss.0.weights: 1 weights, but FCN8s has 3 outputs" in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()


def test_a_resume_with_other_stages_is_refused_and_names_them(uninterrupted, tiny, tmp_path, capsys):
    shutil.copytree(uninterrupted, tmp_path / "run")
    before = _tree(tmp_path / "run")
    for other, named in [
        ("stages=[{model: FCN32s, iters: 10}]", "stages: "),
        (STAGES.replace("iters: 5", "iters: 2"), "stages.1.iters: 5, here 2"),
    ]:
        assert main(["train", *tiny(other, *OPTIONS[1:]), "--resume"]) == 2
        line = capsys.readouterr().err
        assert "is not the recipe of" in line
        assert named in line
    assert _tree(tmp_path / "run") == before


def _tree(folder):
    """Every file below with its content, but for the lock."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
