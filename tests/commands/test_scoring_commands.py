"""score and compare as a user runs them, and the options that val shares with score."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from paddlefcn.classes import Classes
from paddlefcn.commands import main
from paddlefcn.metrics import ConfusionMatrix
from paddlefcn.visualize import write_palette_png

NAMES = ["a", "sub/b", "c", "d"]


def save(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_palette_png(path, ids, Classes(("a",)))


@pytest.fixture
def folders(tmp_path):
    """Labels with void, and predictions of which a tenth is wrong; ids 0, 2 and 7."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        label = rng.choice([0, 2, 7], (16, 20))
        pred = np.where(rng.random(label.shape) < 0.1, rng.choice([0, 2, 7], label.shape), label)
        save(tmp_path / "labels" / f"{name}.png", np.where(rng.random(label.shape) < 0.1, 255, label))
        save(tmp_path / "pred" / f"{name}.png", pred)
    return tmp_path


def run(command, *words):
    return main([command, *(str(word) for word in words)])


def score(folder, *more):
    return run("score", "--pred", folder / "pred", "--labels", folder / "labels", *more)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_without_a_recipe_the_classes_are_the_ids_found_and_255_is_not_scored(folders, capsys):
    assert score(folders, "--json", folders / "s.json", "--per-image", folders / "s.csv") == 0
    out = capsys.readouterr().out
    assert "mean IoU" in out
    assert "draws of such images" in out
    found = read(folders / "s.json")
    assert [row["name"] for row in found["per_class"]] == ["0", "2", "7"]
    matrix = ConfusionMatrix(8)
    for name in NAMES:
        pred, label = (np.asarray(Image.open(folders / kind / f"{name}.png")) for kind in ("pred", "labels"))
        matrix.update(pred, label)
    assert found["mean_iou"] == pytest.approx(matrix.scores().mean_iou)
    assert [image["image"] for image in found["per_image"]] == ["a", "c", "d", "sub/b"]
    rows = list(csv.reader((folders / "s.csv").read_text(encoding="utf-8").splitlines()))
    assert [row[0] for row in rows] == ["image", "a", "c", "d", "sub/b"]


def test_a_recipe_gives_names_and_maps_what_stands_in_the_masks(folders, tiny):
    shared = ["--json", folders / "s.json", "--overwrite"]
    options = ["data.label_map={0: 0, 2: 1, 7: 5}"]
    assert score(folders, *tiny(*options), *shared, "--pred-like-labels") == 0
    found = read(folders / "s.json")
    assert [row["pixels"] > 0 for row in found["per_class"]] == [True, True, False, False, False, True]
    assert found["per_class"][1]["name"] == "disk"
    assert found["pixel_accuracy"] > 0.9
    for name in NAMES:  # as `predict` writes them: class ids
        ids = np.asarray(Image.open(folders / "pred" / f"{name}.png"))
        save(folders / "pred" / f"{name}.png", np.choose(np.searchsorted([0, 2, 7], ids), [0, 1, 5]))
    assert score(folders, *tiny(*options), *shared) == 0
    assert read(folders / "s.json") == found


def test_files_beside_the_predictions_are_left_out_and_named(folders, capsys):
    save(folders / "pred" / "a_overlay.png", np.zeros((3, 3), int))
    assert score(folders) == 0
    assert "1 files of" in capsys.readouterr().out
    (folders / "names.txt").write_text("c\nd\n")
    (folders / "pred" / "a.png").unlink()
    assert score(folders, "--names", folders / "names.txt") == 0
    assert "over 2 images" in capsys.readouterr().out


def test_ends_of_names_are_taken_off_before_pairing(folders, capsys):
    for kind, end in (("pred", "_p"), ("labels", "_gt")):
        for path in list((folders / kind).rglob("*.png")):
            path.rename(path.with_name(path.stem + end + ".png"))
    assert score(folders, "--pred-suffix", "_p", "--label-suffix", "_gt") == 0
    assert "over 4 images" in capsys.readouterr().out


def test_unlabelled_predictions_are_refused_or_left_out_and_counted(folders, capsys):
    pred = np.asarray(Image.open(folders / "pred" / "a.png")).copy()
    pred[:8] = 255
    save(folders / "pred" / "a.png", pred)
    assert score(folders) == 2
    assert "hold 255, no class; --leave-out-unlabelled" in capsys.readouterr().err
    assert score(folders, "--leave-out-unlabelled", "--json", folders / "s.json") == 0
    assert "% of the pixels are unlabelled and left out" in capsys.readouterr().out
    label = np.asarray(Image.open(folders / "labels" / "a.png"))
    assert read(folders / "s.json")["unlabelled_pixels"] == (label[:8] != 255).sum()


def test_borders_are_scored_and_written_with_their_intervals(folders, capsys):
    assert score(folders, "--borders", "--tolerance", 1, "--trimap", 1, 3, "--json", folders / "s.json") == 0
    assert "boundary IoU" in capsys.readouterr().out
    found = read(folders / "s.json")
    assert [part["width"] for part in found["borders"]["trimap"]] == [1, 3]
    assert found["borders"]["tolerance"] == 1
    low, high = found["intervals"]["boundary_iou"]
    assert low <= found["borders"]["boundary_iou"] <= high
    assert len(found["per_image"][0]["borders"]["f1"]) == 3


