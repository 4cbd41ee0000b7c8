"""What helps with masks that do not fit: thresholds, ranges, grouped faults, suggestions to paste."""

import shlex

import numpy as np
import pytest
import yaml
from PIL import Image

from paddlefcn.commands import main
from paddlefcn.config import load_config
from paddlefcn.data.checks import quick_look
from paddlefcn.data.datasets import Folder, SegmentationDataset
from paddlefcn.data.labels import LabelReader, expand_label_map, is_smoothed_binary
from paddlefcn.data.report import check, group_faults
from paddlefcn.errors import ConfigError, DataError

RECIPE = """
data:
  type: Folder
  root: {root}
  labels: masks
  classes: [background, scratch]
  train_transforms: [{{type: RandomCrop, size: [16, 16]}}]
  num_workers: 0
model: {{type: FCN8s, backbone: {{type: VGG, arch: [1, 1, 1, 1, 1], width: 2}}, fc_channels: 4}}
loss: [{{type: CrossEntropy, reduction: mean}}, {{type: Dice}}]
optimizer: {{type: SGD}}
schedule: {{type: Poly, learning_rate: 0.1}}
train: {{iters: 2}}
"""


def smoothed(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 50), np.float32)
    mask[10:30, 15:35] = 255
    mask[9] = np.where(mask[10] > 0, rng.integers(20, 230, 50), 0)
    return mask.astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Ten pairs whose masks are 0/255 with a smoothed border."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for index in range(10):
        rng = np.random.default_rng(index)
        picture = rng.integers(0, 255, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"images/{index}.png")
        Image.fromarray(smoothed(index)).save(tmp_path / f"masks/{index}.png")
    (tmp_path / "recipe.yml").write_text(RECIPE.format(root=tmp_path))
    return tmp_path


def test_a_threshold_makes_two_classes_of_grey_masks():
    reader = LabelReader(2, threshold=128)
    np.testing.assert_array_equal(reader(np.array([[0, 127, 128, 255]], np.uint8), "m"), [[0, 0, 1, 1]])
    np.testing.assert_array_equal(reader(np.array([[-5, 128]], np.int64), "m"), [[0, 1]])
    for wrong in ({"num_classes": 3}, {"num_classes": 2, "label_map": {0: 0}}):
        with pytest.raises(ValueError, match=r"makes two classes|label_map are both given; drop label_map"):
            LabelReader(threshold=128, **wrong)


def test_a_label_map_takes_ranges():
    table = {"0-127": 0, "128 - 254": 1, 255: 255}
    reader = LabelReader(2, label_map=table)
    np.testing.assert_array_equal(
        reader(np.array([[0, 127, 128, 254, 255]], np.uint8), "m"), [[0, 0, 1, 1, 255]]
    )
    for wrong, part in (
        ({"0-5": 0, 3: 1}, "3 stands in two"),
        ({"5-1": 0}, "from low to high"),
        ({"a": 0}, "range"),
    ):
        with pytest.raises(ValueError, match=part):
            expand_label_map(wrong)


def test_ranges_and_thresholds_are_keys_of_a_recipe(folder):
    options = ["data.label_map={0-127: 0, 128-255: 1}"]
    assert len(load_config(folder / "recipe.yml", options).data.label_map) == 256
    assert load_config(folder / "recipe.yml", ["data.threshold=128"]).data.threshold == 128
    with pytest.raises(ConfigError, match=r"data\.label_map: .*range such as 0-127, got '0\.\.127'"):
        load_config(folder / "recipe.yml", ["data.label_map={0..127: 0}"])
    with pytest.raises(ConfigError, match=r"data\.threshold: expected 1 to 65535"):
        load_config(folder / "recipe.yml", ["data.threshold=0"])


def test_smoothed_borders_are_recognised_and_nothing_else():
    values = dict(zip(*(part.tolist() for part in np.unique(smoothed(0), return_counts=True))))
    assert is_smoothed_binary(values)
    assert not is_smoothed_binary({0: 900, 255: 100})
    assert not is_smoothed_binary(dict.fromkeys(range(256), 10))
    assert not is_smoothed_binary({0: 900, 1: 50, 2: 50, 3: 7})


def test_smoothed_masks_are_one_line_with_the_threshold_that_helps(folder, capsys):
    dataset = SegmentationDataset(Folder(folder, "train", labels="masks"), LabelReader(2))
    with pytest.raises(DataError, match=r"smoothed borders.*set data\.threshold: 128"):
        quick_look(dataset)
    assert main(["check-data", "-c", str(folder / "recipe.yml")]) == 1
    printed = capsys.readouterr().out
    assert printed.count("fault: ") == 2  # one a split
    assert "(and 7 more like it; --all lists them)" in printed
    assert "class_2" not in printed
    assert "scratch" in printed
    assert "10 faults found" in printed
    assert main(["check-data", "-c", str(folder / "recipe.yml"), "--all"]) == 1
    assert capsys.readouterr().out.count("fault: ") == 10
    assert main(["check-data", "-c", str(folder / "recipe.yml"), "-o", "data.threshold=128"]) == 0


