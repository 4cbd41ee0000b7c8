"""A run goes on with its own recipe, its own split and in its own folder, or not at all."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from conftest import TINY, files_below
from PIL import Image
from safetensors.numpy import load_file

from paddlefcn.commands import main
from paddlefcn.config import load_config
from paddlefcn.training.resume import find_run

OPTIONS = ("train.iters=4", "train.eval_iters=4", "train.previews=0")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of 4 iterations that stands at its second checkpoint, and its recipe."""
    place = tmp_path_factory.mktemp("stopped")
    (place / "tiny.yml").write_text(TINY)
    recipe = ["-c", str(place / "tiny.yml"), "-o", f"train.save_dir={place / 'run'}", *OPTIONS]
    assert main(["train", *recipe]) == 0
    run = place / "run"
    shutil.rmtree(run / "checkpoints" / "iter_4")
    (run / "checkpoints" / "last").write_text("iter_2\n")
    return place, recipe


@pytest.fixture
def stopped(made, tmp_path):
    """A copy of it."""
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    return ["-c", str(tmp_path / "tiny.yml"), "-o", f"train.save_dir={tmp_path / 'run'}", *OPTIONS]


CHANGED = [
    # the network
    *("model.backbone.width=4", "model.backbone.arch=[1,1,1,1,2]", "model.backbone.batch_norm=false"),
    *("model.backbone={type: VGG11}", "model.type=FCN16s", "model.fc_channels=4", "model.fc6_kernel=3"),
    *("model.dropout=0", "model.upsample=transposed", "model.deep_supervision=true", "model.pretrained=x"),
    # the data
    *("data.classes=[a, b, c, d, e, f]", "data.classes=[a, b]", "data.ignore_index=254", "data.type=VOC"),
    *("data.train_images=6", "data.val_images=3", "data.size=[16,16]", "data.train_transforms=[]"),
    *("data.train_transforms.1.size=[16,16]", "data.val_transforms=[{type: Resize, short: 16}]"),
    *("data.normalize.scale=1", "data.normalize.order=BGR", "data.on_bad_image=skip", "data.cache=memory"),
    *("data.label_map={0: 0}", "data.max_pixels=100000", "data.threshold=128"),
    # the loss, the optimizer, the schedule
    *("loss.0.type=Focal", "loss.0.class_weights=[1,1,1,1,1,2]", "loss=[{type: Dice}, {type: CrossEntropy}]"),
    *(
        "optimizer={type: Adam}",
        "optimizer.momentum=0.8",
        "optimizer.weight_decay=0",
        "optimizer.clip_norm=1",
    ),
    *("optimizer.nesterov=true", "optimizer.head_lr_factor=10", "schedule.learning_rate=0.01"),
    *("schedule={type: Cosine, learning_rate: 0.05}", "schedule.warmup_iters=0", "schedule.power=1.0"),
    # the training
    *("train.seed=1", "train.iters=3", "train.batch_size=1", "train.accumulate=2", "train.ema_decay=0.9"),
    *("train.eval_iters=2", "train.best=mean_dice", "train.early_stop=2", "train.swa_start=2"),
    *("train.freeze=[backbone]", "train.precision=bf16", "train.sizes=[{until: 1, scale: 0.5}]"),
    *("stages=[{model: FCN32s, iters: 2}, {model: FCN8s, iters: 2}]", "refine.temperature=2.0"),
]
LISTED = [
    *("train.iters=5", "train.log_iters=1", "train.save_iters=1", "train.keep=1", "train.previews=3"),
    *("train.on_nan=skip 3", "data.num_workers=1", "data.root=elsewhere", "data.download=true"),
    "runtime.cpu_accelerator=auto",
]


def test_the_changes_tried_are_more_than_fifty():
    assert len({*CHANGED}) == len(CHANGED) >= 50


def test_a_resume_whose_recipe_differs_is_refused_by_its_keys_and_touches_nothing(made, capsys):
    place, recipe = made
    before = files_below(place)
    # the comparison comes before anything is built, so that wrong values need not be right
    for number, change in enumerate(CHANGED):
        resume = ["--resume"] if number % 2 else ["--resume", str(place / "run")]
        assert main(["train", *recipe, change, *resume]) == 2, change
        error = capsys.readouterr().err
        key = change.split("=")[0]
        assert any(name in error for name in (key, key.rpartition(".")[0], key.split(".")[0])), error
        assert files_below(place) == before, change


def test_the_refusal_names_the_key_and_what_to_do(made, capsys):
    place, recipe = made
    for change in ("model.backbone.width=4", "train.seed=1", "schedule.power=1.0", "optimizer={type: Adam}"):
        for resume in (["--resume"], ["--resume", str(place / "run")]):
            assert main(["train", *recipe, change, *resume]) == 2
            error = capsys.readouterr().err
            assert change.split("=")[0] in error
            assert "start a new run without --resume" in error


@pytest.mark.parametrize("change", LISTED)
def test_what_the_docs_list_is_let_through_and_looking_touches_nothing(made, repo, change):
    place, recipe = made
    before = files_below(place)
    config = load_config(recipe[1], [*recipe[3:], change])
    assert find_run(config, place / "run") == place / "run"
    assert find_run(config, True) == place / "run"
    assert files_below(place) == before
    key = change.split("=")[0].removesuffix(".cpu_accelerator")
    assert f"`{key}`" in (repo / "docs" / "trust.md").read_text(encoding="utf-8")


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
    before = files_below(tmp_path / "run-2")
    capsys.readouterr()
    assert main(["train", *mine, "train.iters=4", "--resume"]) == 0
    assert f"going on from {tmp_path / 'run' / 'checkpoints' / 'iter_2'}" in capsys.readouterr().out
    assert files_below(tmp_path / "run-2") == before
    third = files_below(tmp_path / "run")
    assert main(["train", *mine, "train.seed=9", "--resume"]) == 2
    assert "train.seed" in capsys.readouterr().err
    assert (files_below(tmp_path / "run"), files_below(tmp_path / "run-2")) == (third, before)


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
    before = files_below(tmp_path / "run")
    for name in ("images", "labels"):
        (tmp_path / "set" / name / "p3.png").unlink()
    assert main(["train", *folder_set, "train.iters=4", "--resume"]) == 2
    assert "1 of its images are gone from the data (p3)" in capsys.readouterr().err
    assert files_below(tmp_path / "run") == before


def test_a_damaged_split_is_one_line(folder_set, tmp_path, capsys):
    assert main(["train", *folder_set]) == 0
    (tmp_path / "run" / "split.json").write_text("{")
    assert main(["train", *folder_set, "train.iters=4", "--resume"]) == 2
    assert "split.json: is damaged" in capsys.readouterr().err
