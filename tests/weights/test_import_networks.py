"""Whole networks of torchvision and PaddleSeg as a user brings them: imported, verified, fine-tuned."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from paddlefcn.commands import main
from paddlefcn.weights import read_metadata, read_state, save_state

GOLDENS = Path(__file__).parents[1] / "goldens"
sys.path.insert(0, str(GOLDENS))
from synthetic import fill  # noqa: E402

RECIPE = """
data:
  type: Shapes
  size: [64, 64]
  train_images: 8
  val_images: 2
  classes: [background, disk, square, triangle, striped, dotted]
  normalize: {normalize}
  num_workers: 0
model: {model}
loss: [{{type: CrossEntropy}}]
optimizer: {{type: Momentum}}
schedule: {{type: Constant, learning_rate: 0.01}}
train: {{iters: 2, batch_size: 2, eval_iters: 2, save_iters: 2, previews: 0, save_dir: {folder}}}
"""


@pytest.fixture
def theirs(tmp_path):
    def write(name):
        with np.load(GOLDENS / "networks" / f"{name}.npz") as file:
            shapes = json.loads(str(file["config"]))["shapes"]
        save_state(
            {key: fill(key, tuple(shape)) for key, shape in shapes.items()}, tmp_path / "t.safetensors"
        )
        return tmp_path / "t.safetensors"

    return write


def imported(theirs, name, folder, capsys, *more):
    out = folder / "ours.safetensors"
    code = main(["import-weights", "--input", str(theirs(name)), "--output", str(out), *more])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return out, printed.out


def recipe(folder, section, normalize):
    text = RECIPE.format(model=json.dumps(section), normalize=json.dumps(normalize), folder=folder / "run")
    (folder / "recipe.yml").write_text(text)
    return str(folder / "recipe.yml")


HALF = {"scale": 255.0, "mean": [0.5] * 3, "std": [0.5] * 3, "order": "RGB"}


@pytest.mark.parametrize(
    ("name", "library", "assumed"),
    [
        ("deeplabv3_resnet50", "torchvision", "output_stride 8, ASPP rates 12, 24, 36"),
        (
            "paddleseg_deeplabv3p_resnet50",
            "paddleseg",
            "output_stride 8, ASPP rates 6, 12, 18, mean and std 0.5",
        ),
    ],
)
def test_what_a_file_cannot_say_is_printed_and_kept(name, library, assumed, theirs, tmp_path, capsys):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "i.png")
    out, printed = imported(
        theirs, name, tmp_path, capsys, "--format", library, "--verify", str(tmp_path / "i.png")
    )
    assert f"({library}'s defaults): {assumed}" in printed
    metadata = read_metadata(out)
    assert metadata["paddlefcn.assumed"].startswith(assumed)
    section = json.loads(metadata["paddlefcn.model"])
    assert section["backbone"]["output_stride"] == 8
    assert Image.open(out.with_suffix(".png")).size == (30, 20)
    (line,) = [line for line in printed.splitlines() if line.startswith("  model: ")]
    assert yaml.safe_load(line)["model"] == {**section, "pretrained": str(out)}


def test_what_smp_networks_assume_and_how_they_differ_goes_along(theirs, tmp_path, capsys):
    out, printed = imported(theirs, "smp_pspnet_resnet18", tmp_path, capsys, "--format", "smp")
    assert "(smp's defaults): images normalised as its ImageNet encoders'" in printed
    section = json.loads(read_metadata(out)["paddlefcn.model"])
    assert section["type"] == "PSPNet"
    assert section["deepest"] == "layer2"
    assert not section["mean_norm"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder.blocks.0.attention1.weight": [3]}, "attention1.weight has no place"),
        ({"decoder.blocks.4.conv2.0.weight": None}, "another depth than 5"),
        ({"encoder.layer1.0.conv1.weight": None}, "its encoder is no ResNet"),
        ({"decoder.blocks.0.conv1.0.weight": None}, "none of Unet, UnetPlusPlus, PSPNet and DeepLabV3Plus"),
    ],
)
def test_an_smp_network_that_is_not_here_is_refused_in_one_line(change, message, theirs, tmp_path, capsys):
    state = read_state(theirs("smp_unet_resnet18"))
    for name, shape in change.items():
        state.pop(name, None)
        if shape:
            state[name] = fill(name, tuple(shape))
    save_state(state, tmp_path / "odd.safetensors")
    command = ["import-weights", "--input", str(tmp_path / "odd.safetensors"), "--output"]
    assert main([*command, str(tmp_path / "o.safetensors")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_imported_model_is_fine_tuned_to_other_classes_in_one_command(theirs, tmp_path, capsys):
    out, _ = imported(theirs, "paddleseg_deeplabv3p_resnet50", tmp_path, capsys)
    section = {**json.loads(read_metadata(out)["paddlefcn.model"]), "pretrained": str(out)}
    assert main(["train", "-c", recipe(tmp_path, section, HALF), "--device", "cpu"]) == 0
    # five classes there, six here: two tensors start anew, and screen and log say so and why
    for text in (capsys.readouterr().out, (tmp_path / "run" / "train.log").read_text()):
        assert "file [5, 16, 1, 1], network [6, 16, 1, 1]: other classes, made anew" in text
        assert "2 new" in text
    trained = read_state(tmp_path / "run" / "best" / "model.safetensors")
    assert trained["score.weight"].shape[0] == 6
    change = np.abs(trained["backbone.conv1.0.weight"] - read_state(out)["backbone.conv1.0.weight"]).max()
    assert 0 < change < 0.5


def test_a_library_file_goes_into_a_recipe_as_it_is(theirs, tmp_path, capsys):
    file = theirs("fcn_resnet50")
    section = {
        "type": "FCNHead",
        "backbone": {"type": "ResNet50", "width": 4, "stride_at": "3x3"},
        "pretrained": str(file),
    }
    imagenet = {"scale": 255.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "order": "RGB"}
    assert main(["train", "-c", recipe(tmp_path, section, imagenet), "--device", "cpu"]) == 0
    assert "4 new" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"type": "FCNHead", "backbone": {"type": "ResNet50", "width": 4}},
            "has model.backbone.stride_at: 3x3, the recipe 1x1; set model.backbone.stride_at: 3x3",
        ),
        (
            {"type": "FCNHead", "backbone": {"type": "ResNet101", "width": 4, "stride_at": "3x3"}},
            "is missing",
        ),
    ],
)
def test_a_network_that_computes_otherwise_is_refused_with_the_fix(
    section, message, theirs, tmp_path, capsys
):
    section["pretrained"] = str(theirs("fcn_resnet50"))
    imagenet = {"scale": 255.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "order": "RGB"}
    assert main(["train", "-c", recipe(tmp_path, section, imagenet), "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err


def test_images_normalised_otherwise_are_an_error_that_shows_both(theirs, tmp_path, capsys):
    section = {"type": "FCNHead", "backbone": {"type": "ResNet50", "width": 4, "stride_at": "3x3"}}
    section["pretrained"] = str(theirs("fcn_resnet50"))
    assert main(["train", "-c", recipe(tmp_path, section, HALF), "--device", "cpu"]) == 2
    message = capsys.readouterr().err
    assert "0.485" in message
    assert "0.5" in message
