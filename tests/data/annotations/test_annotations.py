"""Every annotation tool's export becomes the masks that it stands for, without conversion."""

import json
import pickle
import re

import numpy as np
import pytest

from paddlefcn.data import DATASETS
from paddlefcn.data.annotations.crossings import first_crossing
from paddlefcn.data.annotations.regions import decode_runs, encode_runs, outline
from paddlefcn.data.checks import Inspector, quick_look
from paddlefcn.data.datasets import SegmentationDataset
from paddlefcn.data.labels import LabelReader
from paddlefcn.data.report import check
from paddlefcn.errors import DataError

from . import writers


def everything(root, kind, **arguments):
    """The samples of train and val together: name -> (image, ids)."""
    found = {}
    for split in ("train", "val"):
        source = DATASETS[kind](root, split, **arguments)
        dataset = SegmentationDataset(source, LabelReader(len(source.classes)))
        found.update({dataset.samples[i].name: dataset.read(i) for i in range(len(dataset))})
    return found


@pytest.mark.parametrize("kind", writers.WRITERS)
def test_every_export_becomes_the_masks_it_stands_for(tmp_path, kind):
    expected = writers.WRITERS[kind](tmp_path)
    extra = {} if kind == "CVATMasks" else {"val_fraction": 0.5}
    found = everything(tmp_path, kind, classes=writers.CLASSES, **extra)
    assert set(found) == set(expected)
    for name, ids in expected.items():
        image, label = found[name]
        assert image.shape == (*writers.SIZE, 3)
        np.testing.assert_array_equal(label, ids, err_msg=name)


@pytest.mark.parametrize("kind", writers.WRITERS)
def test_every_kind_travels_to_a_worker(tmp_path, kind):
    writers.WRITERS[kind](tmp_path)
    source = DATASETS[kind](tmp_path, "train", classes=writers.CLASSES)
    dataset = SegmentationDataset(source, LabelReader(3))
    there = pickle.loads(pickle.dumps(dataset))
    for ours, theirs in zip(dataset.read(0), there.read(0)):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", writers.WRITERS)
def test_the_classes_are_found_in_the_tools_own_order(tmp_path, kind):
    writers.WRITERS[kind](tmp_path)
    assert DATASETS[kind](tmp_path, "train", classes=None).classes == writers.CLASSES


@pytest.mark.parametrize("kind", ["LabelMe", "COCO", "CVAT", "YOLOSeg", "Supervisely"])
def test_labels_can_be_renamed_and_ignored_and_unknown_ones_are_named(tmp_path, kind):
    expected = {**writers.WRITERS[kind](tmp_path)}
    found = everything(
        tmp_path, kind, classes=["ground", "thing"], rename={"cell": "thing"}, ignore=["crack"]
    )
    for name, ids in expected.items():
        np.testing.assert_array_equal(found[name][1], np.where(ids == 2, 255, ids))
    with pytest.raises(DataError, match=r"label 'crack' is none of the classes background, craks.*rename"):
        everything(tmp_path, kind, classes=["background", "craks"], rename={"cell": "craks"})


def test_an_object_behind_another_can_be_drawn_first_by_its_area(tmp_path):
    shapes = [
        {"label": "crack", "points": [[2, 2], [9, 9]], "shape_type": "rectangle"},
        {"label": "cell", "points": [[0, 0], [40, 40]], "shape_type": "rectangle"},
    ]
    writers.labelme(tmp_path, shapes)
    hidden = everything(tmp_path, "LabelMe", classes=writers.CLASSES)["a"][1]
    assert set(np.unique(hidden)) == {0, 1}
    shown = everything(tmp_path, "LabelMe", classes=writers.CLASSES, order="area")["a"][1]
    assert (shown[2:10, 2:10] == 2).all()


def test_crowds_are_ignored_or_drawn_and_the_ground_may_be_void(tmp_path):
    expected = writers.coco(tmp_path)["a.jpg"]
    drawn = everything(tmp_path, "COCO", classes=writers.CLASSES, crowd="draw")["a.jpg"][1]
    np.testing.assert_array_equal(drawn, np.where(expected == 255, 2, expected))
    found = everything(tmp_path, "COCO", classes=["crack", "cell"], background="ignore")["a.jpg"][1]
    np.testing.assert_array_equal(found, np.where(expected == 2, 0, np.where(expected == 0, 255, expected)))


def test_coco_outlines_and_run_lengths_are_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for case in range(300):
        height, width = (int(n) for n in rng.integers(5, 90, 2))
        points = rng.uniform(-0.3, 1.3, (int(rng.integers(3, 30)), 2)) * (width, height)
        points = np.rint(points) if case % 2 else points
        encoded = coco.merge(coco.frPyObjects([points.ravel().tolist()], height, width))
        expected = coco.decode(encoded).astype(bool)
        box, inside = outline([[points]])(height, width)
        ours = np.zeros((height, width), bool)
        ours[box] = inside
        np.testing.assert_array_equal(ours, expected)
        text = coco.encode(np.asfortranarray(expected.astype(np.uint8)))["counts"].decode()
        assert encode_runs(expected) == text
        np.testing.assert_array_equal(decode_runs(text, height, width), expected)


