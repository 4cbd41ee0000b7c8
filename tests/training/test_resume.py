"""A run goes on with its own recipe, its own split and in its own folder, or not at all."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from paddlefcn.commands import main


def tree(folder) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def stopped(tiny, tmp_path):
    """A run of 4 iterations that stands at its second checkpoint."""
    options = ("train.iters=4", "train.eval_iters=4", "train.previews=0")
    assert main(["train", *tiny(*options)]) == 0
    run = tmp_path / "run"
    shutil.rmtree(run / "checkpoints" / "iter_4")
    (run / "checkpoints" / "last").write_text("iter_2\n")
    return tiny(*options)


CHANGED = [
    "model.backbone.width=4",
    "data.classes=[a, b, c, d, e, f]",
    "data.classes=[a, b]",
    "optimizer={type: Adam}",
    "optimizer.momentum=0.8",
    "loss.0.type=Focal",
    "train.seed=1",
    "train.iters=3",
    "train.batch_size=1",
    "train.accumulate=2",
    "train.ema_decay=0.9",
    "train.eval_iters=2",
    "schedule.learning_rate=0.01",
    "data.train_images=6",
    "data.train_transforms=[]",
    "data.normalize.scale=1",
    "model.dropout=0",
]


@pytest.mark.parametrize("change", CHANGED)
def test_a_resume_whose_recipe_differs_is_refused_by_its_keys_and_touches_nothing(
    change, stopped, tmp_path, capsys
):
    before = tree(tmp_path / "run")
    # the comparison comes before anything is built, so that wrong values need not be right
    for resume in (["--resume"], ["--resume", str(tmp_path / "run")]):
        capsys.readouterr()
        assert main(["train", *stopped, change, *resume]) == 2
        error = capsys.readouterr().err
        assert change.split("=")[0].removesuffix(".0.type") in error
        assert "start a new run without --resume" in error
    assert tree(tmp_path / "run") == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("run")] == ["run"]


def test_what_may_change_on_purpose_goes_on(stopped, tmp_path):
    more = ["train.iters=6", "train.log_iters=1", "train.save_iters=3", "train.keep=9", "data.num_workers=1"]
    assert main(["train", *stopped, *more, "train.previews=1", "--resume"]) == 0
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("iter_*"))
    assert names == ["iter_2", "iter_3", "iter_4", "iter_6"]
    assert "iters: 6" in (tmp_path / "run" / "config.yml").read_text()


def test_without_a_recipe_the_runs_own_counts(stopped, tmp_path):
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "checkpoints" / "iter_4").is_dir()


def test_another_recipes_run_beside_is_left_alone(tiny, tmp_path, capsys):
    """`exp-2` is of another recipe: `--resume` of exp goes on in `exp`."""
    mine = tiny("train.iters=2", "train.previews=0")
    assert main(["train", *mine]) == 0
    assert main(["train", *mine, "train.seed=7"]) == 0
    before = tree(tmp_path / "run-2")
    capsys.readouterr()
    assert main(["train", *mine, "train.iters=4", "--resume"]) == 0
    assert f"going on from {tmp_path / 'run' / 'checkpoints' / 'iter_2'}" in capsys.readouterr().out
    assert tree(tmp_path / "run-2") == before
    third = tree(tmp_path / "run")
    assert main(["train", *mine, "train.seed=9", "--resume"]) == 2
    assert "train.seed" in capsys.readouterr().err
    assert (tree(tmp_path / "run"), tree(tmp_path / "run-2")) == (third, before)


def test_a_folder_that_is_no_run_is_an_error_and_nothing_is_made(tiny, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    for name in ("mine", "empty", "nowhere"):
        assert main(["train", *tiny(), "--resume", str(tmp_path / name)]) == 2
        assert "no run stands there" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / "run").exists()
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_pretrained_file_that_is_gone_does_not_stop_a_run_that_has_its_weights(tiny, tmp_path, repo):
    source = tmp_path / "start.safetensors"
    options = tiny("train.iters=2", "train.previews=0")
    assert main(["train", *options]) == 0
    shutil.copy(tmp_path / "run" / "best" / "model.safetensors", source)
    shutil.rmtree(tmp_path / "run")
    assert main(["train", *options, f"model.pretrained={source}"]) == 0
    source.unlink()
    assert main(["train", *options, f"model.pretrained={source}", "train.iters=4", "--resume"]) == 0


# ---- the split -------------------------------------------------------------------------------------


@pytest.fixture
def folder_set(tiny, tmp_path):
    """Ten pairs in two folders, split by seed; the arguments of a training on them."""
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for number in range(10):
        add_pair(tmp_path, f"p{number}", rng)
    recipe = tmp_path / "tiny.yml"
    text = recipe.read_text()
    start, end = text.index("  type: Shapes"), text.index("  classes:")
    root = tmp_path / "set"
    recipe.write_text(f"{text[:start]}  type: Folder\n  root: {root}\n{text[end:]}")
    return tiny("train.iters=2", "train.previews=0")


def add_pair(tmp_path, name, rng):
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "set" / "images" / f"{name}.png")
    Image.fromarray(image[:, :, 0] % 6).save(tmp_path / "set" / "labels" / f"{name}.png")


def test_a_new_image_changes_neither_the_split_nor_the_result(folder_set, tmp_path, capsys):
    options = [*folder_set, "train.iters=6"]
    assert main(["train", *options]) == 0
    last = tmp_path / "run" / "checkpoints" / "iter_6" / "model.safetensors"
    expected, split = load_file(last), json.loads((tmp_path / "run" / "split.json").read_text())
    assert len(split["train"]) + len(split["val"]) == 10
    for name in ("iter_4", "iter_6"):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / name)
    add_pair(tmp_path, "a_new_one", np.random.default_rng(1))
    capsys.readouterr()
    assert main(["train", *options, "--resume"]) == 0
    assert "1 new images are left out: a_new_one" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "split.json").read_text()) == split
    for name, value in load_file(last).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_an_image_that_is_gone_refuses_the_resume_and_touches_nothing(folder_set, tmp_path, capsys):
    assert main(["train", *folder_set]) == 0
    before = tree(tmp_path / "run")
    for name in ("images", "labels"):
        (tmp_path / "set" / name / "p3.png").unlink()
    assert main(["train", *folder_set, "train.iters=4", "--resume"]) == 2
    assert "1 of its images are gone from the data (p3)" in capsys.readouterr().err
    assert tree(tmp_path / "run") == before


def test_a_damaged_split_is_one_line(folder_set, tmp_path, capsys):
    assert main(["train", *folder_set]) == 0
    (tmp_path / "run" / "split.json").write_text("{")
    assert main(["train", *folder_set, "train.iters=4", "--resume"]) == 2
    assert "split.json: is damaged" in capsys.readouterr().err
