"""Configs: what YAML says becomes dataclasses, and what cannot be right is one readable line."""

from __future__ import annotations

import itertools

import pytest
import yaml

from paddlefcn import build
from paddlefcn.classes import voc_palette
from paddlefcn.config import load_config, parse_config
from paddlefcn.errors import ConfigError
from paddlefcn.training.rates import check_rate
from paddlefcn.yaml_files import merge, parse_yaml

TREE = {
    "data": {"type": "Shapes", "classes": ["a", "b", "c"], "train_transforms": [{"type": "RandomFlip"}]},
    "model": {"type": "FCN8s", "backbone": {"type": "VGG16"}},
    "loss": [{"type": "CrossEntropy"}],
    "optimizer": {"type": "Momentum"},
    "schedule": {"type": "Poly", "learning_rate": 0.1},
    "train": {"iters": 10},
}


@pytest.fixture
def write(tmp_path):
    def write_config(changes=None, text=None, name="recipe.yml"):
        path = tmp_path / name
        path.write_text(text if text is not None else yaml.safe_dump(merge(TREE, changes or {})), "utf-8")
        return path

    return write_config


def test_every_recipe_loads_and_validates(repo):
    recipes = sorted((repo / "configs").glob("*.yml"))
    assert len(recipes) >= 6
    for path in recipes:
        config = load_config(path)
        build.validate(config)
        assert path.read_text("utf-8").startswith(f"# python tools/train.py -c configs/{path.name}\n")


def test_a_resolved_config_loads_again_to_the_same_config(repo, tmp_path):
    config = load_config(repo / "configs" / "fcn8s_voc.yml", ["train.batch_size=3", "data.num_workers=0"])
    copy = tmp_path / "config.yml"
    copy.write_text(config.to_yaml(), "utf-8")
    again = load_config(copy)
    assert again.tree == config.tree
    assert again.train == config.train
    assert config.train.batch_size == 3


def test_an_exponent_without_a_dot_is_a_number():
    assert parse_yaml("[1e-4, 1.0e-4, 5E3, 1e4, .5, -2e-3]", "x") == [1e-4, 1e-4, 5e3, 1e4, 0.5, -2e-3]
    assert parse_yaml("[12, v1e4, 1_0, 'e5', 1.2.3]", "x") == [12, "v1e4", 10, "e5", "1.2.3"]


def test_bases_merge_lists_replace_and_a_changed_type_replaces_its_node(tmp_path):
    (tmp_path / "base.yml").write_text("a: {x: 1, y: [1, 2]}\nm: {type: A, p: 1}\nk: {type: B, p: 1}\n")
    child = tmp_path / "child.yml"
    child.write_text("_base_: base.yml\na: {y: [3]}\nm: {type: C}\nk: {type: B, q: 2}\n")
    from paddlefcn.yaml_files import load_yaml

    assert load_yaml(child) == {
        "a": {"x": 1, "y": [3]},
        "m": {"type": "C"},
        "k": {"type": "B", "p": 1, "q": 2},
    }


def test_options_reach_into_lists_and_iters_replace_epochs(write):
    path = write({"train": {"iters": None}})
    path.write_text(path.read_text().replace("iters: null", "epochs: 3"))
    options = ["train.iters=7", "data.train_transforms.0.horizontal=0.25"]
    config = load_config(path, options)
    assert (config.train.iters, config.train.epochs) == (7, None)
    assert config.data.train_transforms[0].args == {"horizontal": 0.25}


def test_the_palette_is_the_development_kits():
    # the first colours of VOC's devkit, and its void's neighbour
    assert voc_palette(4) == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert voc_palette(21)[20] == (0, 64, 128)


