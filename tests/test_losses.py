"""Losses against values worked out by hand, and the contract that every loss of the table keeps."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddlefcn.losses import LOSSES, CrossEntropy, LossEntry, WeightedLosses

LOGITS = np.array([[[[2.0, 0.0], [1.0, -1.0]], [[0.0, 3.0], [1.0, 0.5]]]], "float32")
LABEL = np.array([[[0, 1], [1, 255]]], "int64")


def _by_hand():
    exp = np.exp(LOGITS[0].astype("float64"))
    p = exp / exp.sum(0)
    return np.array([-np.log(p[0, 0, 0]), -np.log(p[1, 0, 1]), -np.log(p[1, 1, 0])])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_is_the_hand_computed_value_without_void(reduction):
    loss = CrossEntropy(reduction=reduction)(paddle.to_tensor(LOGITS), paddle.to_tensor(LABEL))
    assert loss.item() == pytest.approx(getattr(np, reduction)(_by_hand()), rel=1e-6)


def test_class_weights_divide_by_the_weights_of_the_scored_pixels():
    loss = CrossEntropy(class_weights=[1.0, 3.0])(paddle.to_tensor(LOGITS), paddle.to_tensor(LABEL))
    a, b, c = _by_hand()
    assert loss.item() == pytest.approx((a + 3 * b + 3 * c) / 7, rel=1e-6)


def test_another_ignore_index_is_obeyed():
    label = np.array([[[0, 1], [0, 0]]], "int64")
    loss = CrossEntropy(ignore_index=0)(paddle.to_tensor(LOGITS), paddle.to_tensor(label))
    assert loss.item() == pytest.approx(_by_hand()[1], rel=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_is_a_finite_scalar_even_where_every_pixel_is_void(name):
    logits = paddle.to_tensor(LOGITS, stop_gradient=False)
    loss = LOSSES[name]()(logits, paddle.full([1, 2, 2], 255, "int64"))
    loss.backward()
    assert loss.shape in ([], [1])
    assert np.isfinite(loss.item())
    assert np.isfinite(logits.grad.numpy()).all()


def test_entries_are_weighted_over_the_outputs():
    def first(logits, label):
        return logits.sum()

    outputs = [paddle.to_tensor([1.0]), paddle.to_tensor([10.0])]
    losses = WeightedLosses([LossEntry(first, [1.0, 0.5]), LossEntry(first, [2.0, 0.0])])
    assert losses(outputs, paddle.zeros([1])).item() == pytest.approx(1 + 5 + 2)
    assert losses(outputs[:1], paddle.zeros([1])).item() == pytest.approx(3)


@pytest.mark.parametrize("wrong", [{"reduction": "none"}, {"class_weights": []}, {"class_weights": [-1.0]}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        CrossEntropy(**wrong)