def change(path, **values):
    tree = json.loads(path.read_text())
    tree.update(values)
    path.write_text(json.dumps(tree))


def first_shape(path, **values):
    tree = json.loads(path.read_text())
    tree["shapes"][0].update(values)
    path.write_text(json.dumps(tree))


def coco_object(root, number, **values):
    tree = json.loads((root / "annotations.json").read_text())
    tree["annotations"][number].update(values)
    (root / "annotations.json").write_text(json.dumps(tree))


def replaced(path, old, new):
    path.write_text(path.read_text().replace(old, new))


WRONG = [
    ("LabelMe", lambda root: change(root / "a.json", shapes=None), r"a\.json: shapes: expected a list"),
    ("LabelMe", lambda root: (root / "a.jpg").unlink(), r"a\.jpg: no such file"),
    ("LabelMe", lambda root: (root / "a.json").write_text("{"), r"a\.json: is no JSON"),
    ("LabelMe", lambda root: (root / "a.json").write_text("[" * 100000), r"a\.json: is nested too deeply"),
    (
        "LabelMe",
        lambda root: first_shape(root / "a.json", points=[[1, 2]]),
        r"a\.json: .*polygon of 1 points",
    ),
    ("LabelMe", lambda root: first_shape(root / "a.json", points=[[1, 2], [999, 5], [3, 4]]), "far outside"),
    ("LabelMe", lambda root: first_shape(root / "a.json", shape_type="star"), "shape_type 'star' is none of"),
    ("LabelMe", lambda root: change(root / "a.json", imageHeight=40), r"a\.json: is 40x64, its image"),
    ("COCO", lambda root: coco_object(root, 2, segmentation={"size": [9, 9], "counts": [81]}), "size is 9x9"),
    (
        "COCO",
        lambda root: coco_object(root, 2, segmentation={"size": [48, 64], "counts": [9]}),
        "of 9 pixels",
    ),
    (
        "COCO",
        lambda root: coco_object(root, 0, segmentation=[[1, 2, 3]]),
        "expected x, y, … of three or more",
    ),
    ("COCO", lambda root: coco_object(root, 0, image_id=99), "image_id 99 is the id of no image"),
    ("COCO", lambda root: coco_object(root, 0, category_id=99), "category_id 99 is the id of no category"),
    ("COCO", lambda root: (root / "images/a.jpg").unlink(), r"images/a\.jpg: no such file"),
    ("CVAT", lambda root: replaced(root / "annotations.xml", "8.00,8.00;", "8.00;"), "a.jpg: points '8.00;"),
    ("CVAT", lambda root: replaced(root / "annotations.xml", "1, 4, 1", "1, 4"), "run lengths of 5 pixels"),
    ("CVAT", lambda root: replaced(root / "annotations.xml", "</image>", ""), "is no XML"),
    (
        "CVAT",
        lambda root: replaced(root / "annotations.xml", "<annot", "<!DOCTYPE a><annot"),
        "document type",
    ),
    (
        "CVATMasks",
        lambda root: replaced(root / "labelmap.txt", "250", "251"),
        r"a\.png: the colour \[250, 50, 83\]",
    ),
    (
        "CVATMasks",
        lambda root: replaced(root / "labelmap.txt", "crack", "krack"),
        "'krack' is none of the classes",
    ),
    (
        "YOLOSeg",
        lambda root: replaced(root / "labels/train/a.txt", "0 0.125", "5 0.125"),
        r"a\.txt:1: class 5",
    ),
    ("YOLOSeg", lambda root: (root / "labels/train/a.txt").write_text("0 0.5 0.5 1 1"), r"a\.txt:1: a box"),
    (
        "YOLOSeg",
        lambda root: (root / "labels/train/a.txt").write_text("0 9 5 1 1 3 4"),
        "shares of the image",
    ),
    ("YOLOSeg", lambda root: (root / "data.yaml").unlink(), "expected data.yaml"),
    ("Supervisely", lambda root: (root / "meta.json").unlink(), r"^\S*meta\.json: no such file"),
    ("CVAT", lambda root: (root / "annotations.xml").unlink(), r"^\S*annotations\.xml: no such file$"),
    (
        "Supervisely",
        lambda root: change(root / "ds/ann/a.jpg.json", size=3),
        "expected an object with 'height'",
    ),
]


@pytest.mark.parametrize(("kind", "spoil", "part"), WRONG, ids=[f"{k}-{p[:30]}" for k, _, p in WRONG])
def test_a_wrong_file_is_one_line_with_its_name_and_what_is_wrong(tmp_path, kind, spoil, part):
    writers.WRITERS[kind](tmp_path)
    spoil(tmp_path)
    with pytest.raises(DataError, match=part) as caught:
        everything(tmp_path, kind, classes=writers.CLASSES)
    assert "\n" not in str(caught.value)