WRONG = [
    ({"modle": {}}, "unknown key 'modle'; did you mean 'model'?"),
    ({"data": {"clases": []}}, "Shapes takes no 'clases'; did you mean 'classes'?"),
    ({"data": {"classes": ["a", True]}}, "data.classes: a class name is text, got true/false True"),
    ({"data": {"classes": ["a", "a"]}}, "'a' stands twice"),
    ({"data": {"classes": "a"}}, "data.classes: expected a list of two or more class names"),
    ({"data": {"ignore_index": 1}}, "data.ignore_index: 1 is the id of class 'b'"),
    ({"data": {"label_map": {0: 7}}}, "data.label_map.0: expected a class id of 0 to 2 or ignore_index 255"),
    ({"data": {"normalize": {"mean": [0.1]}}}, "data.normalize.std: 3 values, but mean has 1"),
    ({"data": {"normalize": {"std": [0, 1, 1]}}}, "data.normalize.std: must be above 0"),
    ({"data": {"normalize": {"order": "GBR"}}}, "'GBR' is none of RGB, BGR"),
    ({"data": {"num_workers": "two"}}, "data.num_workers: expected an integer, got text 'two'"),
    ({"data": {"palette": [[0, 0, 0]]}}, "data.palette: expected 3 colours"),
    ({"data": {"on_bad_image": "ignore"}}, "'ignore' is none of stop, skip"),
    ({"data": {"type": "Shape", "classes": ["a", "b"]}}, "unknown 'Shape'; did you mean 'Shapes'?"),
    ({"data": {"train_transforms": [{"type": "RandomFlipp"}]}}, "did you mean 'RandomFlip'?"),
    ({"data": {"cache": "ram"}}, "data.cache: 'ram' is none of memory, disk"),
    (
        {"data": {"train_transforms": [{"type": "CopyPaste", "classes": [3]}]}},
        "expected an integer of 0 to 2, got 3",
    ),
    (
        {"data": {"train_transforms": [{"type": "ClassCrop", "size": [8, 8], "classes": 1}]}},
        "classes: expected a list",
    ),
    ({"data": {"train_transforms": [{"type": "RandomCrop"}]}}, "RandomCrop needs 'size'"),
    ({"data": {"train_transforms": [{"type": "RandomCrop", "size": 5}]}}, "size: expected a list"),
    ({"data": {"val_transforms": [{"type": "RandomFlip"}]}}, "val_transforms.0.type: 'RandomFlip'"),
    ({"model": {"type": "FCN8"}}, "model.type: unknown 'FCN8'; did you mean 'FCN8s'?"),
    ({"model": {"dropuot": 0.1}}, "FCN8s takes no 'dropuot'; did you mean 'dropout'?"),
    ({"model": {"dropout": "much"}}, "model.dropout: expected a number, got text 'much'"),
    ({"model": {"backbone": {"type": "VGG61"}}}, "model.backbone.type: unknown 'VGG61'"),
    ({"model": {"backbone": {"width": 1.5}}}, "model.backbone.width: expected an integer"),
    ({"model": {"pretrained": 3}}, "model.pretrained: expected a path, URL or name"),
    ({"loss": [{"type": "CrossEntropy", "weights": [-1]}]}, "loss.0.weights: expected one factor an output"),
    ({"loss": [{"type": "CrossEntropy", "class_weights": [1, 2]}]}, "2 factors for 3 classes"),
    ({"loss": []}, "loss: expected a list"),
    ({"optimizer": {"type": "momentum"}}, "did you mean 'Momentum'?"),
    ({"optimizer": {"momentun": 0.9}}, "Momentum takes no 'momentun'; did you mean 'momentum'?"),
    ({"optimizer": {"weight_decay": "5e"}}, "optimizer.weight_decay: expected a number"),
    ({"schedule": {"learning_rate": 0}}, "schedule: learning_rate 0: expected a number above 0"),
    ({"schedule": {"type": "Step", "learning_rate": 1.0, "milestones": [3, 2]}}, "expected rising"),
    ({"train": {"epochs": 2}}, "train: iters and epochs are both given"),
    ({"train": {"iters": 0}}, "train.iters: expected 1 to"),
    ({"train": {"batchsize": 2}}, "train: unknown key 'batchsize'; did you mean 'batch_size'?"),
    ({"train": {"on_nan": "skip"}}, "train.on_nan: expected stop, or skip N"),
    ({"train": {"best": "iou"}}, "train.best: 'iou' is none of"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_is_said_with_its_place(write, changes, message):
    with pytest.raises(ConfigError) as caught:
        build.validate(load_config(write(changes)))
    assert message in str(caught.value)
    assert "recipe.yml" in str(caught.value)
    assert "\n" not in str(caught.value)


BROKEN = [
    ("", "expected a mapping of sections, got nothing"),
    ("- 1\n", "expected a mapping of sections, got a list"),
    ("a: [1\n", "not valid YAML"),
    ("train: {}\ntrain: {}\n", "line 2: key 'train' stands twice"),
    ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
    ("_base_: recipe.yml\n", "_base_ leads back to this file"),
    ("_base_: nowhere.yml\n", "No such file"),
    ("a: &a [x, x]\nb: &b [*a, *a]\n" + "c: &c [*b, *b]\n" * 0 + "? [1]\n: 2\n", "cannot be a key"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_a_broken_file_is_one_line(write, text, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        load_config(write(text=text))


def test_an_alias_bomb_is_refused_without_unfolding_it(write):
    names = "abcdefghij"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in itertools.pairwise(names):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    with pytest.raises(ConfigError, match="values with its aliases"):
        load_config(write(text="\n".join(lines)))


@pytest.mark.parametrize("option", ["train", "=3", "train.iters.x=1", "data.train_transforms.5.x=y", "a=[1"])
def test_a_wrong_option_is_named(write, option):
    with pytest.raises(ConfigError, match="option"):
        load_config(write(), [option])


def test_a_missing_file_and_a_missing_section_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nope\.yml: No such file"):
        load_config(tmp_path / "nope.yml")
    with pytest.raises(ConfigError, match="section 'data' is missing"):
        parse_config({"model": {"type": "FCN8s"}}, "recipe.yml")


def test_the_number_of_loss_weights_must_fit_the_models_outputs(write):
    config = load_config(write({"model": {"backbone": {"width": 2}, "fc_channels": 4}}))
    model = build.build_model(config)
    assert len(build.build_losses(config, model).entries[0].weights) == 1
    wrong = load_config(write({"loss": [{"type": "CrossEntropy", "weights": [1.0, 0.4]}]}))
    with pytest.raises(ConfigError, match=r"loss\.0\.weights: 2 weights, but FCN8s has 1 output in"):
        build.build_losses(wrong, model)


def test_normalisation_reaches_the_backbone_and_the_transforms(write):
    normalize = {"scale": 1.0, "mean": [10.0, 20.0, 30.0], "std": [1.0, 1.0, 1.0], "order": "BGR"}
    crop = [{"type": "RandomCrop", "size": [8, 8]}]
    config = load_config(write({"data": {"normalize": normalize, "train_transforms": crop}}))
    transform = build.build_train_transforms(config)[0]
    assert list(transform.fill) == [30.0, 20.0, 10.0]  # images are RGB until they are normalised
    assert transform.ignore_index == 255


RATES = [
    ({"schedule": {"learning_rate": 1e-10}}, "schedule: learning rate 1e-10 is too small"),
    ({"loss": [{"type": "CrossEntropy", "reduction": "sum"}]}, "over 2,048 pixels a batch"),
    ({}, None),
    ({"schedule": {"learning_rate": 1e-10}, "optimizer": {"type": "Adam"}}, None),  # no matter of the loss
]


@pytest.mark.parametrize(("changes", "message"), RATES)
def test_a_rate_that_does_not_suit_the_loss_is_warned_about(write, changes, message):
    crop = [{"type": "RandomCrop", "size": [32, 32]}]
    shapes = {"classes": list("abcdef"), "size": [48, 48], "train_transforms": crop}
    config = load_config(write(merge({"data": shapes, "train": {"batch_size": 2}}, changes)))
    rate = build.build_schedule(config, total=1).learning_rate
    warning = check_rate(config, rate, build.build_dataset(config, "train"))
    assert (warning is None) if message is None else (message in warning)
