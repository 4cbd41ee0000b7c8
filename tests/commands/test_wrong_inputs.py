"""Wrong inputs on purpose: each one gives one readable line, exit code 2 and no traceback."""

from __future__ import annotations

import re
import shutil

import pytest
from PIL import Image

from paddlefcn.commands import main
from paddlefcn.data.checks import quick_look
from paddlefcn.data.datasets import VOC, LabelReader, ListFile, SegmentationDataset
from paddlefcn.errors import DataError

# option -> what the line must say
OPTIONS = {
    "datta.type=VOC": "unknown key 'datta'; did you mean 'data'?",
    "data.clases=[a, b]": "data: Shapes takes no 'clases'; did you mean 'classes'?",
    "data.normalize.means=[0]": "data.normalize: unknown key 'means'; did you mean 'mean'?",
    "data.train_transforms.1.sizes=3": "RandomCrop takes no 'sizes'; did you mean 'size'?",
    "model.backone=VGG16": "model: FCN8s takes no 'backone'; did you mean 'backbone'?",
    "model.backbone.pretraind=x": "model.backbone: VGG takes no 'pretraind'; did you mean 'pretrained'?",
    "loss.0.weigths=[1]": "loss.0: CrossEntropy takes no 'weigths'; did you mean 'weights'?",
    "optimizer.momentun=0.9": "optimizer: Momentum takes no 'momentun'; did you mean 'momentum'?",
    "schedule.pwoer=1": "schedule: Poly takes no 'pwoer'; did you mean 'power'?",
    "train.batchsize=2": "train: unknown key 'batchsize'; did you mean 'batch_size'?",
    "model.type=FCN8": "model.type: unknown 'FCN8'; did you mean 'FCN8s'?",
    "data.color_table=[[1, 2]]": "color_table: expected [red, green, blue] of 0..255, got [1, 2]",
    "optimizer.weight_decay=-1": "optimizer: weight_decay -1: expected 0 or more",
    "optimizer.head_lr_factor=.nan": "optimizer.head_lr_factor: expected finite numbers, got a number nan",
    "model.fc_channels=100000000000": "fc_channels: got 100000000000, expected 1 to 65536",
    "model.backbone.width=1000000": "widths: got [1000000, ",
    "train.iters.x=1": "train.iters is an integer 8, it has no key 'x'",
    "loss.7.type=Dice": "loss is a list of 1; no item '7'",
}


def one_line(capsys) -> str:
    errors = capsys.readouterr().err
    lines = errors.splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("option", OPTIONS)
def test_a_wrong_option_is_one_line_with_its_place(tiny, tmp_path, capsys, option):
    assert main(["train", *tiny(option)]) == 2
    assert OPTIONS[option] in one_line(capsys)
    assert not (tmp_path / "run").exists()


def test_a_weight_decay_without_a_point_is_a_number_too(tiny):
    assert main(["train", *tiny("optimizer.weight_decay=0", "train.iters=1")]) == 0
    assert main(["train", *tiny("optimizer.weight_decay=1", "train.iters=1")]) == 0


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An export of a tiny network."""
    from conftest import TINY

    folder = tmp_path_factory.mktemp("exported")
    (folder / "tiny.yml").write_text(TINY)
    recipe = ["-c", str(folder / "tiny.yml")]
    assert main(["train", *recipe, "-o", f"train.save_dir={folder / 'run'}", "train.iters=1"]) == 0
    weights = ["--weights", str(folder / "run")]
    assert main(["export", *recipe, *weights, "--output", str(folder / "export")]) == 0
    return folder / "export"


def spoil_weights(folder):
    path = folder / "model.pdiparams"
    path.write_bytes(b"\xff" * path.stat().st_size)


def spoil_program(folder):
    (path,) = [path for path in folder.glob("model.*") if path.suffix != ".pdiparams"]
    path.write_bytes(b"x" * path.stat().st_size)


def spoil_numbers(folder):
    path = folder / "deploy.yaml"
    path.write_text(path.read_text().replace("scale: 255.0", "scale: abc"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_weights, r"model.pdiparams is not the file that deploy.yaml was written for; copy or export"),
        (spoil_program, r"model\.(json|pdmodel) is not the file that deploy.yaml was written for"),
        (spoil_numbers, r"deploy.yaml: is not as export writes it .*export again"),
        (lambda folder: (folder / "model.pdiparams").unlink(), r"model.pdiparams is missing; copy the whole"),
        (lambda folder: (folder / "deploy.yaml").write_text("a: ["), r"deploy.yaml: line 1 not valid YAML"),
        (lambda folder: (folder / "deploy.yaml").write_text("a: &a [*a]"), r"deploy.yaml: "),
    ],
)
def test_a_spoilt_export_is_one_line(exported, tmp_path, capsys, spoil, said):
    folder = tmp_path / "export"
    shutil.copytree(exported, folder)
    (folder / "deploy.yaml.sha256").unlink()  # with it, every change of deploy.yaml has the same answer
    spoil(folder)
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    paths = ["--input", str(tmp_path / "image.png"), "--output", str(tmp_path / "out")]
    assert main(["infer", "--model", str(folder), *paths]) == 2
    assert re.search(said, one_line(capsys))


def test_a_place_that_cannot_be_is_the_users_to_mend(exported, tiny, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    recipe = ["-c", str(exported.parent / "tiny.yml"), "--weights", str(exported.parent / "run")]
    assert main(["val", *recipe, "--json", str(tmp_path / "file" / "x.json")]) == 2
    assert "cannot write" in one_line(capsys)
    assert main(["export", *recipe, "--output", str(tmp_path / "file" / "x")]) == 2
    assert "cannot write" in one_line(capsys)


@pytest.mark.parametrize("kind", [VOC, ListFile])
@pytest.mark.parametrize(("length", "said"), [(300, "no such file"), (9000, "a line of 90")])
def test_names_that_no_disk_can_hold_are_one_line(tmp_path, kind, length, said):
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "JPEGImages").mkdir()
    line = "x" * length + ("\ty" if kind is ListFile else "")
    for folder in (tmp_path, tmp_path / "ImageSets" / "Segmentation"):
        (folder / "train.txt").write_text(line)
    with pytest.raises(DataError, match=said):
        quick_look(SegmentationDataset(kind(tmp_path, "train"), LabelReader(2)))
