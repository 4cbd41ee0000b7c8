"""Which runs train on the accelerator, and that they go on as they began."""

from __future__ import annotations

import json
import shutil

import pytest

from paddlefcn.accelerator import AcceleratorError, building
from paddlefcn.commands import main
from paddlefcn.errors import ConfigError
from paddlefcn.training import acceleration
from paddlefcn.training.acceleration import choose_accelerator


@pytest.fixture
def machine(monkeypatch):
    """A machine that has the accelerator or not; what was asked of it."""

    class Machine:
        has_it = True

    def accelerator_for(setting, device, say):
        if setting is False or device != "cpu":
            return False, []
        if not Machine.has_it:
            if setting is True:
                raise AcceleratorError("accelerator: no compiler")
            return False, ["going on without"]
        return True, []

    monkeypatch.setattr(acceleration, "accelerator_for", accelerator_for)
    return Machine


def _began(folder, **record):
    (folder / "environment.json").write_text(json.dumps(record))
    return folder


def test_a_new_run_does_what_the_recipe_says(machine):
    assert [choose_accelerator(setting, "cpu", None)[0] for setting in ("auto", True, False)] == [
        True,
        True,
        False,
    ]
    machine.has_it = False
    assert choose_accelerator("auto", "cpu", None) == (False, ["going on without"])


def test_a_run_goes_on_as_it_began(machine, tmp_path):
    assert choose_accelerator("auto", "cpu", _began(tmp_path, cpu_accelerator=False)) == (False, [])
    assert choose_accelerator("auto", "cpu", _began(tmp_path, cpu_accelerator=True)) == (True, [])
    machine.has_it = False
    with pytest.raises(AcceleratorError, match="was started with the accelerator"):
        choose_accelerator("auto", "cpu", tmp_path)


def test_a_run_from_before_the_accelerator_goes_on_without(machine, tmp_path):
    assert choose_accelerator("auto", "cpu", _began(tmp_path, paddle="3.3.1")) == (False, [])


def test_a_run_that_wrote_nothing_yet_starts_as_the_recipe_says(machine, tmp_path):
    assert choose_accelerator("auto", "cpu", tmp_path) == (True, [])


@pytest.mark.parametrize("began", [True, False])
def test_a_recipe_that_contradicts_the_run_is_refused(machine, tmp_path, began):
    with pytest.raises(ConfigError, match=r"runtime\.cpu_accelerator: .* resume with auto"):
        choose_accelerator(not began, "cpu", _began(tmp_path, cpu_accelerator=began))


def test_true_on_a_machine_without_leaves_no_folder_behind(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(building, "_paddle_version", lambda package: "2.6.2")
    assert main(["train", *tiny("runtime.cpu_accelerator=true")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: accelerator: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["maybe", "1", "[true]"])
def test_other_values_are_errors_of_the_recipe(tiny, capsys, value):
    assert main(["train", *tiny(f"runtime.cpu_accelerator={value}")]) == 2
    assert "runtime.cpu_accelerator" in capsys.readouterr().err


def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(tiny, tmp_path, kernels):
    run = tmp_path / "run"
    assert main(["train", *tiny("runtime.cpu_accelerator=true")]) == 0
    last = run / "checkpoints" / "iter_8" / "model.safetensors"
    whole, metrics = last.read_bytes(), (run / "metrics.jsonl").read_bytes()
    for iteration in (6, 8):
        shutil.rmtree(run / "checkpoints" / f"iter_{iteration}")
    assert main(["train", *tiny("runtime.cpu_accelerator=auto"), "--resume"]) == 0
    assert last.read_bytes() == whole
    assert (run / "metrics.jsonl").read_bytes() == metrics
    assert json.loads((run / "environment.json").read_text())["cpu_accelerator"] is True
    assert "on the accelerator" in (run / "train.log").read_text()


@pytest.mark.parametrize("options", [["train.recompute=true"], ["train.precision=bf16"]], ids=str)
def test_options_that_change_the_step_train_on_the_kernels_too(tiny, tmp_path, kernels, options, capsys):
    losses = []
    for setting in ("false", "true"):
        folder = tmp_path / setting
        plain = options if setting == "true" else []
        width = "model.backbone.width=16"
        on = [f"runtime.cpu_accelerator={setting}", f"train.save_dir={folder}", "train.iters=4", width]
        assert main(["train", *tiny(*on, "model.dropout=0.0", *plain)]) == 0
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if "loss" in line])
    log = (tmp_path / "true" / "train.log").read_text()
    if options == ["train.precision=bf16"]:
        if not kernels.says("fcn_bfloat_is_fast"):
            assert "a CPU computes in fp32" in log
            return
        assert "bf16 in the convolutions, on the accelerator" in log
        assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.05 if "bf16" in options[0] else 1e-4)
