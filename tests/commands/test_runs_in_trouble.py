"""Runs in trouble: broken images, killed workers, full disks, signals. One clear line, nothing lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import spoil_losses
from PIL import Image
from safetensors.numpy import load_file

from paddlefcn.commands import main
from paddlefcn.data.shapes import Shapes
from paddlefcn.engine.loop import Loop
from paddlefcn.engine.progress import TrainingProgress
from paddlefcn.engine.step import TrainStep

is_root = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def pictures(tiny, tmp_path):
    """Six pairs in files; `pictures("key=value", …)` gives the arguments for a training on them."""
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for number in range(6):
        image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "set" / "images" / f"p{number}.png")
        Image.fromarray(image[:, :, 0] % 6).save(tmp_path / "set" / "labels" / f"p{number}.png")
    names = [f"images/p{number}.png\tlabels/p{number}.png\n" for number in range(6)]
    (tmp_path / "set" / "train.txt").write_text("".join(names[:4]))
    (tmp_path / "set" / "val.txt").write_text("".join(names[4:]))
    recipe = tmp_path / "tiny.yml"
    text = re.sub(r"type: Shapes\n  size.*\n.*\n.*\n", "type: ListFile\n", recipe.read_text())
    recipe.write_text(text.replace("data:\n", f"data:\n  root: {tmp_path / 'set'}\n"))
    return tiny


def last_line(capsys) -> str:
    """The error's line, which must be the only one of its kind and without a traceback."""
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, errors
    return lines[0]


def whole(tmp_path) -> list[str]:
    """The complete checkpoints of the run; none is damaged."""
    from paddlefcn.files import damage

    folders = [path for path in (tmp_path / "run" / "checkpoints").iterdir() if path.is_dir()]
    assert [damage(path) for path in folders] == [None] * len(folders)
    return sorted(path.name for path in folders)


@pytest.fixture
def at_iteration(monkeypatch):
    """`at_iteration(n, act)`: does something when the run asks for the batch of iteration n."""

    def arrange(iteration, act):
        asked = []
        waited = TrainingProgress.waited

        def wait(self, batches):
            asked.append(1)
            if len(asked) == iteration:
                act()
            return waited(self, batches)

        monkeypatch.setattr(TrainingProgress, "waited", wait)

    return arrange


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("how", ["vanished", "truncated"])
def test_an_image_that_breaks_in_mid_training_is_named(
    pictures, tmp_path, capsys, at_iteration, workers, how
):
    path = tmp_path / "set" / "images" / "p2.png"
    content = path.read_bytes()
    at_iteration(3, path.unlink if how == "vanished" else lambda: path.write_bytes(content[:800]))
    options = pictures(f"data.num_workers={workers}", "train.save_iters=1", "train.iters=16")
    assert main(["train", *options]) == 2
    line = last_line(capsys)
    assert str(path) in line
    assert "--resume" in line
    assert whole(tmp_path)
    path.write_bytes(content)  # mended: the run goes on
    assert main(["train", *options, "--resume"]) == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_images_are_skipped_and_counted_where_the_config_says_so(pictures, tmp_path, capsys, workers):
    for name in ("p1", "p5"):  # one of the training split, one of the validation split
        path = tmp_path / "set" / "images" / f"{name}.png"
        path.write_bytes(path.read_bytes()[:500])
    options = pictures("data.on_bad_image=skip", f"data.num_workers={workers}")
    assert main(["train", *options]) == 0
    output = capsys.readouterr().out
    assert "2 bad images left out" in output
    assert str(tmp_path / "set" / "images" / "p1.png") in output
    assert str(tmp_path / "set" / "images" / "p5.png") in output


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_stops_the_run_before_it_starts_where_it_can_be_seen(pictures, tmp_path, capsys, workers):
    path = tmp_path / "set" / "images" / "p1.png"
    path.write_bytes(path.read_bytes()[:500])
    assert main(["train", *pictures(f"data.num_workers={workers}")]) == 2
    assert str(path) in last_line(capsys)
    assert not (tmp_path / "run").exists()


