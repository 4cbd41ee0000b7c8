"""Published data sets, on small trees in the exact layout: every pair is found and its ids are right."""

import contextlib
import functools
import hashlib
import http.server
import shutil
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from paddlefcn.build import build_dataset
from paddlefcn.config import load_config
from paddlefcn.data.datasets import paired
from paddlefcn.errors import DataError

REST = """
model: {type: FCN8s, backbone: {type: VGG, arch: [1, 1, 1, 1, 1], width: 2}, fc_channels: 4}
loss: [{type: CrossEntropy}]
optimizer: {type: SGD}
schedule: {type: Poly, learning_rate: 0.1}
train: {iters: 2}
"""
BASES = Path(__file__).parents[2] / "configs" / "_base_"


def picture(path, size=(6, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def mask(path, values):
    """A mask of 6x8 whose columns hold the values, repeated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids(values, np.uint8)).save(path)


def ids(values, dtype=np.uint8):
    row = np.resize(np.array(values, dtype), (8, *np.shape(values)[1:]))
    return np.broadcast_to(row, (6, *row.shape)).copy()


def cityscapes(root):
    for split, city in (("train", "aachen"), ("val", "lindau")):
        stem = f"{city}_000000_000019"
        picture(root / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png")
        mask(root / f"gtFine/{split}/{city}/{stem}_gtFine_labelIds.png", [7, 33, 0, 10, 26, 255, 18, 3])
        mask(root / f"gtFine/{split}/{city}/{stem}_gtFine_instanceIds.png", [1])
    return {"train": [0, 18, 255, 255, 13, 255, 255, 255]}


def camvid_segnet(root):
    for split in ("train", "val", "test"):
        picture(root / split / "0001TP_006690.png")
        mask(root / f"{split}annot/0001TP_006690.png", [0, 10, 11, 5])
    return {"train": [0, 10, 255, 5], "test": [0, 10, 255, 5]}


def ade20k(root):
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        picture(root / f"images/{split}/{name}.jpg")
        mask(root / f"annotations/{split}/{name}.png", [0, 1, 150, 77])
    return {"train": [255, 0, 149, 76], "val": [255, 0, 149, 76]}


def isic(root):
    for split in ("Training", "Validation"):
        picture(root / f"ISIC2018_Task1-2_{split}_Input/ISIC_0000000.jpg")
        mask(root / f"ISIC2018_Task1_{split}_GroundTruth/ISIC_0000000_segmentation.png", [0, 255])
    return {"train": [0, 1], "val": [0, 1]}


def deepglobe_roads(root):
    for number in ("100034", "100081"):
        picture(root / f"train/{number}_sat.jpg")
        grey = np.array([0, 255, 3, 250])
        mask(root / f"train/{number}_mask.png", np.stack([grey] * 3, 1))
    picture(root / "valid/100794_sat.jpg")
    return {"train": [0, 1, 0, 1], "val": [0, 1, 0, 1]}


def deepglobe_land_cover(root):
    colors = [
        [0, 255, 255],
        [255, 255, 0],
        [255, 0, 255],
        [0, 250, 0],
        [0, 0, 255],
        [255, 254, 255],
        [2, 0, 0],
    ]
    for number in ("119", "2334"):
        picture(root / f"train/{number}_sat.jpg")
        mask(root / f"train/{number}_mask.png", colors)
    return {"train": [0, 1, 2, 3, 4, 5, 255]}


def oxford_pet(root):
    (root / "annotations").mkdir(parents=True)
    for name, breed in (("Abyssinian_1", 1), ("beagle_2", 5)):
        picture(root / f"images/{name}.jpg")
        mask(root / f"annotations/trimaps/{name}.png", [1, 2, 3])
        split = "trainval" if breed == 1 else "test"
        (root / f"annotations/{split}.txt").write_text(
            f"#Image CLASS-ID SPECIES BREED ID\n{name} {breed} 1 1\n"
        )
    return {"train": [1, 0, 255], "val": [1, 0, 255]}


def coco_stuff(root):
    for split in ("train2017", "val2017"):
        picture(root / f"{split}/000000000139.jpg")
        mask(root / f"stuffthingmaps_trainval2017/{split}/000000000139.png", [0, 10, 12, 89, 91, 181, 255])
    return {"train": [0, 10, 11, 79, 80, 170, 255]}


def brats(root):
    nibabel = pytest.importorskip("nibabel")
    values = np.broadcast_to(np.array([0, 1, 2, 4])[:, None, None], (4, 5, 3))
    for case in ("BraTS20_Training_001", "BraTS20_Training_002"):
        (root / case).mkdir(parents=True)
        for number, part in enumerate(("flair", "t1", "t1ce", "t2", "seg")):
            array = (values if part == "seg" else np.full((4, 5, 3), number)).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), root / f"{case}/{case}_{part}.nii.gz")
    return {"train": [0, 1, 2, 3], "val": [0, 1, 2, 3]}


def brats_2023(root):
    nibabel = pytest.importorskip("nibabel")
    values = np.broadcast_to(np.arange(4)[:, None, None], (4, 5, 3))
    for case in ("BraTS-GLI-00000-000", "BraTS-GLI-00002-000"):
        (root / case).mkdir(parents=True)
        for number, part in enumerate(("t2f", "t1n", "t1c", "t2w", "seg")):
            array = (values if part == "seg" else np.full((4, 5, 3), number)).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), root / f"{case}/{case}-{part}.nii.gz")
    return {"train": [0, 1, 2, 3], "val": [0, 1, 2, 3]}


def voc_sbd(root):
    scipy = pytest.importorskip("scipy.io")
    voc, sbd = root / "VOCdevkit/VOC2012", root / "benchmark_RELEASE/dataset"
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    (sbd / "cls").mkdir(parents=True)
    for name in ("2007_000032", "2008_000002", "2008_000003", "2009_000009"):
        picture(voc / f"JPEGImages/{name}.jpg")
    for name in ("2007_000032", "2009_000009"):
        mask(voc / f"SegmentationClass/{name}.png", [0, 15, 255])
    for name in ("2008_000002", "2008_000003", "2009_000009"):
        struct = {
            "Segmentation": ids([0, 15, 20]),
            "Boundaries": np.zeros((20, 1)),
            "CategoriesPresent": [15],
        }
        scipy.savemat(sbd / f"cls/{name}.mat", {"GTcls": struct}, do_compression=True)
    (voc / "ImageSets/Segmentation/train.txt").write_text("2007_000032\n")
    (voc / "ImageSets/Segmentation/val.txt").write_text("2009_000009\n")
    (sbd / "train.txt").write_text("2008_000002\n2009_000009\n")
    (sbd / "val.txt").write_text("2008_000003\n")
    return {"val": [0, 15, 255]}


TREES = {
    tree.__name__: tree
    for tree in (cityscapes, camvid_segnet, ade20k, isic, deepglobe_roads, deepglobe_land_cover, oxford_pet)
}
TREES.update({tree.__name__: tree for tree in (coco_stuff, brats, brats_2023, voc_sbd)})


def config_of(name, root, tmp_path):
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(f"_base_: {BASES / name.removesuffix('_2023')}.yml\n{REST}")
    return load_config(recipe, [f"data.root={root}"])


@pytest.mark.parametrize("name", TREES)
def test_the_pairs_of_a_published_data_set_are_found_and_its_ids_are_right(tmp_path, name):
    expected = TREES[name](tmp_path / "set")
    config = config_of(name, tmp_path / "set", tmp_path)
    for split, values in expected.items():
        dataset = build_dataset(config, split)
        assert len(dataset) > 0
        image, label = dataset.read(0)
        assert image.shape == (*label.shape, config.data.normalize.channels)
        wanted = np.resize(values, label.shape[1]) if "brats" not in name else np.array(values)
        np.testing.assert_array_equal(label, np.broadcast_to(wanted, label.shape))


@pytest.mark.parametrize("name", TREES)
def test_a_tree_that_is_not_there_and_a_split_without_masks_are_one_line(tmp_path, name):
    config = config_of(name, tmp_path / "none", tmp_path)
    with pytest.raises(DataError, match="none"):
        build_dataset(config, "train")
    TREES[name](tmp_path / "set")
    with pytest.raises(DataError, match="no split 'tset'"):
        build_dataset(config_of(name, tmp_path / "set", tmp_path), "tset")


def test_channels_of_every_year_of_brats_stand_in_one_order(tmp_path):
    for tree in (brats, brats_2023):
        tree(tmp_path / tree.__name__)
        config_of(tree.__name__, tmp_path, tmp_path)  # writes the recipe
        for names, wanted in (("flair, t1, t1ce, t2", [0, 1, 2, 3]), ("t1ce, flair, t2, t1", [2, 0, 3, 1])):
            options = [f"data.root={tmp_path / tree.__name__}", f"data.modalities=[{names}]"]
            image, _ = build_dataset(load_config(tmp_path / "recipe.yml", options), "train").read(0)
            np.testing.assert_array_equal(image[0, 0], wanted)


@contextlib.contextmanager
def served(folder):
    """The address of a server for the files of a folder."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_oxford_pet_is_fetched_unpacked_and_read(tmp_path, monkeypatch):
    expected = oxford_pet(tmp_path / "tree")
    (tmp_path / "tree/annotations/README").write_text("what it is")
    (tmp_path / "tree/annotations/trimaps/._beagle_2.png").write_bytes(b"what macOS adds")
    sums = {}
    for part in ("images", "annotations"):
        with tarfile.open(tmp_path / f"{part}.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "tree" / part, arcname=part)
        sums[part] = "md5:" + hashlib.md5((tmp_path / f"{part}.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setattr(paired, "_PET_CHECKSUMS", sums)
    config_of("oxford_pet", tmp_path / "new", tmp_path)
    config = load_config(tmp_path / "recipe.yml", [f"data.root={tmp_path / 'new'}", "data.download=true"])
    with served(tmp_path) as address:
        monkeypatch.setattr(paired, "_PET", address)
        for split, values in expected.items():
            dataset = build_dataset(config, split)
            assert len(dataset) == 1
            np.testing.assert_array_equal(dataset.read(0)[1], ids(values))
    monkeypatch.setattr(paired, "_PET", "http://127.0.0.1:9")  # what is there is not fetched again
    assert len(build_dataset(config, "train")) == 1
    shutil.rmtree(tmp_path / "new")
    monkeypatch.setattr(paired, "_PET_CHECKSUMS", dict(sums, images="md5:" + "0" * 32))
    with served(tmp_path) as address:
        monkeypatch.setattr(paired, "_PET", address)
        with pytest.raises(DataError, match="damaged on the way, or not the published file"):
            build_dataset(config, "train")


def test_voc_with_sbd_trains_on_all_that_is_not_held_out(tmp_path):
    voc_sbd(tmp_path)
    config = config_of("voc_sbd", tmp_path, tmp_path)
    dataset = build_dataset(config, "train")
    assert [s.name for s in dataset.samples] == ["2007_000032", "2008_000002", "2008_000003"]
    np.testing.assert_array_equal(dataset.read(1)[1], ids([0, 15, 20]))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/seg11valid.txt").write_text("2008_000003\n")
    recipe = yaml.safe_load((tmp_path / "recipe.yml").read_text())
    recipe["data"] = {"root": str(tmp_path), "val": "seg11valid"}
    (tmp_path / "recipe.yml").write_text(yaml.safe_dump(recipe))
    clean = load_config(tmp_path / "recipe.yml")
    assert [s.name for s in build_dataset(clean, "train").samples] == [
        "2007_000032",
        "2008_000002",
        "2009_000009",
    ]
    assert [s.name for s in build_dataset(clean, "val").samples] == ["2008_000003"]


def test_ids_that_a_data_set_does_not_have_are_refused(tmp_path):
    coco_stuff(tmp_path)
    mask(tmp_path / "stuffthingmaps_trainval2017/val2017/000000000139.png", [11])
    with pytest.raises(DataError, match=r"139\.png: holds ids that COCO-Stuff does not have"):
        build_dataset(config_of("coco_stuff", tmp_path, tmp_path), "val").read(0)


@pytest.mark.parametrize(("name", "count"), [("ade20k", 150), ("coco_stuff", 171), ("cityscapes", 19)])
def test_the_class_lists_are_complete(tmp_path, name, count):
    assert len(config_of(name, tmp_path, tmp_path).data.classes) == count
