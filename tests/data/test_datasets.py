"""Where the pairs are: VOC, list files, folders, and what is wrong with each."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddlefcn.data import DATASETS
from paddlefcn.data.datasets import VOC, Folder, ListFile, SegmentationDataset
from paddlefcn.data.labels import LabelReader
from paddlefcn.errors import DataError


def write_pair(image, label, value=1, size=(8, 9)):
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(image)
    Image.fromarray(np.full(size, value, np.uint8)).save(label)


def make_voc(root, names=("a", "b")):
    for number, name in enumerate(names):
        write_pair(root / f"JPEGImages/{name}.jpg", root / f"SegmentationClass/{name}.png", number)
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(names) + "\n")
    (lists / "val.txt").write_text(f"\ufeff{names[0]}\n\n")
    return root


@pytest.mark.parametrize("below", ["", "VOCdevkit/VOC2012", "VOC2012", "VOCdevkit/VOC2007"])
def test_voc_is_found_at_or_below_the_root(tmp_path, below):
    make_voc(tmp_path / below)
    assert [s.name for s in VOC(tmp_path, "train").samples] == ["a", "b"]
    assert [s.name for s in VOC(tmp_path, "val").samples] == ["a"]  # a byte-order mark is no part of a name
    dataset = SegmentationDataset(VOC(tmp_path, "train"), LabelReader(2), 3)
    image, label = dataset.read(1)
    assert image.shape == (8, 9, 3)
    assert (label == 1).all()


def test_several_lists_make_one_split(tmp_path):
    make_voc(tmp_path)
    assert len(VOC(tmp_path, "train", train=["train", "val"]).samples) == 3


@pytest.mark.parametrize(
    ("line", "separator"),
    [
        ("i/a.png l/a.png", None),
        ("i/a.png\tl/a.png", None),
        ("i/a.png, l/a.png", ","),
    ],
)
def test_list_files_give_pairs(tmp_path, line, separator):
    write_pair(tmp_path / "i/a.png", tmp_path / "l/a.png")
    (tmp_path / "train.txt").write_text(line + "\r\n\n")
    (sample,) = ListFile(tmp_path, "train", separator=separator).samples
    assert (sample.image, sample.label) == (tmp_path / "i/a.png", tmp_path / "l/a.png")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"a.png\n", "train.txt:1"),
        (b"x y\na b c\n", "train.txt:2"),
        (b"\xff\xfe\x00", "is not UTF-8"),
    ],
)
def test_a_wrong_list_is_named_with_its_line(tmp_path, content, part):
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(DataError, match=part):
        ListFile(tmp_path, "train")
    with pytest.raises(DataError, match="No such file"):
        ListFile(tmp_path, "val")


def test_folders_are_split_by_seed_without_overlap(tmp_path):
    for number in range(10):
        write_pair(tmp_path / f"images/s/{number}.jpg", tmp_path / f"labels/s/{number}.png")
    train, val = (Folder(tmp_path, split).samples for split in ("train", "val"))
    assert len(train) == 8
    assert len(val) == 2
    assert not {s.name for s in train} & {s.name for s in val}
    assert Folder(tmp_path, "val").samples == val
    other = [Folder(tmp_path, "val", seed=seed).samples for seed in range(5)]
    assert any(samples != val for samples in other)


def test_folders_with_a_subfolder_for_each_split_and_a_label_suffix(tmp_path):
    for split, name in (("t", "a"), ("t", "b"), ("v", "c")):
        write_pair(tmp_path / f"images/{split}/{name}.png", tmp_path / f"labels/{split}/{name}_mask.png")
    made = Folder(tmp_path, "train", train="t", val="v", label_suffix="_mask")
    assert [s.name for s in made.samples] == ["a", "b"]
    assert [s.name for s in Folder(tmp_path, "val", train="t", val="v", label_suffix="_mask").samples] == [
        "c"
    ]


def test_folders_report_what_has_no_partner(tmp_path):
    for name in "abc":
        write_pair(tmp_path / f"images/{name}.png", tmp_path / f"labels/{name}.png")
    (tmp_path / "labels/b.png").unlink()
    (tmp_path / "images/c.png").unlink()
    source = Folder(tmp_path, "train", val_fraction=0.5)
    assert any("c.png" in line for line in source.remarks)
    with pytest.raises(DataError, match=r"b\.png: has no mask"):
        read_all(tmp_path)


def read_all(root):
    for split in ("train", "val"):
        dataset = SegmentationDataset(Folder(root, split), LabelReader(2), 3)
        for index in range(len(dataset)):
            dataset.read(index)


def test_folders_without_common_names_say_so(tmp_path):
    write_pair(tmp_path / "images/a.png", tmp_path / "labels/a_gt.png")
    with pytest.raises(DataError, match="label_suffix"):
        Folder(tmp_path, "train")


def test_image_and_mask_of_two_sizes_are_refused(tmp_path):
    write_pair(tmp_path / "images/a.png", tmp_path / "labels/a.png")
    write_pair(tmp_path / "images/b.png", tmp_path / "labels/b.png")
    Image.new("L", (8, 9)).save(tmp_path / "labels/a.png")
    with pytest.raises(DataError, match=r"a\.png: is 9x8, its image .*a\.png is 8x9.*EXIF"):
        read_all(tmp_path)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_data_set_refuses_a_split_it_does_not_have(tmp_path, name):
    make_voc(tmp_path)
    write_pair(tmp_path / "images/a.png", tmp_path / "labels/a.png")
    with pytest.raises(DataError, match="no split 'tset'"):
        DATASETS[name](tmp_path, "tset")


def real_root():
    return Path(os.environ["PADDLEFCN_DATA"])


@pytest.mark.real_data
def test_the_real_voc_is_read():
    dataset = SegmentationDataset(VOC(real_root(), "val"), LabelReader(21), 3)
    assert len(dataset) == 227
    image, label = dataset.read(0)
    assert image.shape[:2] == label.shape
    assert set(np.unique(label)) <= {*range(21), 255}


@pytest.mark.real_data
def test_the_real_camvid_is_read():
    dataset = SegmentationDataset(ListFile(real_root() / "camvid", "val"), LabelReader(11), 3)
    assert len(dataset) == 101
    assert dataset.read(0)[0].shape == (360, 480, 3)


@pytest.mark.real_data
def test_the_real_membrane_is_read_and_split():
    root = real_root() / "membrane"
    parts = [Folder(root, split, images="image", labels="label") for split in ("train", "val")]
    assert [len(part.samples) for part in parts] == [24, 6]
    dataset = SegmentationDataset(parts[1], LabelReader(2, label_map={0: 0, 255: 1}), 1)
    image, label = dataset.read(0)
    assert image.shape == (512, 512, 1)
    assert set(np.unique(label)) == {0, 1}
