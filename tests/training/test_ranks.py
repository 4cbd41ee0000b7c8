"""Several processes on one run: paddle.distributed.launch with gloo, on this machine."""

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
from conftest import REPO
from safetensors.numpy import load_file

from paddlefcn.build import build_dataset
from paddlefcn.commands import main
from paddlefcn.config import load_config
from paddlefcn.engine.ranks import ALONE, Ranks, launched, stopping_together
from paddlefcn.errors import RunError
from paddlefcn.training import stages
from paddlefcn.training.teachers import Teachers

# what has statistics or chance of its own on each rank is off: batches of two are not one of four
SAME = ("model.dropout=0.0", "train.freeze_batch_norm=true", "data.val_images=5")


def _start(folder, arguments):
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
    command += ["--log_dir", str(folder / "log"), "tools/train.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    return subprocess.Popen(command, cwd=REPO, env=environment, stdout=subprocess.PIPE, text=True)


def _launched(folder, arguments):
    process = _start(folder, arguments)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told
    return told


def _weights(run, iteration=8):
    return load_file(run / "checkpoints" / f"iter_{iteration}" / "model.safetensors")


def _assert_close(run, other):
    weights, others = _weights(run), _weights(other)
    for name, value in weights.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_two_ranks_train_to_the_weights_of_one_process_and_resume_as_one(tiny, tmp_path, capsys):
    one, two, parts = (tmp_path / name for name in ("one", "two", "parts"))
    assert main(["train", *tiny(*SAME, "train.batch_size=4", f"train.save_dir={one}")]) == 0
    told = _launched(tmp_path, tiny(*SAME, "train.batch_size=2", f"train.save_dir={two}"))
    assert told.count("done: best") == 1  # the first rank alone speaks
    _assert_close(one, two)
    options = ("train.batch_size=2", "train.accumulate=2", f"train.save_dir={parts}")
    assert main(["train", *tiny(*SAME, *options)]) == 0
    _assert_close(one, parts)
    for iteration in (6, 8):
        shutil.rmtree(two / "checkpoints" / f"iter_{iteration}")
    half = tiny(*SAME, "train.batch_size=2", f"train.save_dir={two}")
    capsys.readouterr()
    assert main(["train", *half, "--resume", str(two)]) == 2
    assert "1 ranks is 2 images a step, but" in capsys.readouterr().err
    whole = tiny(*SAME, "train.batch_size=4", f"train.save_dir={two}")
    assert main(["train", *whole, "--resume", str(two)]) == 0
    _assert_close(one, two)


@pytest.mark.slow
def test_validation_over_ranks_is_that_of_a_single_process(tiny, tmp_path):
    still = (*SAME, "schedule.learning_rate=1e-30", "train.iters=1", "train.previews=4")
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["train", *tiny(*still, "train.batch_size=4", f"train.save_dir={one}")]) == 0
    _launched(tmp_path, tiny(*still, "train.batch_size=2", f"train.save_dir={two}"))
    lines = [(run / "metrics.jsonl").read_text().splitlines()[-1] for run in (one, two)]
    assert lines[0] == lines[1]
    assert (one / "class_scores.jsonl").read_text() == (two / "class_scores.jsonl").read_text()
    for picture in sorted((one / "preview").iterdir()):
        assert picture.read_bytes() == (two / "preview" / picture.name).read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the rank in /proc")
def test_a_dead_rank_stops_all_and_leaves_the_newest_checkpoint(tiny, tmp_path):
    run = tmp_path / "run"
    options = ("train.iters=5000", "train.save_iters=10", "train.eval_iters=5000", "train.keep=1000")
    process = _start(tmp_path, tiny(*SAME, *options))
    waited = time.monotonic() + 200
    while not (run / "checkpoints" / "iter_20" / "manifest.json").exists():
        assert process.poll() is None
        assert time.monotonic() < waited
        time.sleep(0.05)
    os.kill(_rank_of(process.pid, 1), signal.SIGKILL)
    told, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "error: rank 0 of 2 has lost another rank" in told
    assert "has lost another rank" in (run / "train.log").read_text().splitlines()[-1]
    iterations = [int(path.name[5:]) for path in (run / "checkpoints").glob("iter_*")]
    assert all(iteration % 10 == 0 for iteration in iterations)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(iterations) <= lines[-1]["iter"]
    assert _weights(run, max(iterations))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the rank in /proc")
