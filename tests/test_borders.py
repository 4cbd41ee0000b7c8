"""Border scores against their definitions written out: pairwise distances and masks eroded step by step."""

import numpy as np
import pytest

from paddlefcn import borders
from paddlefcn.borders import BorderCounter


def blobs(seed, size=(37, 52), classes=4, void=0.0, noise=0.0):
    """Blotches of class ids, so that there are regions with outlines and thin parts."""
    rng = np.random.default_rng(seed)
    height, width = size
    coarse = rng.integers(0, classes, (height // 6 + 1, width // 6 + 1))
    labels = np.kron(coarse, np.ones((6, 6), int))[:height, :width].astype(np.uint8)
    labels = np.where(rng.random(size) < noise, rng.integers(0, classes, size), labels)
    return np.where(rng.random(size) < void, 255, labels).astype(np.uint8)


def outline(mask):
    """Pixels of the mask with a 4-neighbour outside of it, or at the edge of the image."""
    inside = np.pad(mask, 1)
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return mask & ~core


def eroded(mask, steps):
    """A 3x3 erosion, `steps` times, with nothing outside of the image."""
    for _ in range(steps):
        inside = np.pad(mask, 1)
        parts = [inside[r : r + mask.shape[0], c : c + mask.shape[1]] for r in range(3) for c in range(3)]
        mask = np.logical_and.reduce(parts)
    return mask


def distances(ours, theirs):
    a, b = np.argwhere(ours).astype(float), np.argwhere(theirs).astype(float)
    pairs = np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))
    return pairs.min(axis=1), pairs.min(axis=0)


def by_the_definitions(pred, label, classes, tolerance, widths):
    """Every score of one image, class by class."""
    void = label == 255
    diagonal = np.hypot(*label.shape)
    rows = []
    for index in range(classes):
        g, p = label == index, (pred == index) & ~void
        d = max(1, round(0.02 * diagonal))
        gd, pd = g & ~eroded(g, d), p & ~eroded(p, d)
        union = (gd | pd).sum()
        row = [(gd & pd).sum() / union if union else None]
        if not g.any() and not p.any():
            row += [None] * 3
        elif not g.any() or not p.any():
            row += [0, 0, None]
        else:
            there, back = distances(outline(g), outline(p))
            recall, precision = (there <= 0.0075 * diagonal).mean(), (back <= 0.0075 * diagonal).mean()
            row.append(2 * precision * recall / (precision + recall) if precision + recall else 0)
            both = np.concatenate([there, back])
            row.append((both <= tolerance).mean())
            row.append(max(np.percentile(there, 95), np.percentile(back, 95)))
        rows.append(row)
    return rows, [trimap(pred, label, classes, width) for width in widths]


def trimap(pred, label, classes, width):
    value = label.astype(int)
    edge = np.zeros(label.shape, bool)
    for row, col in np.ndindex(label.shape):
        for r, c in ((row + 1, col), (row - 1, col), (row, col + 1), (row, col - 1)):
            if 0 <= r < label.shape[0] and 0 <= c < label.shape[1]:
                edge[row, col] |= value[r, c] != value[row, col]
    if not edge.any():
        return None
    away = distances(np.ones(label.shape, bool), edge)[0].reshape(label.shape)
    near = (away < width) & (label != 255)
    scores = []
    for index in range(classes):
        union = (near & ((label == index) | (pred == index))).sum()
        if union:
            scores.append((near & (label == index) & (pred == index)).sum() / union)
    return np.mean(scores) if scores else None


def near(value):
    return None if value is None else pytest.approx(value, abs=1e-6)


CASES = [
    *((blobs(s, noise=0.02), blobs(s, noise=0.1)) for s in range(3)),
    (blobs(7, void=0.1), blobs(8)),
    (blobs(3, (61, 9)), blobs(4, (61, 9))),
    (blobs(1, (1, 30)), blobs(2, (1, 30))),
    (np.zeros((20, 20), np.uint8), np.ones((20, 20), np.uint8)),
    (np.full((9, 11), 255, np.uint8), blobs(0, (9, 11))),
    (np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8)),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_every_border_score_follows_its_definition(case):
    label, pred = CASES[case]
    counter = BorderCounter(5, tolerance=1.5, trimap=(1, 2, 5))
    counter.update(pred, label)
    scores = counter.scores()
    rows, trimaps = by_the_definitions(pred, label, 5, 1.5, (1, 2, 5))
    for row, wanted in zip(scores.per_class, rows):
        got = (row.boundary_iou, row.boundary_f1, row.normalised_surface_distance, row.hausdorff95)
        assert list(got) == [near(value) for value in wanted]
    assert [part.mean_iou for part in scores.trimap] == [near(value) for value in trimaps]
    for key, column in (("boundary_iou", 0), ("hausdorff95", 3)):
        known = [row[column] for row in rows if row[column] is not None]
        assert getattr(scores, key) == near(np.mean(known) if known else None)


