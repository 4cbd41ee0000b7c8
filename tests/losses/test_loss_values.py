"""Each loss against its definition, written out pixel by pixel in numpy."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from paddlefcn.losses import OHEM, BoundaryCrossEntropy, CrossEntropy, Dice, Focal, Lovasz, Tversky

VOID = 255


def _random(seed=0, n=2, c=3, h=5, w=4, void=0.2):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, c, h, w))
    label = rng.integers(0, c, (n, h, w))
    label[rng.random((n, h, w)) < void] = VOID
    return logits, label.astype("int64")


def _probabilities(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _pixels(logits, label):
    """(probabilities [C], class) of each scored pixel, image after image."""
    p = _probabilities(logits)
    return [
        [(p[n, :, y, x], label[n, y, x]) for y, x in np.ndindex(label.shape[1:]) if label[n, y, x] != VOID]
        for n in range(len(label))
    ]


def _value(loss, logits, label):
    return loss(paddle.to_tensor(logits.astype("float32")), paddle.to_tensor(label)).item()


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 3.0]])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_smoothed_cross_entropy_is_that_of_the_mixed_target(weights, reduction):
    logits, label = _random()
    total = whole = 0.0
    for image in _pixels(logits, label):
        for p, c in image:
            target = np.full(3, 0.3 / 3)
            target[c] += 0.7
            factor = weights[c] if weights else 1.0
            total += -factor * (target * np.log(p)).sum()
            whole += factor
    loss = CrossEntropy(class_weights=weights, reduction=reduction, label_smoothing=0.3)
    expected = total if reduction == "sum" else total / whole
    assert _value(loss, logits, label) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 3.0]])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_weighs_each_pixel_by_what_it_misses(weights, gamma):
    logits, label = _random()
    pairs = [pair for image in _pixels(logits, label) for pair in image]
    factors = [weights[c] if weights else 1.0 for _, c in pairs]
    terms = [f * -((1 - p[c]) ** gamma) * math.log(p[c]) for f, (p, c) in zip(factors, pairs)]
    found = _value(Focal(gamma=gamma, class_weights=weights), logits, label)
    assert found == pytest.approx(sum(terms) / sum(factors), rel=1e-5)


def test_focal_without_gamma_is_the_cross_entropy():
    logits, label = _random()
    assert _value(Focal(gamma=0.0), logits, label) == pytest.approx(
        _value(CrossEntropy(), logits, label), rel=1e-6
    )


@pytest.mark.parametrize(("threshold", "min_share"), [(0.7, 0.01), (0.05, 0.5), (0.3, 1.0)])
@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 3.0]])
def test_ohem_is_the_mean_over_each_images_hard_pixels(threshold, min_share, weights):
    logits, label = _random()
    values = []
    for image in _pixels(logits, label):
        losses = [(-math.log(p[c]), weights[c] if weights else 1.0) for p, c in image]
        least = -math.log(threshold)
        losses.sort(reverse=True)
        count = max(math.ceil(min_share * len(losses)), sum(loss >= least for loss, _ in losses))
        hard = losses[:count]
        values.append(sum(loss * f for loss, f in hard) / sum(f for _, f in hard))
    found = _value(OHEM(threshold=threshold, min_share=min_share, class_weights=weights), logits, label)
    assert found == pytest.approx(np.mean(values), rel=1e-5)


def _overlap(image, c):
    hit = sum(p[c] for p, true in image if true == c)
    return hit, sum(p[c] for p, _ in image), sum(true == c for _, true in image)


@pytest.mark.parametrize("classes", ["present", "all"])
def test_dice_is_the_mean_over_classes_and_images(classes):
    logits, label = _random(c=4)
    label[label == 3] = 0  # class 3 is absent
    values = []
    for image in _pixels(logits, label):
        parts = [_overlap(image, c) for c in range(4 if classes == "all" else 3)]
        values.append(1 - np.mean([(2 * h + 1) / (p + g + 1) for h, p, g in parts]))
    assert _value(Dice(classes=classes), logits, label) == pytest.approx(np.mean(values), rel=1e-5)


@pytest.mark.parametrize("classes", ["present", "all"])
def test_generalised_dice_weighs_classes_by_their_inverse_squared_size(classes):
    logits, label = _random(c=4)
    label[label == 3] = 0
    values = []
    for image in _pixels(logits, label):
        parts = [_overlap(image, c) for c in range(4)]
        rarest = min(g for *_, g in parts if g)
        weights = [(rarest / g) ** 2 if g else float(classes == "all") for *_, g in parts]
        above = sum(w * h for w, (h, _, _) in zip(weights, parts))
        below = sum(w * (p + g) for w, (_, p, g) in zip(weights, parts))
        values.append(1 - (2 * above + 0.5) / (below + 0.5))
    loss = Dice(generalised=True, classes=classes, smooth=0.5)
    assert _value(loss, logits, label) == pytest.approx(np.mean(values), rel=1e-5)


def test_tversky_prices_the_two_kinds_of_mistakes():
    logits, label = _random()
    values = []
    for image in _pixels(logits, label):
        ratios = []
        for c in range(3):
            hit, predicted, true = _overlap(image, c)
            ratios.append((hit + 2) / (hit + 0.2 * (predicted - hit) + 0.9 * (true - hit) + 2))
        values.append(1 - np.mean(ratios))
    assert _value(Tversky(alpha=0.2, beta=0.9, smooth=2.0), logits, label) == pytest.approx(
        np.mean(values), rel=1e-5
    )


def test_tversky_with_equal_prices_is_dice():
    logits, label = _random()
    # Dice's quotient is twice Tversky's, above and below, and so is what is added to it
    halves = _value(Tversky(alpha=0.5, beta=0.5, smooth=0.5), logits, label)
    assert halves == pytest.approx(_value(Dice(smooth=1.0), logits, label), rel=1e-6)


@pytest.mark.parametrize("classes", ["present", "all"])
def test_lovasz_is_the_sum_of_errors_times_the_steps_of_the_iou(classes):
    logits, label = _random(c=4)
    label[label == 3] = 0
    values = []
    for image in _pixels(logits, label):
        per_class = []
        for c in range(4 if classes == "all" else 3):
            pairs = sorted(((abs((true == c) - p[c]), true == c) for p, true in image), reverse=True)
            value, before, size = 0.0, 0.0, sum(g for _, g in pairs)
            for k, (error, _) in enumerate(pairs, start=1):
                missed = sum(g for _, g in pairs[:k])  # the set of mistakes is the k greatest errors
                after = 1 - (size - missed) / (size + k - missed)
                value, before = value + error * (after - before), after
            per_class.append(value)
        values.append(np.mean(per_class))
    assert _value(Lovasz(classes=classes), logits, label) == pytest.approx(np.mean(values), rel=1e-5)


def test_lovasz_of_decided_probabilities_is_one_minus_the_iou():
    label = np.array([[[0, 0, 0, 1], [1, 1, 0, VOID]]], "int64")
    pred = np.array([[[0, 1, 0, 1], [1, 0, 0, 1]]])
    logits = np.stack([(pred == c) * 200.0 for c in range(2)], axis=1)
    expected = 1 - (3 / 5 + 2 / 4) / 2
    assert _value(Lovasz(), logits, label) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 3.0]])
def test_boundary_cross_entropy_counts_the_band_between_classes_more(width, weights):
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 1, (1, 3, 7, 9))
    label = np.zeros((1, 7, 9), "int64")
    label[:, :, 6:] = 2
    label[:, 5:, :2] = VOID  # its edge with class 0 is no border
    p = _probabilities(logits)
    total = whole = 0.0
    for y, x in np.ndindex(7, 9):
        if label[0, y, x] == VOID:
            continue
        window = label[0, max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1]
        factor = 4.0 if len(set(window.ravel().tolist()) - {VOID}) > 1 else 1.0
        factor *= weights[label[0, y, x]] if weights else 1.0
        total -= factor * math.log(p[0, label[0, y, x], y, x])
        whole += factor
    loss = BoundaryCrossEntropy(factor=4.0, width=width, class_weights=weights)
    assert _value(loss, logits, label) == pytest.approx(total / whole, rel=1e-5)
    assert loss.divisor(paddle.to_tensor(label)) == pytest.approx(whole)


def test_a_loss_of_the_batch_as_one_image_is_that_of_the_images_side_by_side():
    logits, label = _random()
    beside = np.concatenate(list(logits), axis=2)[None], np.concatenate(list(label), axis=1)[None]
    for loss in (Dice, Tversky, Lovasz):
        joint = _value(loss(per_image=False), logits, label)
        assert joint == pytest.approx(_value(loss(), *beside), rel=1e-5)
        assert joint != pytest.approx(_value(loss(), logits, label), rel=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: CrossEntropy(label_smoothing=1.0),
            "label_smoothing 1.0: expected 0 or more and less than 1",
        ),
        (lambda: Focal(gamma=-1.0), "gamma -1.0: expected 0 or more"),
        (lambda: Focal(class_weights=[]), "class_weights"),
        (lambda: OHEM(threshold=1.0), "threshold 1.0: expected a probability"),
        (lambda: OHEM(min_share=0.0), "min_share 0.0: expected a share"),
        (lambda: Dice(smooth=0.0), "smooth 0.0: expected a number above 0"),
        (lambda: Dice(classes="some"), "classes 'some': expected 'present'"),
        (lambda: Tversky(alpha=0.0, beta=0.0), "alpha 0.0, beta 0.0"),
        (lambda: Lovasz(classes="none"), "classes 'none'"),
        (lambda: BoundaryCrossEntropy(width=0), "width 0: expected 1 pixel or more"),
        (lambda: BoundaryCrossEntropy(factor=0.0), "factor 0.0: expected a number above 0"),
    ],
)
def test_wrong_values_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
