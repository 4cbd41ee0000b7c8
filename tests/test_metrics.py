"""The scores against hand-computed cases, others' definitions, and the authors' own output."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from paddlefcn.metrics import CONVENTIONS, ConfusionMatrix

# three classes; class 0 has 4 pixels, class 1 has 3, class 2 none but one pixel is predicted as 2
LABEL = np.array([[0, 0, 0, 0], [1, 1, 1, 255]], np.uint8)
PRED = np.array([[0, 0, 0, 1], [1, 1, 2, 0]], np.uint8)


def scored(convention="paper", num_classes=3, label=LABEL, pred=PRED):
    matrix = ConfusionMatrix(num_classes)
    matrix.update(pred, label)
    return matrix.scores(convention=convention)


def by_the_definitions(matrix, convention):
    """Every score by NaN arithmetic, which shares no line with the code under test."""
    n = matrix.astype(np.float64)
    truth, predicted, right = n.sum(1), n.sum(0), np.diag(n)
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = {
            "iou": right / (truth + predicted - right),
            "accuracy": right / truth,
            "precision": right / predicted,
            "recall": right / truth,
            "dice": 2 * right / (truth + predicted),
        }
    if convention == "paddleseg":
        rows = {key: np.nan_to_num(row, nan=0.0) for key, row in rows.items()}
    means = {
        "pixel_accuracy": right.sum() / truth.sum(),
        "mean_accuracy": np.nanmean(rows["accuracy"]),
        "mean_iou": np.nanmean(rows["iou"]),
        "mean_dice": np.nanmean(rows["dice"]),
        "frequency_weighted_iou": np.nansum(truth * rows["iou"]) / truth.sum(),
    }
    return means, rows


def test_scores_equal_a_case_computed_by_hand():
    scores = scored()
    assert scores.pixel_accuracy == pytest.approx(5 / 7)
    assert scores.mean_accuracy == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert scores.mean_iou == pytest.approx((3 / 4 + 2 / 4 + 0) / 3)
    assert scores.frequency_weighted_iou == pytest.approx((4 * 3 / 4 + 3 * 2 / 4) / 7)
    assert scores.mean_dice == pytest.approx((6 / 7 + 4 / 6 + 0) / 3)
    assert scores.confusion_matrix == ((3, 1, 0), (0, 2, 1), (0, 0, 0))
    assert [row.pixels for row in scores.per_class] == [4, 3, 0]
    assert scores.per_class[1].precision == pytest.approx(2 / 3)
    assert scores.images == 1


def test_an_ignored_pixel_counts_neither_as_truth_nor_as_prediction():
    with_void = scored()
    pred = PRED.copy()
    pred[1, 3] = 2  # the pixel whose label is 255
    assert scored(pred=pred) == with_void


def test_a_class_predicted_but_absent_from_the_truth_has_iou_0_and_no_accuracy():
    row = scored().per_class[2]
    assert (row.iou, row.dice, row.precision) == (0, 0, 0)
    assert row.accuracy is None
    assert row.recall is None


def test_a_class_absent_from_both_is_left_out_as_in_the_paper_and_is_0_for_paddleseg():
    assert scored(num_classes=4).mean_iou == pytest.approx(1.25 / 3)
    assert scored("mmsegmentation", num_classes=4).mean_iou == pytest.approx(1.25 / 3)
    assert scored("paddleseg", num_classes=4).mean_iou == pytest.approx(1.25 / 4)
    assert scored(num_classes=4).per_class[3].iou is None
    assert scored("paddleseg", num_classes=4).per_class[3].iou == 0


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("seed", range(4))
def test_every_score_follows_the_definitions_of_its_convention(convention, seed):
    rng = np.random.default_rng(seed)
    matrix = ConfusionMatrix(9)
    # classes 6..8 never appear as truth, 8 is never predicted either
    label = rng.integers(0, 6, (3, 20, 21)).astype(np.uint8)
    label[rng.random(label.shape) < 0.1] = 255
    pred = np.where(rng.random(label.shape) < 0.5, np.minimum(label, 7), rng.integers(0, 8, label.shape))
    matrix.update(pred, label)
    scores = matrix.scores(convention=convention)
    means, rows = by_the_definitions(matrix.matrix, convention)
    for name, value in means.items():
        assert getattr(scores, name) == pytest.approx(value, rel=1e-12), name
    for name, values in rows.items():
        got = [getattr(row, name) for row in scores.per_class]
        expected = [None if np.isnan(value) else pytest.approx(value, rel=1e-12) for value in values]
        assert got == expected, name
    assert scores.images == 3
    assert scores.to_dict()["convention"] == convention


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_every_integer_type_gives_the_same_matrix(dtype):
    matrix = ConfusionMatrix(3)
    matrix.update(PRED.astype(np.int32), LABEL.astype(dtype))
    assert matrix.matrix.tolist() == [[3, 1, 0], [0, 2, 1], [0, 0, 0]]


def test_more_than_256_classes_and_a_negative_ignore_index_work():
    matrix = ConfusionMatrix(300, ignore_index=-1)
    matrix.update(np.array([299, 5, 7]), np.array([299, -1, 260]))
    assert matrix.matrix.sum() == 2
    assert matrix.matrix[299, 299] == 1
    assert matrix.matrix[260, 7] == 1


def test_ignore_index_may_be_one_of_the_class_ids():
    for dtype in (np.uint8, np.int64):
        matrix = ConfusionMatrix(3, ignore_index=0)
        matrix.update(np.array([0, 1, 2]), np.array([0, 1, 0], dtype))
        assert matrix.matrix.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_a_label_outside_the_classes_is_refused_with_its_value(dtype):
    with pytest.raises(ValueError, match=r"label holds \[38\], outside 0\.\.2"):
        ConfusionMatrix(3).update(np.zeros(2, np.uint8), np.array([38, 255], dtype))


def test_a_prediction_outside_the_classes_and_unequal_shapes_and_floats_are_refused():
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=r"pred holds 0\.\.3"):
        matrix.update(np.array([0, 3]), np.array([0, 1]))
    with pytest.raises(ValueError, match="must be equal"):
        matrix.update(np.zeros((2, 3), int), np.zeros((3, 2), int))
    with pytest.raises(ValueError, match="must be integers"):
        matrix.update(np.zeros(2), np.zeros(2, int))
    assert matrix.matrix.sum() == 0


def test_matrices_of_parts_add_up_to_the_matrix_of_the_whole():
    first, second, whole = ConfusionMatrix(3), ConfusionMatrix(3), ConfusionMatrix(3)
    first.update(PRED[:1], LABEL[:1])
    second.update(PRED[1:], LABEL[1:])
    whole.update(PRED, LABEL)
    total = first + second
    assert (total.matrix == whole.matrix).all()
    assert total.images == 2
    with pytest.raises(ValueError, match="cannot add"):
        first + ConfusionMatrix(4)


def test_nothing_scored_gives_null_and_valid_json():
    scores = scored(label=np.full_like(LABEL, 255))
    plain = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    for name in ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou"):
        assert plain[name] is None
    assert "mean IoU" in scores.table()


def test_the_json_has_the_promised_keys():
    plain = scored().to_dict()
    expected = "pixel_accuracy mean_accuracy mean_iou frequency_weighted_iou mean_dice per_class"
    assert set(plain) == {*expected.split(), "confusion_matrix", "images", "convention"}
    keys = {"name", "iou", "accuracy", "precision", "recall", "dice", "pixels"}
    assert set(plain["per_class"][0]) == keys


def test_the_table_lines_up_with_chinese_names_and_says_its_convention():
    matrix = ConfusionMatrix(3)
    matrix.update(PRED, LABEL)
    lines = matrix.scores(["背景", "road", "c"]).table().splitlines()
    # a Chinese character takes two columns, so its line is shorter by one character for each
    assert len(lines[1]) + 2 == len(lines[2]) == len(lines[0])
    assert lines[-1].endswith("convention: paper")
    assert "2 of 3 classes present" in lines[-1]


def test_wrong_names_and_conventions_are_refused():
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match="2 class names for 3 classes"):
        matrix.scores(["a", "b"])
    with pytest.raises(ValueError, match="paper, mmsegmentation, paddleseg"):
        matrix.scores(convention="cityscapes")
    with pytest.raises(ValueError, match="at least 1"):
        ConfusionMatrix(0)


@pytest.mark.real_data
@pytest.mark.skipif("PADDLEFCN_DATA" not in os.environ, reason="PADDLEFCN_DATA is not set")
def test_the_score_of_the_authors_own_output_is_reproduced_to_six_digits():
    from PIL import Image

    folder = Path(os.environ["PADDLEFCN_DATA"]) / ".." / "golden" / "fcn8s_voc_demo"
    label = np.asarray(Image.open(folder / "label.png"))
    colours = np.asarray(Image.open(folder / "output.png").convert("RGB")).astype(int)
    pred = np.full(label.shape, 99)
    for index, colour in {0: (0, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128)}.items():
        pred[(colours == colour).all(-1)] = index
    matrix = ConfusionMatrix(21)
    matrix.update(pred, label)
    scores = matrix.scores()
    assert matrix.matrix.sum() == 149_715
    assert round(scores.pixel_accuracy, 6) == 0.842514
    assert round(scores.mean_accuracy, 6) == 0.845463
    assert round(scores.mean_iou, 6) == 0.719616
    assert round(scores.frequency_weighted_iou, 6) == 0.727374
    each = [round(scores.per_class[index].iou, 6) for index in (0, 2, 15)]
    assert each == [0.777294, 0.662082, 0.719470]
