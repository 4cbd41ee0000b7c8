"""`stages:` in a config: what each stage's recipe is, and what cannot be right."""

from __future__ import annotations

import pytest

from paddlefcn import build
from paddlefcn.config import load_config, parse_config
from paddlefcn.config.stages import unused_by_stages
from paddlefcn.errors import ConfigError
from paddlefcn.yaml_files import merge

TREE = {
    "data": {"type": "Shapes", "classes": list("abcdef")},
    "model": {"type": "FCN8s", "backbone": {"type": "VGG16", "width": 4, "pretrained": "x"}, "dropout": 0.1},
    "loss": [{"type": "CrossEntropy"}],
    "optimizer": {"type": "Momentum"},
    "schedule": {"type": "Poly", "learning_rate": 0.1},
    "train": {"iters": 10, "batch_size": 4},
}
STAGES = [
    {"model": "FCN32s", "iters": 5, "learning_rate": 0.2},
    {"model": {"type": "FCN16s", "backbone": {"batch_norm": False}}, "batch_size": 2},
    {"epochs": 3, "schedule": {"power": 0.5}, "learning_rate": 1},
]


def _config(stages, changes=None):
    return parse_config({**merge(TREE, changes or {}), "stages": stages}, "recipe.yml")


def test_a_stage_is_the_shared_recipe_with_its_own_entry():
    config = _config(STAGES)
    build.validate(config)
    _, second, third = config.stages
    assert [stage.model.type for stage in config.stages] == ["FCN32s", "FCN16s", "FCN8s"]
    assert [stage.train.iters for stage in config.stages] == [5, 10, None]
    assert third.train.epochs == 3
    assert [stage.train.batch_size for stage in config.stages] == [4, 2, 4]
    assert [stage.schedule.args["learning_rate"] for stage in config.stages] == [0.2, 0.1, 1]
    assert third.schedule.args["power"] == 0.5
    assert second.model.args["backbone"] == {"type": "VGG16", "width": 4, "batch_norm": False}
    assert {stage.model.args["dropout"] for stage in config.stages} == {0.1}


def test_the_last_stages_network_is_what_the_config_stands_for():
    config = _config(STAGES)
    assert config.model == config.stages[-1].model
    assert config.train == config.stages[-1].train


def test_only_the_first_stage_starts_from_pretrained_weights():
    config = _config(STAGES, {"model": {"pretrained": "y"}})
    assert [stage.model.args.get("pretrained") for stage in config.stages] == ["y", None, None]
    backbones = [stage.model.args["backbone"].get("pretrained") for stage in config.stages]
    assert backbones == ["x", None, None]


def test_a_resolved_config_loads_again_with_its_stages(tmp_path):
    config = _config(STAGES)
    path = tmp_path / "config.yml"
    path.write_text(config.to_yaml(), "utf-8")
    again = load_config(path, ["stages.1.batch_size=7"])
    assert [stage.train.batch_size for stage in again.stages] == [4, 7, 4]
    assert [stage.model.args for stage in again.stages] == [stage.model.args for stage in config.stages]


def test_a_shared_value_that_every_stage_replaces_is_named():
    every = [{"iters": 1, "learning_rate": 0.1}, {"epochs": 2, "learning_rate": 0.2}]
    lines = unused_by_stages({**TREE, "stages": every})
    assert len(lines) == 2
    assert lines[0].startswith("train.iters 10 is not used")
    assert lines[1].startswith("schedule.learning_rate 0.1 is not used")
    assert unused_by_stages({**TREE, "stages": STAGES}) == []
    assert unused_by_stages(TREE) == []


def test_the_staged_recipe_is_the_published_one(repo):
    config = load_config(repo / "configs" / "fcn8s_voc_staged.yml")
    assert [stage.model.type for stage in config.stages] == ["FCN32s", "FCN16s", "FCN8s"]
    assert [stage.schedule.args["learning_rate"] for stage in config.stages] == [1e-10, 1e-12, 1e-14]
    for stage in config.stages:
        assert (stage.train.iters, stage.train.batch_size) == (100_000, 1)
        assert stage.model.args["padding"] == "reference"
        assert stage.loss[0].args["reduction"] == "sum"
        assert stage.optimizer.args["momentum"] == 0.99
        assert stage.optimizer.args["bias_lr_factor"] == 2.0
    assert config.data.normalize.order == "BGR"
    assert unused_by_stages(config.tree) == []


WRONG = [
    ({}, "stages: expected a list of {model: …, iters: …, learning_rate: …}, got a mapping"),
    ([], "stages: expected a list"),
    (["FCN32s"], "stages.0: expected {model: …, iters: …, learning_rate: …}, got text 'FCN32s'"),
    ([{"modle": "FCN32s"}], "stages.0: unknown key 'modle'; did you mean 'model'?"),
    ([{"iters": 1}, {"iters": 0}], "stages.1.iters: expected an integer from 1, got an integer 0"),
    ([{"epochs": "two"}], "stages.0.epochs: expected an integer from 1, got text 'two'"),
    ([{"iters": 1, "epochs": 1}], "stages.0: iters and epochs are both given"),
    ([{"model": 3}], "stages.0.model: expected a name or keys of model, got an integer 3"),
    ([{"model": "FCN23s"}], "stages.0.model.type: unknown 'FCN23s'; did you mean 'FCN32s'?"),
    ([{"model": {"dropuot": 1}}], "stages.0.model: FCN8s takes no 'dropuot'"),
    (
        [{}, {"model": {"pretrained": "p"}}],
        "stages.1.model.pretrained: this stage starts from the one before",
    ),
    (
        [{}, {"model": {"backbone": {"pretrained": "p"}}}],
        "stages.1.model.backbone.pretrained: this stage starts from the one before",
    ),
    ([{"learning_rate": 0}], "stages.0: learning_rate 0: expected a number above 0"),
    ([{"learning_rate": "low"}], "stages.0.learning_rate: expected a number, got text 'low'"),
    ([{"schedule": 1}], "stages.0.schedule: expected keys of schedule, got an integer 1"),
    ([{"schedule": {"powr": 1}}], "stages.0.schedule: Poly takes no 'powr'"),
    (
        [{"schedule": {"learning_rate": 1}, "learning_rate": 1}],
        "stages.0: learning_rate and schedule.learning_rate are both given",
    ),
]


@pytest.mark.parametrize(("stages", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_with_a_stage_is_said_with_its_place(stages, message):
    with pytest.raises(ConfigError) as caught:
        build.validate(_config(stages))
    assert str(caught.value).startswith("recipe.yml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stage_without_a_length_is_an_error():
    with pytest.raises(ConfigError, match=r"stages\.1\.iters: missing"):
        _config([{"iters": 1}, {"model": "FCN8s"}], {"train": {"iters": None}})


@pytest.mark.parametrize("section", ["model", "schedule", "train"])
def test_a_shared_section_that_is_none_is_named(section):
    tree = {**TREE, section: "text", "stages": STAGES}
    with pytest.raises(ConfigError, match="expected a mapping, got text 'text'"):
        parse_config(tree, "recipe.yml")