def test_a_killed_worker_is_one_line(tiny, tmp_path, capsys, at_iteration):
    def kill():
        for process in multiprocessing.active_children():
            process.kill()

    at_iteration(3, kill)
    assert main(["train", *tiny("data.num_workers=1", "train.save_iters=1", "train.iters=40")]) == 1
    line = last_line(capsys)
    assert "a data worker died (by signal 9)" in line
    assert "--resume" in line
    assert "iter_2" in whole(tmp_path)


def test_a_data_set_that_fails_by_its_own_bug_is_one_line(tiny, capsys, monkeypatch):
    def fail(self, index, channels, labels):
        return 1 / 0

    monkeypatch.setattr("paddlefcn.training.run.quick_look", lambda *arguments, **more: [])
    monkeypatch.setattr(Shapes, "read_raw", fail)
    assert main(["train", *tiny("data.num_workers=0")]) == 1
    assert "reading train_00000 failed: ZeroDivisionError: division by zero" in last_line(capsys)


def nan_at(monkeypatch, *calls):
    """The training losses of these calls are not a number."""
    spoil_losses(monkeypatch, calls, lambda loss: loss * float("nan"))


def test_steps_without_a_finite_loss_are_left_out_and_spoil_nothing(tiny, tmp_path, capsys, monkeypatch):
    nan_at(monkeypatch, 3)
    before = {}
    step = TrainStep.__call__

    def look(self, *arguments):
        before.update({name: value.numpy() for name, value in self.model.state_dict().items()})
        result = step(self, *arguments)
        if not result.is_finite:
            for name, value in self.model.state_dict().items():  # BatchNorm's statistics among them
                np.testing.assert_array_equal(before[name], value.numpy(), err_msg=name)
        return result

    monkeypatch.setattr(TrainStep, "__call__", look)
    assert main(["train", *tiny("train.on_nan=skip 1")]) == 0
    assert any(name.endswith("_mean") for name in before)
    output = capsys.readouterr().out
    assert re.search(
        r"loss is nan at iteration 3 \(.*batch: train_.*step left out \(1 of 1 allowed\)", output
    )
    assert "1 steps left out" in output
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [record["iter"] for record in records if record.get("loss", 0) is None] == [3]


def test_an_evaluation_that_fails_loses_no_iteration(tiny, tmp_path, capsys, monkeypatch):
    def fail(self, model, check):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("paddlefcn.engine.validation.Validation.__call__", fail)
        assert main(["train", *tiny("train.eval_iters=3", "train.save_iters=100")]) == 1
    assert whole(tmp_path) == ["iter_3"]
    capsys.readouterr()
    assert main(["train", *tiny("train.eval_iters=3", "train.save_iters=100"), "--resume"]) == 0
    assert "going on from" in capsys.readouterr().out
    evaluated = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [record["iter"] for record in evaluated if "mean_iou" in record] == [3, 6, 8]


def test_more_of_them_than_allowed_stop_the_run(tiny, tmp_path, capsys, monkeypatch):
    nan_at(monkeypatch, 3, 6)
    assert main(["train", *tiny("train.on_nan=skip 1")]) == 1
    line = last_line(capsys)
    assert "loss is nan at iteration 6 (learning rate" in line
    assert f"last good checkpoint: {tmp_path / 'run' / 'checkpoints' / 'iter_5'}" in line
    assert whole(tmp_path) == ["iter_2", "iter_4", "iter_5"]