def test_compare_says_whether_a_difference_is_more_than_chance(folders, capsys):
    assert score(folders, "--borders", "--json", folders / "a.json") == 0
    rng = np.random.default_rng(1)
    for name in NAMES:
        path = folders / "pred" / f"{name}.png"
        ids = np.asarray(Image.open(path))
        save(path, np.where(rng.random(ids.shape) < 0.3, 0, ids))
    assert score(folders, "--borders", "--json", folders / "b.json") == 0
    capsys.readouterr()
    files = [folders / "a.json", folders / "b.json"]
    assert run("compare", *files, "--json", folders / "c.json", "--permutations", 500) == 0
    out = capsys.readouterr().out
    assert "over 4 images, B - A" in out
    assert "A is higher by no more than chance" in out  # of 16 exchanges of 4 images two are as large
    found = {each["score"]: each for each in read(folders / "c.json")["differences"]}
    assert found["mean_iou"]["difference"] < 0
    assert found["mean_iou"]["p_value"] == pytest.approx(2 / 16, abs=0.05)
    assert "boundary_f1" in found


def edited(folders, change):
    """a.json with its tree changed."""
    tree = read(folders / "a.json")
    change(tree)
    (folders / "b.json").write_text(json.dumps(tree))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda tree: tree["per_image"].pop(), "1 images are in one alone, as 'sub/b'"),
        (lambda tree: tree["per_image"][1].update(true=[1, 2, 3]), "the truth of 'c' differs"),
        (lambda tree: tree.update(convention="paddleseg"), "score both by one convention"),
        (lambda tree: tree.pop("per_image"), "is no report with per_image"),
        (lambda tree: tree["per_image"][0].update(hit=[1]), "is no report with per_image"),
        (lambda tree: tree["per_image"][0].update(hit=None), "is no report with per_image"),
        (lambda tree: tree["per_image"].append(tree["per_image"][0]), "an image stands twice"),
        (
            lambda tree: [i.update(true=[1], predicted=[1], hit=[1]) for i in tree["per_image"]],
            "has 3 classes",
        ),
    ],
)
def test_reports_that_cannot_be_compared_are_refused_in_one_line(folders, capsys, change, expected):
    assert score(folders, "--json", folders / "a.json") == 0
    edited(folders, change)
    capsys.readouterr()
    assert run("compare", folders / "a.json", folders / "b.json") == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--tolerance", "1"], "--tolerance is for border scores; add --borders"),
        (["--borders", "--tolerance", "-1"], "--tolerance -1.0: expected pixels, 0 or more"),
        (["--borders", "--trimap", "3", "1"], "--trimap [3, 1]: expected rising widths"),
        (["--ignore-index", "-1"], "--ignore-index -1: expected 0 to 65535"),
        (["--pred-like-labels"], "--pred-like-labels is about a recipe; give one with -c"),
        (["-o", "a=1"], "-o is about a recipe"),
        (["--names", "nowhere.txt"], "nowhere.txt"),
        (["--pred-suffix", "_x"], "none for 'a' and 3 more of 4 labels"),
        (["--label-suffix", "_x"], "no mask below"),
        (["--json", "one", "--per-image", "one"], "name one file; give two"),
        (["--json", "."], "is a folder; give a file"),
    ],
)
def test_wrong_values_of_score_give_one_line(folders, capsys, words, expected):
    assert score(folders, *words) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_a_file_that_stands_is_replaced_with_overwrite_alone(folders, capsys):
    (folders / "s.json").write_text("mine")
    assert score(folders, "--json", folders / "s.json") == 2
    assert "exists; choose another or --overwrite" in capsys.readouterr().err
    assert (folders / "s.json").read_text() == "mine"
    assert score(folders, "--json", folders / "s.json", "--overwrite") == 0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (np.zeros((5, 5), np.uint8), "is 5x5, its label"),
        (np.dstack([np.eye(20, dtype=np.uint8)[:16]] * 2 + [np.zeros((16, 20), np.uint8)]), "holds colours"),
    ],
)
def test_a_prediction_that_does_not_fit_is_named(folders, capsys, content, expected):
    Image.fromarray(content).save(folders / "pred" / "c.png")
    assert score(folders) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "c.png" in error


def test_masks_of_a_thousand_values_are_no_class_ids(folders, capsys):
    Image.fromarray(np.arange(2000, dtype=np.uint16).reshape(40, 50)).save(folders / "pred" / "c.png")
    assert score(folders) == 2
    assert "expected class ids" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"), [(["--permutations", "3"], "100 to"), (["--seed", "-1"], "--seed")]
)
def test_wrong_values_of_compare_give_one_line(folders, capsys, words, expected):
    assert score(folders, "--json", folders / "a.json") == 0
    assert run("compare", folders / "a.json", folders / "a.json", *words) == 2
    assert expected in capsys.readouterr().err
    assert run("compare", folders / "a.json", folders / "none.json") == 2
    assert "No such file" in capsys.readouterr().err
    (folders / "none.json").write_text("{")
    assert run("compare", folders / "a.json", folders / "none.json") == 2
    assert "is not JSON" in capsys.readouterr().err