@pytest.mark.parametrize("distance", [1, 2, 5, 40])
def test_the_band_of_all_classes_at_once_is_each_mask_less_its_erosion(distance):
    labels = blobs(5, (41, 33), noise=0.02)
    found = borders.near_contour(labels.astype(np.uint16), distance)
    for index in range(4):
        mask = labels == index
        assert (found & mask == (mask & ~eroded(mask, distance))).all()


def test_a_perfect_prediction_has_every_score_at_its_best_even_with_void():
    label = blobs(1, void=0.05)
    counter = BorderCounter(4)
    counter.update(np.where(label == 255, 3, label), label)
    scores = counter.scores()
    assert (scores.boundary_iou, scores.boundary_f1, scores.normalised_surface_distance) == (1, 1, 1)
    assert scores.hausdorff95 == 0
    assert {part.mean_iou for part in scores.trimap} == {1}


def test_a_square_shifted_by_two_pixels_scores_as_counted_by_hand():
    label, pred = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    label[10:20, 10:20] = 1
    pred[10:20, 12:22] = 1
    counter = BorderCounter(2, tolerance=1)
    counter.update(pred, label)
    row = counter.scores().per_class[1]
    assert row.boundary_iou == pytest.approx((2 * 8) / (2 * 36 - 16))  # d = 1: 36 pixels each, 16 shared
    # contours share 16; within 1 pixel lie 2 more on each side of the two rows
    assert row.normalised_surface_distance == pytest.approx(20 / 36)
    assert row.hausdorff95 == pytest.approx(2)
    assert row.images == 1


def test_boundary_iou_is_summed_over_images_and_the_rest_is_their_mean():
    counter = BorderCounter(4, tolerance=1)
    alone = []
    for seed in (1, 2, 3):
        label, pred = blobs(seed, (30 + seed, 40)), blobs(seed, (30 + seed, 40), noise=0.1)
        counter.update(pred, label)
        single = BorderCounter(4, tolerance=1)
        single.update(pred, label)
        alone.append((single.images[0], single.scores()))
    scores = counter.scores()
    over = sum(image.band_hit for image, _ in alone)
    under = sum(image.band_true + image.band_predicted - image.band_hit for image, _ in alone)
    assert [row.boundary_iou for row in scores.per_class] == pytest.approx(list(over / under))
    for index in range(4):
        each = [part.per_class[index].boundary_f1 for _, part in alone]
        assert scores.per_class[index].boundary_f1 == pytest.approx(np.mean(each))


def test_a_class_in_one_map_alone_scores_0_has_no_hausdorff_distance_and_is_counted():
    counter = BorderCounter(3)
    label = np.zeros((12, 12), np.uint8)
    pred = label.copy()
    pred[3:6, 3:6] = 2
    counter.update(pred, label)
    scores = counter.scores(["a", "b", "c"])
    assert scores.per_class[2].boundary_f1 == 0
    assert scores.per_class[2].hausdorff95 is None
    assert (scores.per_class[2].missing, scores.per_class[1].images) == (1, 0)
    assert scores.per_class[1].boundary_iou is None
    assert "1 times a class is in one map" in scores.table()


def test_class_ids_beyond_8_bits_are_scored_the_same():
    label, pred = blobs(1).astype(np.int32), blobs(2).astype(np.int32)
    small, large = BorderCounter(4), BorderCounter(604, ignore_index=65535)
    small.update(pred, label)
    large.update(pred + 600, label + 600)
    assert small.scores().boundary_f1 == large.scores().boundary_f1
    assert small.scores().trimap == large.scores().trimap


def test_no_image_gives_no_scores():
    scores = BorderCounter(2).scores()
    assert scores.boundary_iou is scores.hausdorff95 is None
    assert scores.trimap[0].mean_iou is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_classes": 0},
        {"tolerance": -1.0},
        {"tolerance": float("nan")},
        {"trimap": [2, 1]},
        {"trimap": []},
    ],
)
def test_values_that_cannot_be_are_refused_in_one_line(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BorderCounter(**{"num_classes": 3, **wrong})
    with pytest.raises(ValueError, match="shape"):
        BorderCounter(3).update(np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.uint8))


def test_distances_are_exact_and_the_same_each_time():
    rng = np.random.default_rng(0)
    away = rng.random((61, 83)) > 0.002
    places = np.argwhere(~away)
    pairs = ((np.argwhere(np.ones_like(away))[:, None] - places[None]) ** 2).sum(axis=2)
    wanted = np.sqrt(pairs.min(axis=1)).reshape(away.shape)
    for _ in range(20):
        memory = np.empty((len(away), away.shape[1] + 7), bool)[:, 3:-4]  # at other addresses
        memory[:] = away
        assert borders.euclidean_distance(memory).tobytes() == wanted.tobytes()