def test_checks_and_the_quick_look_read_annotations(tmp_path):
    writers.coco(tmp_path)
    source = DATASETS["COCO"](tmp_path, "train", classes=writers.CLASSES, val="annotations.json")
    dataset = SegmentationDataset(source, LabelReader(3))
    assert quick_look(dataset, writers.CLASSES) == []
    report = check({"train": dataset}, writers.CLASSES)
    assert report.faults == []
    assert report.splits[0].class_images.tolist() == [2, 1, 1]
    (tmp_path / "images/a.jpg").unlink()
    assert "a.jpg: no such file" in check({"train": dataset}, writers.CLASSES).faults[0]


RECIPE = """
data:
  type: COCO
  root: {root}
  val: annotations.json
  classes: [background, cell, crack]
  train_transforms: [{{type: RandomCrop, size: [16, 16]}}]
model: {{type: FCN8s, backbone: {{type: VGG, arch: [1, 1, 1, 1, 1], width: 2}}, fc_channels: 4}}
loss: [{{type: CrossEntropy}}]
optimizer: {{type: SGD}}
schedule: {{type: Poly, learning_rate: 0.1}}
train: {{iters: 2}}
"""


def test_a_recipe_gives_its_classes_to_the_annotations(tmp_path):
    from paddlefcn.build import build_dataset, validate
    from paddlefcn.config import load_config

    expected = writers.coco(tmp_path)
    (tmp_path / "recipe.yml").write_text(RECIPE.format(root=tmp_path))
    config = load_config(tmp_path / "recipe.yml")
    validate(config)
    np.testing.assert_array_equal(build_dataset(config, "val").read(0)[1], expected["a.jpg"])


def faults_of(root, kind):
    found = []
    for split in ("train", "val"):
        source = DATASETS[kind](root, split, classes=writers.CLASSES)
        inspect = Inspector(SegmentationDataset(source, LabelReader(len(writers.CLASSES))))
        found += [line for index in range(len(source.samples)) for line in inspect(index).faults]
    return found


@pytest.mark.parametrize("kind", ["LabelMe", "COCO", "CVAT", "YOLOSeg", "Supervisely"])
def test_outlines_that_cross_themselves_are_a_fault_of_the_check_alone(tmp_path, kind):
    points = [[10.0, 10], [40, 40], [40, 10], [10, 40]]  # an hourglass, which crosses at (25, 25)
    writers.WRITERS[kind](tmp_path)
    assert not any("crosses itself" in line for line in faults_of(tmp_path, kind))
    if kind == "LabelMe":
        first_shape(tmp_path / "a.json", shape_type="polygon", points=points)
    elif kind == "COCO":
        coco_object(tmp_path, 0, segmentation=[np.ravel(points).tolist()])
    elif kind == "CVAT":
        file = tmp_path / "annotations.xml"
        text = ";".join(f"{x:.2f},{y:.2f}" for x, y in points)
        file.write_text(re.sub(r'(<polygon [^>]*?points=)"[^"]*"', rf'\1"{text}"', file.read_text(), count=1))
    elif kind == "YOLOSeg":
        shares = " ".join(f"{x / 64} {y / 48}" for x, y in points)
        (tmp_path / "labels/train/a.txt").write_text(f"0 {shares}\n")
    else:
        file = tmp_path / "ds/ann/a.jpg.json"
        tree = json.loads(file.read_text())
        (polygon,) = [item for item in tree["objects"] if item["geometryType"] == "polygon"][:1]
        polygon["points"] = {"exterior": points, "interior": []}
        file.write_text(json.dumps(tree))
    (line,) = [line for line in faults_of(tmp_path, kind) if "crosses itself" in line]
    assert re.search(r"its outline crosses itself at \(25\.0, 25\.0\), .*; redraw it in the tool", line)
    assert everything(tmp_path, kind, classes=writers.CLASSES)  # reading draws it as the tool does


def test_a_crossing_is_found_wherever_it_is_and_a_touch_is_none():
    angles = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    circle = np.stack([50 + 40 * np.cos(angles), 50 + 40 * np.sin(angles)], axis=1)
    assert first_crossing(circle) is None
    knotted = circle.copy()
    knotted[[2500, 2501]] = knotted[[2501, 2500]]
    x, y = first_crossing(knotted)
    assert np.hypot(*(circle[2500] - (x, y))) < 0.2
    bridge = np.array(
        [[0, 0], [10, 0], [10, 10], [5, 10], [5, 8], [7, 5], [3, 5], [5, 8], [5, 10], [0, 10.0]]
    )
    assert first_crossing(bridge) is None
    assert first_crossing(np.array([[0, 0], [4, 0], [4, 4], [2, 0], [0, 4.0]])) is None  # touches an edge
    assert first_crossing(np.array([[0, 0], [4, 0]])) is None
    assert first_crossing(np.zeros((0, 2))) is None
