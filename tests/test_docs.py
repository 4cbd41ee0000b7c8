"""What README and docs say can be done: links, commands, recipes and examples of code."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import inspect
import json
import linecache
import re
import shlex

import numpy as np
import paddle
import pytest
import test_backbones
import test_models
from conftest import REPO
from networks import build_model
from PIL import Image

from paddlefcn import build
from paddlefcn.backbones import BACKBONES
from paddlefcn.commands import NAMES
from paddlefcn.config import Config, load_config, parse_config
from paddlefcn.config.data_section import DataConfig
from paddlefcn.config.recipe import DistillationConfig, RuntimeConfig, TrainConfig
from paddlefcn.data import DATASETS
from paddlefcn.data.datasets import SegmentationDataset
from paddlefcn.data.labels import LabelReader
from paddlefcn.errors import DataError
from paddlefcn.losses import LOSSES
from paddlefcn.models import MODELS
from paddlefcn.yaml_files import load_yaml, merge, parse_yaml

PAGES = [REPO / "README.md", REPO / "README_cn.md", *sorted((REPO / "docs").glob("*.md"))]
REST = {
    "data": {"type": "Shapes", "classes": list("abcdef")},
    "model": {"type": "FCN8s"},
    "loss": [{"type": "CrossEntropy"}],
    "optimizer": {"type": "Momentum"},
    "schedule": {"type": "Poly", "learning_rate": 0.1},
    "train": {"iters": 10},
}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def every(language):
    return [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page, language))
    ]


def anchors(page):
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES[:2], ids=lambda page: page.name)
def test_the_two_commands_stand_behind_their_markers(page):
    text = page.read_text(encoding="utf-8")
    found = dict(re.findall(r"^<!-- run: (\w+) -->\n```bash\n(.*?)```", text, re.M | re.S))
    assert found == {
        "quickstart": "pip install -e . && python tools/train.py -c configs/quickstart.yml\n",
        "tests": "pip install -e '.[test]' && pytest -n 2 --dist loadfile\n",
    }


def test_the_chinese_readme_has_the_same_commands_code_and_pictures():
    def essence(page):
        text = page.read_text(encoding="utf-8")
        code = [block for language in ("bash", "yaml", "python") for block in blocks(page, language)]
        return {
            "code": [re.sub(r"\s*#.*", "", block) for block in code],
            "pictures": re.findall(r"!\[.*?\]\((.*?)\)", text),
            "headings": re.findall(r"^(#+) ", text, re.M),
        }

    english, chinese = PAGES[:2]
    assert essence(english) == essence(chinese)


@pytest.mark.parametrize("block", every("bash"))
def test_every_command_has_arguments_that_its_tool_takes(block):
    for line in block.splitlines():
        words = shlex.split(line.partition(" #")[0]) if "tools/" in line else []
        starts = [i for i, word in enumerate(words) if re.fullmatch(r"tools/\w+\.py", word)]
        for start in starts:
            name = words[start].removeprefix("tools/").removesuffix(".py")
            assert name in NAMES
            parser = argparse.ArgumentParser(exit_on_error=False)
            importlib.import_module(f"paddlefcn.commands.{name}").add_arguments(parser)
            args = parser.parse_args(words[start + 1 :])
            if getattr(args, "config", None) and args.config.startswith("configs/"):
                assert (REPO / args.config).exists()


def test_the_page_of_the_keys_names_every_section_and_key():
    text = (REPO / "docs/config.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    sections = {field.name for field in dataclasses.fields(Config)} - {"file", "tree"}
    assert set(parts) == sections
    tables = {
        "data": DataConfig,
        "train": TrainConfig,
        "runtime": RuntimeConfig,
        "distillation": DistillationConfig,
    }
    for name, table in tables.items():
        keys = {field.name for field in dataclasses.fields(table)} - {"source"}
        assert {key for key in keys if not re.search(rf"`{key}[`:]", parts[name])} == set()


@pytest.mark.parametrize("block", every("yaml"))
def test_every_recipe_or_section_of_one_is_valid(block, monkeypatch):
    monkeypatch.setitem(DATASETS, "VIA", example("via.py")["VIA"])
    monkeypatch.setitem(BACKBONES, "PlainNet", example("plain.py")["PlainNet"])
    monkeypatch.setitem(LOSSES, "Jaccard", example("jaccard.py")["Jaccard"])
    monkeypatch.setitem(MODELS, "LinkNet", example("linknet.py")["LinkNet"])
    tree = parse_yaml(block, "the block")
    base = tree.pop("_base_", None)
    start = load_yaml(REPO / base) if base else {key: value for key, value in REST.items() if key not in tree}
    build.validate(parse_config(merge(start, tree), "the block"))


@pytest.mark.parametrize("block", every("python"))
def test_every_python_example_imports_what_there_is(block):
    tree = ast.parse(block)
    tree.body = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    exec(compile(tree, "the block", "exec"), {})


def test_a_shipped_recipe_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("configs/quickstart.yml").model.type == "FCN8s"


def example(name):
    """What the file of this name in docs/extend.md defines."""
    text = (REPO / "docs" / "extend.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"/{name}`:\n\n```python\n(.*?)^```", text, re.M | re.S)
    names = {"__name__": f"example_{name[:-3]}"}
    # where inspect looks for the source, which an export needs
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    exec(compile(code, name, "exec"), names)
    return names


TABLES = [
    ("plain.py", "PlainNet", BACKBONES, test_backbones),
    ("linknet.py", "LinkNet", MODELS, test_models),
]
CONTRACT = [
    pytest.param(*example, name, id=f"{example[1]}-{name}")
    for example in TABLES
    for name, function in vars(example[3]).items()
    if name.startswith("test_") and "in_channels" not in inspect.signature(function).parameters
]


@pytest.mark.parametrize(("file", "name", "table", "tests", "test"), CONTRACT)
def test_the_example_passes_what_every_entry_of_its_table_must(
    file, name, table, tests, test, monkeypatch, tmp_path
):
    monkeypatch.setitem(table, name, example(file)[name])
    function = getattr(tests, test)
    takes_folder = "tmp_path" in inspect.signature(function).parameters
    function(name=name, **({"tmp_path": tmp_path} if takes_folder else {}))


def test_the_example_backbone_carries_the_example_model_and_an_fcn(monkeypatch):
    monkeypatch.setitem(BACKBONES, "PlainNet", example("plain.py")["PlainNet"])
    monkeypatch.setitem(MODELS, "LinkNet", example("linknet.py")["LinkNet"])
    for name in ("LinkNet", "FCN8s"):
        model = build_model(name, backbone={"type": "PlainNet", "width": 2})
        model.eval()
        assert model(paddle.zeros([1, 3, 17, 45]))[0].shape == [1, 5, 17, 45]


def test_the_lines_of_the_examples_are_as_stated():
    text = (REPO / "docs" / "extend.md").read_text(encoding="utf-8")
    stated = {name: int(lines) for name, lines in re.findall(r"`(\w+)` \| (\d+) \| 2 \|", text)}
    codes = re.findall(r"/(\w+\.py)`:\n\n```python\n(.*?)^```", text, re.M | re.S)
    assert {name: sum(map(bool, code.splitlines())) for name, code in codes} == {
        {"PlainNet": "plain.py", "LinkNet": "linknet.py", "Jaccard": "jaccard.py", "VIA": "via.py"}[
            name
        ]: lines
        for name, lines in stated.items()
    }


def test_the_example_data_set_draws_the_polygons_of_its_tool(tmp_path):
    regions = [
        {
            "shape_attributes": {
                "name": "polygon",
                "all_points_x": [2, 7, 7, 2],
                "all_points_y": [3, 3, 5, 5],
            },
            "region_attributes": {"label": "crack"},
        }
    ]
    (tmp_path / "train").mkdir()
    Image.new("RGB", (12, 9)).save(tmp_path / "train/a.png")
    entries = {"a.png123": {"filename": "a.png", "size": 123, "regions": regions}}
    (tmp_path / "train/via_region_data.json").write_text(json.dumps(entries))
    source = example("via.py")["VIA"](tmp_path, "train", classes=["background", "crack"])
    image, label = SegmentationDataset(source, LabelReader(2)).read(0)
    assert image.shape == (9, 12, 3)
    expected = np.zeros((9, 12))
    expected[3:6, 2:8] = 1
    np.testing.assert_array_equal(label, expected)
    with pytest.raises(DataError, match="not what VIA saves"):
        example("via.py")["VIA"](tmp_path, "val", classes=["background", "crack"])


def test_the_example_loss_leaves_void_out_and_falls_with_a_better_answer():
    jaccard = example("jaccard.py")["Jaccard"](smooth=0.0)
    label = paddle.to_tensor(np.array([[[0, 1, 1, 255]]]))
    sure = paddle.to_tensor(np.array([[[[50, -50, -50, 50.0]], [[-50, 50, 50, -50.0]]]], "float32"))
    assert jaccard(sure, label).item() == pytest.approx(0, abs=1e-6)
    # probabilities of a half: class 0 has 0.5 of 1 + 1.5 - 0.5, class 1 has 1 of 2 + 1.5 - 1
    assert jaccard(sure * 0, label).item() == pytest.approx(1 - (0.25 + 0.4) / 2, rel=1e-5)