def test_weights_that_are_not_finite_are_never_a_checkpoint(tiny, tmp_path, capsys):
    wild = ["schedule.learning_rate=1e39", "schedule.warmup_iters=0", "train.save_iters=1"]
    assert main(["train", *tiny(*wild)]) == 1
    assert re.search(r"error: \S+ is not finite after iteration 1", last_line(capsys))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_what_cannot_be_built_leaves_an_earlier_run_and_the_folder_alone(tiny, tmp_path, capsys):
    wrong = "model.backbone.pretrained=/no/such/file.pdparams"
    assert main(["train", *tiny(wrong)]) == 2
    assert not (tmp_path / "run").exists()
    assert main(["train", *tiny("train.iters=1")]) == 0
    capsys.readouterr()
    assert main(["train", *tiny("train.iters=1", wrong), "--overwrite"]) == 2
    assert "/no/such/file.pdparams" in last_line(capsys)
    assert whole(tmp_path) == ["iter_1"]


def test_a_run_stopped_before_its_last_evaluation_learns_its_score(tiny, tmp_path, monkeypatch):
    """What a signal during the last iteration leaves: a checkpoint that was not evaluated."""
    assert main(["train", *tiny()]) == 0
    run = tmp_path / "run"
    reference = {path.name: path.read_bytes() for path in (run / "checkpoints" / "iter_8").iterdir()}
    best, metrics = (run / "best" / "state.json").read_bytes(), (run / "metrics.jsonl").read_bytes()
    shutil.rmtree(run / "checkpoints" / "iter_8")
    with monkeypatch.context() as patch:
        real = Loop._evaluate

        def interrupted(self, interrupts):
            if self.state.iteration == 8:
                interrupts.code = 130
                return
            real(self, interrupts)

        patch.setattr(Loop, "_evaluate", interrupted)
        assert main(["train", *tiny(), "--resume"]) == 130
    assert json.loads((run / "checkpoints" / "iter_8" / "state.json").read_text())["evaluated"] == 4
    assert main(["train", *tiny(), "--resume"]) == 0
    assert {path.name: path.read_bytes() for path in (run / "checkpoints" / "iter_8").iterdir()} == reference
    assert (run / "best" / "state.json").read_bytes() == best
    assert (run / "metrics.jsonl").read_bytes() == metrics


def test_curves_that_a_kill_prevented_are_drawn_by_resume(tiny, tmp_path, capsys):
    assert main(["train", *tiny("train.iters=1")]) == 0
    (tmp_path / "run" / "curves.png").unlink()
    assert main(["train", *tiny("train.iters=1"), "--resume"]) == 0
    assert "is finished" in capsys.readouterr().out
    assert (tmp_path / "run" / "curves.png").exists()


def test_resume_takes_a_folder_that_a_kill_left_without_a_config(tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text("")
    (tmp_path / "run" / ".config.yml.12.partial").write_text("da")
    assert main(["train", *tiny("train.iters=1"), "--resume", str(tmp_path / "run")]) == 0
    assert whole(tmp_path) == ["iter_1"]
    assert not (tmp_path / "run" / ".config.yml.12.partial").exists()


def resumed_elsewhere(run, tmp_path, tiny, options):
    """The run of a full disk, copied to one with room and resumed there: its files."""
    shutil.copytree(run, tmp_path / "run")
    assert main(["train", *tiny(*options), "--resume"]) == 0
    return load_file(tmp_path / "run" / "checkpoints" / "iter_8" / "model.safetensors")


@pytest.mark.parametrize("kilobytes", [180, 260])
def test_a_full_disk_is_one_line_and_loses_no_checkpoint(tiny, tmp_path, capsys, disk, kilobytes):
    # previews grow until the disk is full; the sizes make it happen at different files
    options = ["data.size=[96, 96]", "train.save_iters=1", "train.eval_iters=1", "train.previews=4"]
    folder = disk(kilobytes)
    assert main(["train", *tiny(*options), f"train.save_dir={folder / 'run'}"]) == 1
    line = last_line(capsys)
    assert "No space left on device" in line
    assert str(folder / "run") in line
    assert main(["train", *tiny(*options)]) == 0
    expected = load_file(tmp_path / "run" / "checkpoints" / "iter_8" / "model.safetensors")
    shutil.rmtree(tmp_path / "run")
    found = resumed_elsewhere(folder / "run", tmp_path, tiny, options)
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)


