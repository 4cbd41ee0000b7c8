"""Annotations to masks and masks to annotations: the pixels stay what they were."""

import json

import numpy as np
import pytest
from PIL import Image

from paddlefcn.classes import Classes
from paddlefcn.commands import main
from paddlefcn.data import DATASETS
from paddlefcn.data.convert import edge_loops, write_coco, write_labelme
from paddlefcn.data.datasets import Sample, SegmentationDataset
from paddlefcn.data.images import read_mask
from paddlefcn.data.labels import LabelReader

from . import writers
from .test_annotations import RECIPE, everything


@pytest.mark.parametrize("kind", writers.WRITERS)
def test_every_export_is_written_as_masks_with_lists(tmp_path, kind, capsys):
    expected = writers.WRITERS[kind](tmp_path / "in")
    output = tmp_path / "out"
    arguments = [
        "convert",
        "--type",
        kind,
        "--root",
        str(tmp_path / "in"),
        "--to",
        "masks",
        "--output",
        str(output),
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "type: ListFile" in printed
    assert "- cell\n  - crack" in printed
    found = {}
    for split in ("train", "val"):
        dataset = SegmentationDataset(DATASETS["ListFile"](output, split), LabelReader(3))
        for index, sample in enumerate(dataset.samples):
            found[sample.image.resolve()] = dataset.read(index)[1]
    originals = {path.resolve(): path for path in (tmp_path / "in").rglob("*.jpg")}
    assert set(found) == set(originals)
    for path, ids in found.items():
        match = [
            name
            for name in expected
            if str(path.with_suffix("")).endswith(name.removesuffix(".jpg").split("/")[-1])
        ]
        np.testing.assert_array_equal(ids, expected[match[0]])
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_overwriting_keeps_what_is_not_ours_and_never_touches_what_is_read(tmp_path, capsys):
    writers.labelme(tmp_path / "in")
    arguments = [
        "convert",
        "--type",
        "LabelMe",
        "--root",
        str(tmp_path / "in"),
        "--to",
        "masks",
        "--overwrite",
    ]
    before = sorted((tmp_path / "in").rglob("*"))
    assert main([*arguments, "--output", str(tmp_path / "in")]) == 2
    assert "holds the input" in capsys.readouterr().err
    assert sorted((tmp_path / "in").rglob("*")) == before
    output = tmp_path / "out"
    assert main([*arguments, "--output", str(output)]) == 0
    (output / "masks/mine.txt").write_text("mine")
    (output / "masks/a.png").write_bytes(b"spoiled")
    assert main([*arguments, "--output", str(output)]) == 0
    assert (output / "masks/mine.txt").read_text() == "mine"
    assert read_mask(output / "masks/a.png").shape == writers.SIZE
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/thesis.txt").write_text("years")
    assert main([*arguments, "--output", str(tmp_path / "foreign")]) == 2
    assert (tmp_path / "foreign/thesis.txt").read_text() == "years"


def blobs(rng):
    """Ids of 40x60 with holes, corners that touch, single pixels and void."""
    ids = rng.choice(np.array([0, 0, 0, 1, 2, 255], np.uint8), (40, 60))
    big = np.kron(rng.integers(0, 3, (8, 12)), np.ones((5, 5), int)).astype(np.uint8)
    ids = np.where(rng.random((40, 60)) < 0.9, big, ids)
    ids[10:20, 10:20], ids[13:16, 13:16] = 2, 0
    return ids


@pytest.mark.parametrize("tool", ["labelme", "coco"])
def test_masks_become_annotations_and_the_same_masks_again(tmp_path, tool):
    rng = np.random.default_rng(0)
    classes = Classes(("background", "cell", "crack"))
    pairs = []
    for index in range(4):
        path = tmp_path / f"images/{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (60, 40)).save(path)
        pairs.append((Sample(f"{index}.png", path, path), blobs(rng)))
    if tool == "labelme":
        write_labelme(pairs, classes, tmp_path / "out")
        found = everything(tmp_path / "out", "LabelMe", classes=list(classes.names))
    else:
        write_coco(pairs, classes, tmp_path / "out.json")
        arguments = {"train": "out.json", "images": ".", "ignore": ["void"]}
        found = everything(tmp_path, "COCO", classes=list(classes.names), **arguments)
    assert len(found) == 4
    for sample, ids in pairs:
        name = sample.name.removesuffix(".png") if tool == "labelme" else f"images/{sample.name}"
        np.testing.assert_array_equal(found[name][1], ids)


def test_what_is_written_for_coco_is_read_by_pycocotools(tmp_path):
    api = pytest.importorskip("pycocotools.coco")
    ids = blobs(np.random.default_rng(3))
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    sample = Sample("a", tmp_path / "a.png", None)
    count = write_coco([(sample, ids)], Classes(("background", "cell", "crack")), tmp_path / "a.json")
    coco = api.COCO(tmp_path / "a.json")
    assert len(coco.anns) == count
    drawn = np.zeros_like(ids)
    for annotation in coco.anns.values():
        value = {"cell": 1, "crack": 2, "void": 255}[coco.cats[annotation["category_id"]]["name"]]
        mask = coco.annToMask(annotation).astype(bool)
        assert annotation["area"] == mask.sum()
        drawn[mask] = value
    np.testing.assert_array_equal(drawn, ids)


def test_an_outline_runs_along_the_edges_of_pixels():
    region = np.array([[1, 1, 0], [0, 1, 1]], bool)
    (loop,) = edge_loops(region)
    assert {tuple(point) for point in loop.tolist()} == {
        (0, 0),
        (2, 0),
        (2, 1),
        (3, 1),
        (3, 2),
        (1, 2),
        (1, 1),
        (0, 1),
    }
    assert len(edge_loops(np.pad(np.zeros((1, 1), bool), 1, constant_values=True))) == 2


def test_predictions_go_back_to_the_tool(tmp_path, capsys):
    writers.coco(tmp_path)
    (tmp_path / "recipe.yml").write_text(RECIPE.format(root=tmp_path))
    ids = blobs(np.random.default_rng(1))
    (tmp_path / "new/sub").mkdir(parents=True)
    (tmp_path / "pred/sub").mkdir(parents=True)
    Image.new("RGB", (60, 40)).save(tmp_path / "new/sub/x.jpg")
    Image.fromarray(ids).save(tmp_path / "pred/sub/x.png")
    Image.fromarray(ids).save(tmp_path / "pred/sub/x_overlay.png")
    arguments = [
        "convert",
        "-c",
        str(tmp_path / "recipe.yml"),
        "--to",
        "labelme",
        "--output",
        str(tmp_path / "out"),
    ]
    assert main([*arguments, "--images", str(tmp_path / "new"), "--masks", str(tmp_path / "pred")]) == 0
    assert "1 pictures" in capsys.readouterr().out
    tree = json.loads((tmp_path / "out/sub/x.json").read_text())
    assert tree["imagePath"] == "../../new/sub/x.jpg"
    found = everything(tmp_path / "out", "LabelMe", classes=writers.CLASSES, train=".", val=".")["sub/x"][1]
    np.testing.assert_array_equal(found, ids)
    assert main([*arguments, "--overwrite", "--images", str(tmp_path / "new")]) == 2
    assert "--masks" in capsys.readouterr().err


def test_a_picture_that_cannot_be_converted_is_named_and_the_rest_is_written(tmp_path, capsys):
    writers.labelme(tmp_path / "in")
    (tmp_path / "in/a.jpg").write_bytes(b"no image")
    arguments = ["convert", "--type", "LabelMe", "--root", str(tmp_path / "in"), "--to", "masks"]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 1
    assert "a.jpg: is no image" in capsys.readouterr().out
    np.testing.assert_array_equal(read_mask(tmp_path / "out/masks/b.png"), writers.boxes())


def test_check_data_finds_the_classes_and_prints_what_to_paste(tmp_path, capsys):
    writers.coco(tmp_path)
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(
        RECIPE.format(root=tmp_path).replace("classes: [background, cell, crack]", "classes: auto")
    )
    assert main(["check-data", "-c", str(recipe)]) in (0, 1)
    assert "classes: [background, cell, crack]" in capsys.readouterr().out
    assert main(["train", "-c", str(recipe)]) == 2
    assert "auto is for check_data alone" in capsys.readouterr().err
    (tmp_path / "masks").mkdir()
    for index, name in enumerate(("a", "sub/b")):
        (tmp_path / f"masks/{name}.png").parent.mkdir(exist_ok=True)
        Image.fromarray(np.full(writers.SIZE, index * 2, np.uint8)).save(tmp_path / f"masks/{name}.png")
    options = ["-o", "data={type: Folder, labels: masks, classes: auto, val: null}", f"data.root={tmp_path}"]
    main(["check-data", "-c", str(recipe), *options])
    assert "classes: [background, class_1, class_2]" in capsys.readouterr().out