@pytest.mark.parametrize("whom", ["one rank", "the launcher"])
def test_a_sigterm_stops_all_ranks_with_one_checkpoint_and_a_resume_ends_in_the_same_bits(
    tiny, tmp_path, whom
):
    iters = 120
    often = ("train.save_iters=1000", "train.eval_iters=1000", "train.keep=9", "train.log_iters=20")
    # dropout and BatchNorm are on: they follow from the iteration and the rank
    options = (f"train.iters={iters}", "train.batch_size=2", *often)
    whole, run = tmp_path / "whole", tmp_path / "run"
    _launched(tmp_path, tiny(*options, f"train.save_dir={whole}"))
    process = _start(tmp_path, tiny(*options))
    waited = time.monotonic() + 200
    while not (run / "metrics.jsonl").exists() or (run / "metrics.jsonl").read_text().count("\n") < 5:
        assert process.poll() is None
        assert time.monotonic() < waited
        time.sleep(0.02)
    target = process.pid if whom == "the launcher" else _rank_of(process.pid, 1)
    os.kill(target, signal.SIGTERM)
    process.communicate(timeout=100)
    assert process.returncode != 0
    (checkpoint,) = (run / "checkpoints").glob("iter_*")
    stopped = int(checkpoint.name[5:])
    assert 5 <= stopped < iters
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["iter"] == stopped
    assert "--resume" in (run / "train.log").read_text().splitlines()[-1]
    _launched(tmp_path, [*tiny(*options), "--resume", str(run)])
    ours, theirs = _weights(run, iters), _weights(whole, iters)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    assert (run / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_a_student_of_two_ranks_learns_what_one_of_a_single_process_does(tiny, tmp_path):
    teacher = tmp_path / "teacher"
    assert main(["train", *tiny("train.iters=4", "model.dropout=0.0", f"train.save_dir={teacher}")]) == 0
    source = f"config: {teacher / 'config.yml'}, weights: {teacher}"
    taught = f"distillation={{{source}, weight: 0.7, temperature: 2.0, features: 5.0}}"
    runs = [tmp_path / name for name in ("one", "two", "alone")]
    assert main(["train", *tiny(*SAME, taught, "train.batch_size=4", f"train.save_dir={runs[0]}")]) == 0
    _launched(tmp_path, tiny(*SAME, taught, "train.batch_size=2", f"train.save_dir={runs[1]}"))
    _assert_close(*runs[:2])
    assert main(["train", *tiny(*SAME, "train.batch_size=4", f"train.save_dir={runs[2]}")]) == 0
    with pytest.raises(AssertionError):
        _assert_close(runs[0], runs[2])


def _rank_of(launcher, rank):
    for folder in os.listdir("/proc"):
        try:
            with open(f"/proc/{folder}/stat") as stat, open(f"/proc/{folder}/environ", "rb") as environ:
                parent, variables = int(stat.read().rpartition(")")[2].split()[1]), environ.read()
        except (OSError, ValueError):
            continue
        if parent == launcher and f"PADDLE_TRAINER_ID={rank}".encode() in variables.split(b"\0"):
            return int(folder)
    raise AssertionError("no such rank")


def test_a_process_alone_is_its_only_rank(monkeypatch):
    monkeypatch.delenv("PADDLE_TRAINERS_NUM", raising=False)
    assert launched() == (0, 1)
    assert ALONE.is_first
    assert ALONE.sum([1.5, 2.0]) == [1.5, 2.0]
    assert ALONE.gather("x") == ["x"]
    model = object()
    assert ALONE.wrap(model) is model


def test_validation_is_shared_out_over_the_ranks(tiny, tmp_path, monkeypatch):
    class Given(Exception):  # noqa: N818
        pass

    def validation(*arguments, ranks=ALONE, **more):
        raise Given(ranks.size)

    monkeypatch.setattr(stages, "Validation", validation)
    monkeypatch.setattr(Ranks, "wrap", lambda self, model, **more: model)
    tiny()  # writes the recipe
    config = load_config(tmp_path / "tiny.yml")
    train_set, val_set = (build_dataset(config, split) for split in ("train", "val"))
    (stage,) = stages.plan_stages(config, len(train_set), 2)
    teachers = Teachers(config.file, config.classes, config.data.normalize)
    shared = stages.Shared(tmp_path, train_set, val_set, [], None, teachers, False, Ranks(0, 2))
    with pytest.raises(Given, match="2"):
        stages.build_loop(stage, stages.build_network(config), shared, None, None)


def test_a_lost_connection_is_one_line_of_a_rank_alone():
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:576] Connection closed by peer")
    with pytest.raises(RunError, match="rank 1 of 2 has lost another rank"), stopping_together(Ranks(1, 2)):
        raise lost
    with pytest.raises(RuntimeError, match="gloo"), stopping_together(ALONE):
        raise lost
    with pytest.raises(RuntimeError, match="a bug"), stopping_together(Ranks(1, 2)):
        raise RuntimeError("a bug")