def test_a_full_disk_cannot_hang_the_visualdl_log(tmp_path, monkeypatch):
    from paddlefcn.engine.records import Records
    from paddlefcn.errors import RunError

    records = Records(tmp_path, upto=0, evaluated=False, log_iters=1)
    log = records._vdl._records._stream

    class Full:
        name = log.name

        def write(self, content):
            raise OSError(28, "No space left on device")

        def close(self):
            log.close()

    records._vdl._records._stream = Full()
    for iteration in range(1, 400):  # more than VisualDL's own queue holds
        with pytest.raises(RunError, match=r"vdlrecords.run.log failed: No space left on device"):
            records.write({"iter": iteration, "loss": 0.5, "learning_rate": 0.1})
    records.close()


def test_the_visualdl_log_can_be_read_while_the_run_goes_on(tmp_path):
    from visualdl import LogReader

    from paddlefcn.engine.records import Records

    records = Records(tmp_path, upto=0, evaluated=False, log_iters=1)
    records.write({"iter": 1, "loss": 0.5, "learning_rate": 0.1})
    (path,) = (tmp_path / "vdl").iterdir()
    points = LogReader(file_path=str(path)).get_data("scalar", "loss/train")
    assert [(point.id, point.value) for point in points] == [(1, 0.5)]
    records.close()


def test_a_folder_that_may_not_be_written_is_one_line(tiny, tmp_path, capsys, disk):
    if is_root:
        folder = disk(100)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    else:
        folder = tmp_path / "closed"
        folder.mkdir(mode=0o555)
    assert main(["train", *tiny(f"train.save_dir={folder / 'run'}")]) == 2
    assert re.search(rf"cannot write to run folder {folder}/run: (Read-only|Permission)", last_line(capsys))


TWO_SIGNALS = """
import os, signal, time
from paddlefcn.engine.interrupt import Interrupts
with Interrupts() as interrupts:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)
    print(interrupts.code, flush=True)
    os.kill(os.getpid(), signal.{second})
    time.sleep(5)
print("still here")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("second", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_second_signal_stops_at_once(repo, second, code):
    command = [sys.executable, "-c", TWO_SIGNALS.replace("{second}", second)]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (code, "130\n")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_two_signals_in_a_row_lose_nothing(tiny, tmp_path, repo, workers):
    """The second one comes while the first one's checkpoint is being written, or about then."""
    options = [f"data.num_workers={workers}", "train.iters=30"]
    assert main(["train", *tiny(*options)]) == 0
    metrics = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    weights = load_file(tmp_path / "run" / "checkpoints" / "iter_30" / "model.safetensors")
    shutil.rmtree(tmp_path / "run")
    command = [sys.executable, "tools/train.py", *tiny(*options)]
    process = subprocess.Popen(command, cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("iter 2/"):
            break
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert main(["train", *tiny(*options), "--resume"]) == 0
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == metrics
    again = load_file(tmp_path / "run" / "checkpoints" / "iter_30" / "model.safetensors")
    for name, value in weights.items():
        np.testing.assert_array_equal(value, again[name], err_msg=name)


@pytest.mark.slow
def test_two_runs_started_at_once_take_two_folders(tiny, tmp_path, repo):
    command = [sys.executable, "tools/train.py", *tiny("train.iters=2")]
    both = [subprocess.Popen(command, cwd=repo, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("holds a run already" in output for output in outputs) == 1
    for name in ("run", "run-2"):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["iter"] for line in lines] == [1, 2, 2]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_runs_end_as_if_nobody_had_killed_them(repo):
    command = [sys.executable, "tests/kill_runs.py", "--kills", "5", "--workers", "0", "1"]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 kills, 0 runs that did not end" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_runs_of_drawn_recipes_end_as_if_nobody_had_killed_them(repo):
    command = [sys.executable, "tests/kill_runs.py", "--drawn", "5", "--kills", "2"]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 kills, 0 runs that did not end" in done.stdout
