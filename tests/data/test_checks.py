"""The quick look before training, and the full check with its planted faults."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from paddlefcn.classes import voc_palette
from paddlefcn.commands import main
from paddlefcn.data.checks import quick_look
from paddlefcn.data.datasets import VOC, Folder, ListFile, SegmentationDataset
from paddlefcn.data.labels import LabelReader
from paddlefcn.data.report import check
from paddlefcn.errors import DataError

PALETTE = [part for color in voc_palette(256) for part in color]


def write(folder, name, seed, mask=None):
    """A pair of VOC form; the mask holds 0, 1, 2 and a void border."""
    rng = np.random.default_rng(seed)
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 255, (24, 32, 3)).astype(np.uint8)).save(
        folder / f"JPEGImages/{name}.jpg"
    )
    if mask is None:
        mask = np.zeros((24, 32), np.uint8)
        mask[4:12, 4:12], mask[12:20, 12:20], mask[22:] = 1, 2, 255
    save_mask(folder / f"SegmentationClass/{name}.png", mask)


def save_mask(path, mask, palette=PALETTE):
    image = Image.fromarray(mask, "P")
    image.putpalette(palette)
    image.save(path)


@pytest.fixture
def voc(tmp_path):
    """Ten pairs to train on, four to validate."""
    names = {"train": [f"t{i}" for i in range(10)], "val": [f"v{i}" for i in range(4)]}
    for split, members in names.items():
        for number, name in enumerate(members):
            write(tmp_path, name, number + 100 * (split == "val"))
        (tmp_path / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(members) + "\n")
    return tmp_path


def dataset(root, split="train", num_classes=3, **reader):
    return SegmentationDataset(VOC(root, split), LabelReader(num_classes, **reader), 3)


def test_a_good_data_set_passes_without_a_word(voc):
    assert quick_look(dataset(voc), ["background", "a", "b"]) == []
    report = check({s: dataset(voc, s) for s in ("train", "val")}, ["background", "a", "b"])
    assert report.faults == []
    assert [split.images for split in report.splits] == [10, 4]
    assert report.splits[0].class_pixels.tolist() == [10 * (24 * 32 - 64 - 64 - 64), 640, 640]
    assert report.splits[0].void_pixels == 640


def test_a_class_without_a_pixel_is_a_warning(voc):
    (line,) = quick_look(dataset(voc, num_classes=4), ["background", "a", "b", "zebra"])
    assert "zebra" in line


def test_a_missing_file_is_refused_before_any_is_read(voc):
    (voc / "JPEGImages/t9.jpg").unlink()
    (voc / "SegmentationClass/t8.png").unlink()
    with pytest.raises(DataError, match=r"t8\.png: no such file; .*\(1 more are missing\)"):
        quick_look(dataset(voc), limit=1)
    assert "2 pairs cannot be used" in quick_look(dataset(voc), skip=True)[0]


def test_masks_that_do_not_fit_are_refused_with_values_and_fix(voc):
    with pytest.raises(DataError, match=r"t0\.png: value 2 \(64 px\) outside 0\.\.1 .*label_map"):
        quick_look(dataset(voc, num_classes=2))


def binary(folder, names, high):
    for name in names:
        write(
            folder,
            name,
            5,
            np.where(np.arange(32) > 15, high, 0).astype(np.uint8) * np.ones((24, 1), np.uint8),
        )


def test_0_255_masks_are_refused_with_the_label_map_that_helps(voc):
    names = [f"t{i}" for i in range(10)]
    binary(voc, names, 255)
    with pytest.raises(DataError, match=r"hold only 0 and 255.*label_map: \{0: 0, 255: 1\}"):
        quick_look(dataset(voc, num_classes=2))
    assert quick_look(dataset(voc, num_classes=2, label_map={0: 0, 255: 1})) == []
    report = check({"train": dataset(voc, num_classes=2)}, ["no", "yes"])
    assert report.suggestions["data.label_map"] == {0: 0, 255: 1}


def test_masks_of_void_alone_are_refused(voc):
    for index in range(10):
        write(voc, f"t{index}", index, np.full((24, 32), 255, np.uint8))
    with pytest.raises(DataError, match="every pixel is void"):
        quick_look(dataset(voc))


def plant(root):
    """Ten faults and more; returns fault -> (file, words) that the report must hold."""
    masks, images = root / "SegmentationClass", root / "JPEGImages"
    (masks / "t0.png").unlink()
    save_mask(masks / "t1.png", np.zeros((24, 30), np.uint8))
    save_mask(masks / "t2.png", np.full((24, 32), 7, np.uint8))
    color = np.zeros((24, 32, 3), np.uint8)
    color[5:] = [128, 0, 0]
    Image.fromarray(color).save(masks / "t3.png")
    solid = np.zeros((24, 32), np.uint8)
    solid[:, 16:] = 255
    save_mask(masks / "t4.png", solid)
    turned = np.asarray(Image.open(masks / "t5.png")).copy()
    swapped = {0: 1, 1: 2, 2: 0, 255: 255}
    wrong = np.vectorize(swapped.get)(turned).astype(np.uint8)
    palette = list(PALETTE)
    for value, other in swapped.items():
        palette[3 * other : 3 * other + 3] = PALETTE[3 * value : 3 * value + 3]
    save_mask(masks / "t5.png", wrong, palette)
    (images / "t6.jpg").write_bytes((images / "t6.jpg").read_bytes()[:-300])
    (images / "t7.jpg").write_text("not an image")
    save_mask(masks / "t8.png", np.full((24, 32), 255, np.uint8))
    train = root / "ImageSets/Segmentation/train.txt"
    train.write_text(train.read_text() + "t9\n")
    shutil.copy(images / "t9.jpg", images / "v0.jpg")
    (root / "ImageSets/Segmentation/test.txt").write_text("\n")
    return {
        "missing pair": ("t0.png", "no such file"),
        "size mismatch": ("t1.png", "24x30"),
        "label out of range": ("t2.png", "value 7 (768 px) outside 0..2"),
        "colours where ids are expected": ("t3.png", "color_table"),
        "0/255 mask": ("t4.png", "only 0 and 255"),
        "wrong palette": ("t5.png", "palette shows"),
        "truncated image": ("t6.jpg", "truncated"),
        "no image": ("t7.jpg", "is no image"),
        "all void": ("t8.png", "every pixel is void"),
        "duplicate line": ("t9", "2 times in the list"),
        "overlap of train and val": ("v0.jpg", "same picture as"),
    }


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_planted_fault_is_found_and_nothing_else(voc, num_workers):
    planted = plant(voc)
    datasets = {split: dataset(voc, split) for split in ("train", "val")}
    report = check(datasets, ["background", "a", "b"], num_workers=num_workers)
    for kind, (file, words) in planted.items():
        assert [line for line in report.faults if file in line and words in line], (kind, report.faults)
    assert len(report.faults) == len(planted), report.faults
    assert all("\n" not in line for line in report.faults)


def test_an_empty_list_is_a_fault_beside_the_others(voc):
    planted = plant(voc)
    with pytest.raises(DataError) as empty:
        VOC(voc, "test", test="test")
    report = check({"train": dataset(voc), "test": empty.value}, ["background", "a", "b"])
    assert any("test.txt: is empty" in line for line in report.faults)
    assert len(report.faults) == len(planted)  # the overlap is not looked at, the empty list is new


def test_suggestions_fit_the_masks_that_were_found(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for index in range(4):
        Image.fromarray(np.full((8, 8), 10 * index, np.uint8)).save(tmp_path / f"images/{index}.png")
        Image.fromarray(np.array([[1, 2, 3, 255]] * 8, np.uint8).repeat(2, 1)).save(
            tmp_path / f"labels/{index}.png"
        )
    made = SegmentationDataset(Folder(tmp_path, "train"), LabelReader(2), 1)
    report = check({"train": made}, ["a", "b"])
    assert report.suggestions["data.label_map"] == {1: 0, 2: 1, 3: 2}
    assert report.suggestions["data.classes"] == ["a", "b", "class_2"]
    fixed = SegmentationDataset(Folder(tmp_path, "train"), LabelReader(3, label_map={1: 0, 2: 1, 3: 2}), 1)
    again = check({"train": fixed}, ["a", "b", "c"])
    assert again.faults == []
    np.testing.assert_allclose(again.suggestions["loss.0.class_weights"], 1 / np.log(1.02 + 1 / 3), atol=1e-3)
    assert len(again.suggestions["data.normalize"]["mean"]) == 1


@pytest.mark.parametrize(("channels", "notes"), [(3, 1), (4, 0)])
def test_a_fourth_band_that_is_left_out_as_alpha_is_said(channels, notes, tmp_path):
    for folder, picture in (
        ("images", np.zeros((8, 8, 4), np.uint16)),
        ("labels", np.zeros((8, 8), np.uint8)),
    ):
        (tmp_path / folder).mkdir()
        for number in range(2):
            np.save(tmp_path / folder / f"{number}.npy", picture)
    made = SegmentationDataset(Folder(tmp_path, "train"), LabelReader(2), channels)
    report = check({"train": made}, ["a", "b"])
    found = [line for line in report.notes if "has 4 channels; the last is left out as alpha" in line]
    assert len(found) == notes


def test_masks_without_an_image_are_reported(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name in "abc":
        Image.new("L", (8, 8)).save(tmp_path / f"labels/{name}.png")
    for number, name in enumerate("ab"):
        Image.new("L", (8, 8), number).save(tmp_path / f"images/{name}.png")
    made = SegmentationDataset(Folder(tmp_path, "train"), LabelReader(2), 1)
    assert any("c.png: has no image" in line for line in check({"train": made}, ["x", "y"]).faults)


RECIPE = """
data:
  type: VOC
  root: {root}
  classes: [background, a, b]
  normalize: {{scale: 255, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}
  train_transforms: [{{type: RandomCrop, size: [16, 16]}}]
  num_workers: 0
model:
  type: FCN8s
  backbone: {{type: VGG, arch: [1, 1, 1, 1, 1], width: 2}}
  fc_channels: 4
loss: [{{type: CrossEntropy}}]
optimizer: {{type: SGD}}
schedule: {{type: Poly, learning_rate: 0.1}}
train: {{iters: 2}}
"""


def test_the_command_prints_draws_and_writes_its_report(voc, tmp_path, capsys):
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(RECIPE.format(root=voc))
    figures, drawn = tmp_path / "out/report.json", tmp_path / "out/shares.png"
    arguments = ["check-data", "-c", str(recipe), "--json", str(figures), "--figure", str(drawn)]
    assert main(arguments) == 0
    assert "0 faults found" in capsys.readouterr().out
    written = json.loads(figures.read_text())
    assert written["faults"] == 0
    assert written["splits"]["train"]["classes"][1] == {
        "name": "a",
        "pixels": 640,
        "share": 640 / 7040,
        "images": 10,
    }
    assert Image.open(drawn).size[0] > 300
    (voc / "SegmentationClass/t0.png").write_bytes(b"")
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 1
    assert "t0.png: is empty" in capsys.readouterr().out
    assert json.loads(figures.read_text())["faults"] == 1


def test_preview_data_draws_the_augmented_pairs(voc, tmp_path, capsys):
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(RECIPE.format(root=voc))
    output = tmp_path.parent / f"{tmp_path.name}_sheet.png"  # beside the data
    arguments = ["preview-data", "-c", str(recipe), "--output", str(output), "--count", "4"]
    assert main(arguments) == 0
    colors = np.unique(np.asarray(Image.open(output)).reshape(-1, 3), axis=0)
    assert len(colors) > 200  # noise pictures, not an empty page
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


@pytest.mark.real_data
@pytest.mark.parametrize("kind", ["VOC", "camvid", "membrane"])
def test_real_data_sets_have_no_fault(kind):
    import os
    from pathlib import Path

    root = Path(os.environ["PADDLEFCN_DATA"])
    make = {
        "VOC": lambda split: SegmentationDataset(VOC(root, split), LabelReader(21), 3),
        "camvid": lambda split: SegmentationDataset(ListFile(root / "camvid", split), LabelReader(11), 3),
        "membrane": lambda split: SegmentationDataset(
            Folder(root / "membrane", split, images="image", labels="label"),
            LabelReader(2, label_map={0: 0, 255: 1}),
            1,
        ),
    }[kind]
    datasets = {split: make(split) for split in ("train", "val")}
    for each in datasets.values():
        quick_look(each)
    report = check(
        datasets, [f"c{i}" for i in range(datasets["train"].label_reader.num_classes)], num_workers=2
    )
    assert report.faults == []