@pytest.mark.parametrize("before", ["", "  label_map: {0: 0, 255: 1}\n"], ids=["plain", "a label_map"])
def test_what_is_suggested_can_be_pasted_as_yaml_and_as_words(before, folder, capsys):
    recipe = folder / "recipe.yml"
    recipe.write_text(recipe.read_text().replace("  labels: masks\n", f"  labels: masks\n{before}"))
    main(["check-data", "-c", str(recipe)])
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("for the recipe, in place of these keys:")
    assert lines[-1].startswith("or as words: -o ")
    words = shlex.split(lines[-1].removeprefix("or as words: -o "))
    by_words = load_config(recipe, words)
    block = yaml.safe_load("\n".join(lines[start + 1 : -1]))
    tree = yaml.safe_load(recipe.read_text())
    tree["data"].update(block["data"])
    tree["loss"] = block["loss"]
    pasted = folder / "pasted.yml"
    pasted.write_text(yaml.safe_dump(tree))
    made = load_config(pasted)
    assert (made.data.normalize, made.data.threshold) == (by_words.data.normalize, 128)
    assert made.tree["loss"] == by_words.tree["loss"]
    assert len(by_words.tree["loss"]) == 2
    assert main(["check-data", "-c", str(pasted)]) == 0


def test_class_names_that_yaml_would_read_otherwise_are_quoted(folder):
    made = SegmentationDataset(Folder(folder, "train", labels="masks"), LabelReader(2, label_map={0: 0}))
    lines = check({"train": made}, ["yes", "1"]).text().splitlines()
    classes = [line for line in lines if line.strip().startswith("classes:")]
    assert all(yaml.safe_load(line.strip())["classes"][:2] == ["yes", "1"] for line in classes)


def test_equal_faults_become_one_line():
    faults = [f"train: mask /d/{i}.png: value {i} ({i * 7} px) outside 0..1; set it" for i in range(38, 95)]
    other = "train: image /d/1.jpg: no such file; correct the list"
    lines = group_faults([*faults, other])
    assert lines == [f"{faults[0]} (and 56 more like it; --all lists them)", other]


def test_the_quick_look_is_spread_over_the_split(folder):
    for index in range(10):
        value = 1 if index >= 8 else 0
        Image.fromarray(np.full((40, 50), value, np.uint8)).save(folder / f"masks/{index}.png")
    (folder / "list.txt").write_text("\n".join(f"images/{i}.png masks/{i}.png" for i in range(10)))
    from paddlefcn.data.datasets import ListFile

    dataset = SegmentationDataset(ListFile(folder, "train", train="list.txt"), LabelReader(2))
    assert quick_look(dataset, ["a", "b"], limit=4) == []


def test_npy_masks_outside_of_the_color_table_are_refused(tmp_path):
    reader = LabelReader(2, color_table=[[0, 0, 0], [255, 255, 255]])
    for value in (-1, 256, 65535):
        np.save(tmp_path / "m.npy", np.full((4, 5, 3), value, np.int32))
        with pytest.raises(DataError, match=r"m\.npy: .*colou?rs?"):
            reader.read(tmp_path / "m.npy")
    np.save(tmp_path / "m.npy", np.full((4, 5), 7, np.uint8))
    with pytest.raises(DataError, match=r"m\.npy: colours \[7, 7, 7\] are not among"):
        reader.read(tmp_path / "m.npy")


def test_a_missing_folder_names_the_variable_and_what_was_looked_for(folder, monkeypatch, capsys):
    recipe = str(folder / "recipe.yml")
    for value, part in ((str(folder), f"PADDLEFCN_DATA is {folder}"), (None, "PADDLEFCN_DATA is not set")):
        monkeypatch.setenv("PADDLEFCN_DATA", value) if value else monkeypatch.delenv("PADDLEFCN_DATA")
        main(["check-data", "-c", recipe, "-o", "data.root=nowhere"])
        printed = capsys.readouterr().out
        assert part in printed
        assert "data.root 'nowhere'" in printed


@pytest.mark.parametrize("kind", ["LabelMe", "COCO", "CVAT", "CVATMasks", "YOLOSeg", "Supervisely"])
def test_the_export_of_a_tool_is_recognised(folder, tmp_path, capsys, kind):
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parent))
    from annotations.writers import WRITERS

    WRITERS[kind](tmp_path / "tool")
    options = ["data={type: Folder, images: none}", f"data.root={tmp_path / 'tool'}"]
    main(["check-data", "-c", str(folder / "recipe.yml"), "-o", *options])
    assert f"set data.type: {kind}" in capsys.readouterr().out
