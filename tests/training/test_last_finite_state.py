"""What stops a run late loses no iteration: it leaves its last finite state, and a resume goes on there."""

from __future__ import annotations

import json

import numpy as np
import paddle
import pytest
from conftest import TINY, spoil_losses
from safetensors.numpy import load_file

from paddlefcn.commands import main
from paddlefcn.engine.progress import TrainingProgress
from paddlefcn.errors import DataError
from paddlefcn.files import damage

# one checkpoint at the end alone; averaged weights and momenta belong to the state
LATE = (
    "train.iters=7",
    "train.eval_iters=100",
    "train.save_iters=100",
    "train.ema_decay=0.5",
    "train.previews=0",
)


def infinite_slope(value):
    """The same value; its gradient is not a number."""
    return value + 0 * paddle.sqrt(value - value.detach())


def state_of(folder):
    """Every array of a checkpoint, and its counts."""
    with np.load(folder / "training.npz") as training:
        arrays = {name: training[name].tobytes() for name in training.files}
    weights = {name: value.tobytes() for name, value in load_file(folder / "model.safetensors").items()}
    return {**arrays, **weights}, json.loads((folder / "state.json").read_text())


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The checkpoints of iterations 5 and 7 of a run that nothing stopped."""
    place = tmp_path_factory.mktemp("reference")
    (place / "tiny.yml").write_text(TINY)
    options = [*LATE, "train.save_iters=5", f"train.save_dir={place / 'run'}"]
    assert main(["train", "-c", str(place / "tiny.yml"), "-o", *options]) == 0
    return {number: state_of(place / "run" / "checkpoints" / f"iter_{number}") for number in (5, 7)}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda value: value * float("nan"), "loss is nan at iteration 6"),
        (lambda value: value * float("inf"), "loss is inf at iteration 6"),
        (infinite_slope, "a gradient is not finite at iteration 6"),
    ],
    ids=["nan", "inf", "gradient"],
)
def test_what_is_not_finite_late_leaves_the_iteration_before_and_the_resume_ends_as_if_it_had_not_been(
    reference, tiny, tmp_path, capsys, monkeypatch, how, words
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        spoil_losses(patch, (6,), how)
        assert main(["train", *tiny(*LATE)]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert f"last good checkpoint: {run / 'checkpoints' / 'iter_5'}" in error
    assert damage(run / "checkpoints" / "iter_5") is None
    assert state_of(run / "checkpoints" / "iter_5") == reference[5]
    # on_nan may change on purpose: without it, a run could not get past such a batch
    assert main(["train", *tiny(*LATE, "train.on_nan=skip 1"), "--resume"]) == 0
    assert state_of(run / "checkpoints" / "iter_7") == reference[7]
    lines = [json.loads(line)["iter"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines == [1, 2, 3, 4, 5, 6, 7, 7]


def test_a_batch_that_cannot_be_read_late_loses_no_iteration(reference, tiny, tmp_path, monkeypatch):
    asked = []
    waited = TrainingProgress.waited

    def wait(self, batches):
        asked.append(1)
        if len(asked) == 6:
            raise DataError("image x.png: is truncated")
        return waited(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "waited", wait)
        assert main(["train", *tiny(*LATE)]) == 2
    assert state_of(tmp_path / "run" / "checkpoints" / "iter_5") == reference[5]


def test_weights_that_an_update_spoils_point_at_the_newest_finite_checkpoint(
    tiny, tmp_path, capsys, monkeypatch
):
    real = paddle.optimizer.Momentum.step
    steps = []

    def step(self):
        real(self)
        steps.append(1)
        if len(steps) == 6:
            first = self._parameter_list[0]
            weight = first["params"][0] if isinstance(first, dict) else first
            weight.set_value(weight.numpy() * np.inf)

    monkeypatch.setattr(paddle.optimizer.Momentum, "step", step)
    assert main(["train", *tiny(*LATE, "train.save_iters=4")]) == 1
    error = capsys.readouterr().err
    assert "is not finite after iteration 6" in error
    assert f"last good checkpoint: {tmp_path / 'run' / 'checkpoints' / 'iter_4'}" in error
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("iter_*")] == ["iter_4"]
