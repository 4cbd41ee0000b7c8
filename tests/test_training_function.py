"""`paddlefcn.train`, `evaluate`: what a notebook calls is what the commands call."""

from __future__ import annotations

import json

import pytest
from PIL import Image

import paddlefcn
from paddlefcn.commands import main


def _weights(run):
    return (run / "checkpoints" / "iter_8" / "model.safetensors").read_bytes()


def test_a_script_that_calls_train_gives_the_bits_of_the_command(tiny, tmp_path):
    arguments = tiny()
    assert main(["train", *arguments]) == 0
    config = paddlefcn.load_config(arguments[1], [f"train.save_dir={tmp_path / 'script'}"])
    run = paddlefcn.train(config)
    assert (run.folder, run.exit_code) == (tmp_path / "script", 0)
    assert _weights(run.folder) == _weights(tmp_path / "run")
    assert (run.folder / "metrics.jsonl").read_bytes() == (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert run.scores is not None
    assert run.scores["iter"] == run.best_iteration
    again = paddlefcn.train(config, resume=True)
    assert (again.folder, again.scores, again.best_iteration) == (run.folder, run.scores, run.best_iteration)
    replaced = paddlefcn.train(config, overwrite=True)
    assert _weights(replaced.folder) == _weights(run.folder)


def test_evaluate_returns_what_val_writes(tiny, tmp_path):
    arguments = tiny("train.iters=2")
    assert main(["train", *arguments]) == 0
    config = paddlefcn.load_config(tmp_path / "run" / "config.yml")
    scores = paddlefcn.evaluate(config, tmp_path / "run")
    assert main(["val", "--weights", str(tmp_path / "run"), "--json", str(tmp_path / "s.json")]) == 0
    assert json.loads((tmp_path / "s.json").read_text()) == json.loads(json.dumps(scores))


@pytest.mark.parametrize("model", ["FCN8s", "FCN16s"])
def test_auxiliary_outputs_count_what_the_model_says_where_the_recipe_is_silent(tiny, capsys, model):
    options = (f"model.type={model}", "model.deep_supervision=true", "train.iters=1")
    assert main(["train", *tiny(*options)]) == 0
    weights = {"FCN8s": "1, 0.4, 0.4", "FCN16s": "1, 0.4"}[model]
    assert f"loss: CrossEntropy, outputs weighted {weights}" in capsys.readouterr().out


def test_a_main_output_without_weight_is_an_error_before_training(tiny, tmp_path, capsys):
    options = ("model.deep_supervision=true", "loss.0.weights=[0, 1, 0]")
    assert main(["train", *tiny(*options)]) == 2
    assert "the first weight is the main output's and must be above 0" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_val_and_oracle_leave_bad_images_out_where_the_recipe_says_so(tiny, tmp_path, capsys):
    config = tiny("train.iters=1")
    for number in range(4):
        for kind, value in (("image", 90), ("label", number % 3)):
            (tmp_path / "set" / kind).mkdir(parents=True, exist_ok=True)
            Image.new("L" if kind == "label" else "RGB", (32, 32), value).save(
                tmp_path / "set" / kind / f"{number}.png"
            )
    broken = tmp_path / "set" / "image" / "2.png"
    assert main(["train", *config]) == 0
    lines = "".join(f"image/{n}.png label/{n}.png\n" for n in range(4))
    (tmp_path / "set" / "val.txt").write_text(lines)
    names = "[background, disk, square, triangle, striped, dotted]"
    norm = "{scale: 255, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}"
    data = (
        f"{{type: ListFile, root: {tmp_path / 'set'}, classes: {names}, normalize: {norm}, num_workers: 0}}"
    )
    broken.write_bytes(broken.read_bytes()[:40])
    for command in (["val", "--weights", str(tmp_path / "run")], ["oracle", "-c", config[1]]):
        assert main([*command, "-o", f"data={data}"]) == 2
        capsys.readouterr()
        assert main([*command, "-o", f"data={data}", "data.on_bad_image=skip"]) == 1
        output = capsys.readouterr().out
        assert f"left out: image {broken}" in output
        assert "3 images" in output or "3 masks" in output


def test_weights_that_do_not_fit_name_the_keys_in_which_their_own_recipe_differs(tiny, tmp_path, capsys):
    arguments = tiny("train.iters=1")
    assert main(["train", *arguments]) == 0
    capsys.readouterr()
    for option, said in [
        ("model.backbone.width=3", "another width than the config's"),
        ("model.fc_channels=9", "model.fc_channels: 8, here 9"),
    ]:
        assert main(["val", "-c", arguments[1], "--weights", str(tmp_path / "run"), "-o", option]) == 2
        line = capsys.readouterr().err
        assert said in line
        assert "other classes" not in line
        assert f"{option.split('=')[0]}: " in line
        assert f"{tmp_path / 'run' / 'config.yml'} has " in line
