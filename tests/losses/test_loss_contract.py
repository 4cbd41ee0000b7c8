"""What every loss of the table keeps to, with and without its options."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddlefcn.losses import LOSSES, LossEntry, WeightedLosses

VOID = 255
# what differs in kind from a loss's defaults
OPTIONS = {
    "CrossEntropy": [{"label_smoothing": 0.2}, {"class_weights": [1.0, 2.0, 0.5]}],
    "OHEM": [{"class_weights": [1.0, 2.0, 0.5]}, {"threshold": 0.1, "min_share": 0.5}],
    "Focal": [{"gamma": 0.5}, {"class_weights": [1.0, 2.0, 0.5]}],
    "Dice": [{"generalised": True}, {"classes": "all"}],
    "Tversky": [{"alpha": 0.0, "beta": 1.0}],
    "Lovasz": [{"classes": "all"}],
    "BoundaryCrossEntropy": [{"class_weights": [1.0, 2.0, 0.5]}],
}
CASES = [(name, options) for name in sorted(LOSSES) for options in [{}, *OPTIONS.get(name, [])]]
every_loss = pytest.mark.parametrize(("name", "options"), CASES, ids=str)


def _random(seed=0, n=2, c=3, h=4, w=5):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, c, (n, h, w))
    label[rng.random((n, h, w)) < 0.3] = VOID
    return rng.normal(0, 1, (n, c, h, w)), label.astype("int64")


def _value_and_gradient(loss, logits, label, dtype="float32"):
    tensor = paddle.to_tensor(logits, dtype, stop_gradient=False)
    value = loss(tensor, paddle.to_tensor(label))
    value.backward()
    return value, tensor.grad.astype("float64").numpy()


@every_loss
def test_the_gradient_is_that_of_finite_differences(name, options):
    logits, label = _random()
    loss = LOSSES[name](**options)
    _, gradient = _value_and_gradient(loss, logits, label, "float64")
    label, step = paddle.to_tensor(label), 1e-5
    for place in list(np.ndindex(logits.shape))[::7]:
        values = []
        for sign in (1, -1):
            moved = logits.copy()
            moved[place] += sign * step
            values.append(loss(paddle.to_tensor(moved, "float64"), label).item())
        assert gradient[place] == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-6), place


@every_loss
def test_void_has_no_gradient_and_the_callers_label_is_not_changed(name, options):
    logits, label = _random()
    given = paddle.to_tensor(label)
    tensor = paddle.to_tensor(logits, "float32", stop_gradient=False)
    loss = LOSSES[name](**options)
    loss(tensor, given).backward()
    loss.divisor(given)
    np.testing.assert_array_equal(given.numpy(), label)
    assert not np.moveaxis(tensor.grad.numpy(), 1, -1)[label == VOID].any()
    assert np.moveaxis(tensor.grad.numpy(), 1, -1)[label != VOID].any()


@every_loss
def test_another_ignore_index_gives_the_same_loss(name, options):
    logits, label = _random()
    expected, _ = _value_and_gradient(LOSSES[name](**options), logits, label)
    other = np.where(label == VOID, 7, label)
    value, _ = _value_and_gradient(LOSSES[name](ignore_index=7, **options), logits, other)
    assert value.item() == expected.item()


@every_loss
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_logits_of_ten_thousand_are_finite(name, options, size):
    logits, label = _random()
    logits = np.where(logits > 0, size, -size)
    for image in (logits, np.full_like(logits, size)):
        value, gradient = _value_and_gradient(LOSSES[name](**options), image, label)
        assert np.isfinite(value.item())
        assert np.isfinite(gradient).all()


@every_loss
def test_void_alone_is_zero_with_a_gradient_of_zeros(name, options):
    logits, label = _random()
    loss, void = LOSSES[name](**options), np.full_like(label, VOID)
    value, gradient = _value_and_gradient(loss, logits, void)
    assert value.shape == []
    assert value.item() == 0
    assert not gradient.any()
    assert loss.divisor(paddle.to_tensor(void)) == 0
    # one image of void beside another is left out of the mean
    half = np.concatenate([label[:1], void[1:]])
    both, _ = _value_and_gradient(loss, logits, half)
    alone, _ = _value_and_gradient(loss, logits[:1], half[:1])
    assert both.item() == pytest.approx(alone.item(), rel=1e-6)


@every_loss
def test_half_precision_logits_are_computed_in_float32(name, options):
    logits, label = _random(h=64, w=64)  # 20000 pixels: a sum in float16 would overflow or stand still
    logits = (10 * logits).astype("float16")
    expected, _ = _value_and_gradient(LOSSES[name](**options), logits.astype("float32"), label)
    tensor = paddle.to_tensor(logits, stop_gradient=False)
    value = LOSSES[name](**options)(tensor, paddle.to_tensor(label))
    value.backward()
    assert value.dtype == paddle.float32
    assert value.item() == expected.item()
    assert tensor.grad.dtype == paddle.float16
    assert np.isfinite(tensor.grad.numpy()).all()


@every_loss
def test_parts_of_a_batch_with_uneven_void_sum_to_the_loss_of_the_whole(name, options):
    logits, label = _random(n=5)
    label[1] = VOID
    label[3, 1:] = VOID
    losses = WeightedLosses([LossEntry(LOSSES[name](**options), [0.5])])
    expected, exact = _value_and_gradient(lambda *x: losses([x[0]], x[1]), logits, label)
    parts = [slice(0, 1), slice(1, 2), slice(2, 5)]
    divisors = [losses.divisors(paddle.to_tensor(label[part])) for part in parts]
    whole = [sum(column) for column in zip(*divisors)]
    assert whole == pytest.approx(losses.divisors(paddle.to_tensor(label)))
    total, gradients = 0.0, []
    for part in parts:
        value, gradient = _value_and_gradient(
            lambda *x: losses([x[0]], x[1], whole), logits[part], label[part]
        )
        total += value.item()
        gradients.append(gradient)
    assert losses.uneven() == []
    assert total == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(np.concatenate(gradients), exact, rtol=1e-4, atol=1e-7)


def test_equal_parts_are_the_loss_divided_by_their_number_to_the_bit():
    logits, label = _random()
    label[label == VOID] = 1
    cross_entropy, focal = LOSSES["CrossEntropy"](), LOSSES["Focal"]()
    losses = WeightedLosses([LossEntry(cross_entropy, [1.0, 0.4]), LossEntry(focal, [0.3, 0.0])])
    outputs, label = [paddle.to_tensor(logits, "float32")] * 2, paddle.to_tensor(label)
    alone = losses(outputs, label)
    third = losses(outputs, label, [3 * divisor for divisor in losses.divisors(label)])
    assert third.item() == (alone / 3).item()
    assert losses(outputs, label, losses.divisors(label)).item() == alone.item()


def test_a_sum_divides_by_nothing():
    logits, label = _random()
    losses = WeightedLosses([LossEntry(LOSSES["CrossEntropy"](reduction="sum"))])
    label = paddle.to_tensor(label)
    outputs = [paddle.to_tensor(logits, "float32")]
    assert losses(outputs, label, [1e6]).item() == losses(outputs, label).item()


def test_what_is_no_mean_of_its_parts_is_named():
    def of_a_user(logits, label):
        return logits.mean()

    batchwise = LOSSES["Dice"](per_image=False)
    losses = WeightedLosses([LossEntry(LOSSES["OHEM"]()), LossEntry(batchwise), LossEntry(of_a_user)])
    assert losses.uneven() == ["Dice", "of_a_user"]
    label = paddle.zeros([3, 2, 2], "int64")
    assert losses.divisors(label) == [3.0, 1.0, 3.0]
