"""The report that val and score share, and its intervals and comparisons."""

import csv
import io
import json
import math

import numpy as np
import pytest

from paddlefcn.borders import BorderCounter
from paddlefcn.metrics import CONVENTIONS, ConfusionMatrix
from paddlefcn.scoring.report import Scorer
from paddlefcn.scoring.statistics import REGION_SCORES, bootstrap, paired_differences, weighted_scores

NAMES = ["back, ground", "路", "car"]


def maps(seed, wrong=0.2, size=(18, 23), classes=3):
    """A label map with void, and a prediction of which `wrong` is random."""
    rng = np.random.default_rng(seed)
    label = np.kron(rng.integers(0, classes, (3, 4)), np.ones((6, 6), int))[: size[0], : size[1]]
    label = np.where(rng.random(size) < 0.05, 255, label).astype(np.uint8)
    truth = np.where(label == 255, 0, label)
    return np.where(rng.random(size) < wrong, rng.integers(0, classes, size), truth).astype(np.uint8), label


def scored(seeds=range(6), wrong=0.2, borders=True, **arguments):
    scorer = Scorer(NAMES, borders=BorderCounter(3) if borders else None, **arguments)
    for seed in seeds:
        scorer.add(f"image {seed}", *maps(seed, wrong))
    return scorer


def test_the_counts_of_the_images_add_up_to_the_confusion_matrix():
    report = scored().report().to_dict()
    matrix = np.array(report["confusion_matrix"])
    total = {
        key: np.sum([image[key] for image in report["per_image"]], axis=0)
        for key in ("true", "predicted", "hit")
    }
    assert total["true"].tolist() == matrix.sum(axis=1).tolist()
    assert total["predicted"].tolist() == matrix.sum(axis=0).tolist()
    assert total["hit"].tolist() == np.diag(matrix).tolist()
    json.dumps(report, allow_nan=False)


def test_each_image_has_the_scores_it_would_have_alone():
    for seed, image in enumerate(scored(borders=False).report().per_image):
        matrix = ConfusionMatrix(3)
        matrix.update(*maps(seed))
        assert image.mean_iou == pytest.approx(matrix.scores().mean_iou)
        assert image.pixel_accuracy == pytest.approx(matrix.scores().pixel_accuracy)


def test_the_csv_has_a_line_for_each_image_and_an_empty_cell_where_there_is_no_score():
    scorer = scored([1])
    scorer.add("only, one", np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8))
    scorer.add("void", np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8))
    rows = list(csv.reader(io.StringIO(scorer.report().per_image_csv())))
    assert rows[0][:6] == ["image", "pixel_accuracy", "mean_iou", "iou back, ground", "iou 路", "iou car"]
    assert rows[2] == ["only, one", "1", "1", "1", "", "", "1", "1", "1", "0"]
    assert rows[3][1:] == [""] * 9


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_scores_under_weights_are_those_of_a_split_that_holds_the_images_so_often(convention):
    scorer = scored(convention=convention)
    weights = np.array([[1, 1, 1, 1, 1, 1], [0, 2, 0, 1, 0, 3], [0, 0, 0, 0, 0, 0]])
    found = weighted_scores(scorer.counts(), weights, convention)
    for row, often in enumerate(weights[:2]):
        seeds = [seed for seed, times in enumerate(often) for _ in range(times)]
        wanted = scored(seeds, convention=convention).report()
        for name in REGION_SCORES:
            assert found[name][row] == pytest.approx(getattr(wanted.scores, name)), name
        for name in ("boundary_iou", "boundary_f1", "normalised_surface_distance", "hausdorff95"):
            assert found[name][row] == pytest.approx(getattr(wanted.borders, name), abs=2e-6), name
        assert list(found["trimap"][row]) == pytest.approx([part.mean_iou for part in wanted.borders.trimap])
    assert math.isnan(found["pixel_accuracy"][2])


def test_the_interval_is_that_of_images_drawn_one_by_one():
    scorer = scored(range(30), borders=False)
    low, high = bootstrap(scorer.counts(), resamples=4000, seed=1)["pixel_accuracy"]
    rng = np.random.default_rng(5)
    hits = np.array([sum(image.hit) for image in scorer.per_image])
    pixels = np.array([sum(image.true) for image in scorer.per_image])
    drawn = rng.integers(0, 30, (4000, 30))
    values = hits[drawn].sum(axis=1) / pixels[drawn].sum(axis=1)
    assert (low, high) == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=1e-3)
    assert low < scorer.report().scores.pixel_accuracy < high


def test_intervals_are_in_the_json_of_every_score_and_the_same_each_time():
    first, second = (scored().report().to_dict() for _ in range(2))
    assert first == second
    intervals = first["intervals"]
    assert intervals["level"] == 0.95
    assert intervals["mean_iou"][0] < first["mean_iou"] < intervals["mean_iou"][1]
    assert intervals["boundary_iou"][0] < first["borders"]["boundary_iou"] < intervals["boundary_iou"][1]
    assert [row["name"] for row in intervals["per_class"]] == NAMES
    assert len(intervals["per_class"][1]["iou"]) == 2
    assert len(intervals["trimap"]) == 6


def test_scores_under_weights_do_not_depend_on_the_order_of_additions():
    counts = scored(range(40)).counts()
    weights = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), 50).astype(np.float64)
    order = np.random.default_rng(1).permutation(40)
    turned = type(counts)(*(part[order] for part in vars(counts).values()))
    ours, theirs = weighted_scores(counts, weights), weighted_scores(turned, weights[:, order])
    for name, values in ours.items():
        assert values.tobytes() == theirs[name].tobytes(), name


def test_a_single_image_has_no_interval():
    report = scored([1]).report()
    assert report.to_dict()["intervals"] is None
    assert "draws" not in report.table()


def differences(a, b, **arguments):
    found = paired_differences(scored(range(12), a).counts(), scored(range(12), b).counts(), **arguments)
    return {each.score: each for each in found}


def test_a_clear_difference_is_more_than_chance_and_none_is_not():
    clear = differences(0.4, 0.2, permutations=2000)["mean_iou"]
    assert clear.difference == pytest.approx(clear.b - clear.a)
    assert clear.difference > 0.1
    assert clear.low > 0
    assert clear.p_value < 0.01
    same = differences(0.2, 0.2, permutations=200)["mean_iou"]
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_the_permutation_test_of_few_images_is_that_over_all_exchanges():
    a, b = scored(range(5), 0.25, borders=False), scored(range(5), 0.2, borders=False)
    values = []
    for mask in range(32):
        pairs = [
            (y, x) if mask >> i & 1 else (x, y) for i, (x, y) in enumerate(zip(a.per_image, b.per_image))
        ]
        totals = [
            [
                np.sum([getattr(pair[k], key) for pair in pairs], axis=0)
                for key in ("true", "predicted", "hit")
            ]
            for k in (0, 1)
        ]
        iou = [np.mean(hit / (true + predicted - hit)) for true, predicted, hit in totals]
        values.append(abs(iou[1] - iou[0]))
    exact = np.mean(np.array(values) >= values[0] - 1e-12)
    found = {d.score: d for d in paired_differences(a.counts(), b.counts())}
    assert found["mean_iou"].p_value == pytest.approx(exact, abs=0.02)


def test_two_splits_of_different_size_cannot_be_compared():
    with pytest.raises(ValueError, match="the same"):
        paired_differences(scored([1, 2]).counts(), scored([1]).counts())
