"""Optimizers and parameter groups against values worked out by hand."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlefcn.optim import (
    OPTIMIZERS,
    Groups,
    load_optimizer_state,
    optimizer_state,
    parameter_groups,
    rate_warning,
)


class Tiny(nn.Layer):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2D(1, 2, 1), nn.BatchNorm2D(2))
        self.score = nn.Conv2D(2, 2, 1)

    def forward(self, image):
        return self.score(self.backbone(image))


def _one_step(model, optimizer, rate=0.1):
    trained = {name: p for name, p in model.named_parameters() if not p.stop_gradient}
    before = {name: p.numpy().copy() for name, p in trained.items()}
    optimizer.set_lr(rate)
    image = paddle.to_tensor(np.linspace(-1, 1, 32, dtype="float32").reshape(2, 1, 4, 4))
    (model(image) ** 2).mean().backward()
    gradients = {name: p.grad.numpy().copy() for name, p in trained.items()}
    optimizer.step()
    optimizer.clear_grad()
    after = {name: p.numpy() for name, p in trained.items()}
    return before, gradients, after


def test_groups_set_rate_and_decay_of_weights_biases_and_norms():
    paddle.seed(0)
    model = Tiny()
    groups = Groups(head_lr_factor=10, bias_lr_factor=2)
    before, gradients, after = _one_step(model, OPTIMIZERS["SGD"](model, groups, weight_decay=0.5))
    expected = {  # rate factor, decay
        "backbone.0.weight": (1, 0.5),
        "backbone.0.bias": (2, 0),
        "backbone.1.weight": (1, 0),
        "backbone.1.bias": (1, 0),
        "score.weight": (10, 0.5),
        "score.bias": (20, 0),
    }
    for name, (factor, decay) in expected.items():
        wanted = before[name] - 0.1 * factor * (gradients[name] + decay * before[name])
        np.testing.assert_allclose(after[name], wanted, rtol=1e-5, atol=1e-7, err_msg=name)


def test_decay_can_be_asked_for_biases_and_norms():
    decays = {group["weight_decay"] for group in parameter_groups(Tiny(), Groups(1, 1, True, True), 0.1)}
    assert decays == {0.1}


def test_frozen_parameters_are_in_no_group():
    model = Tiny()
    model.score.weight.stop_gradient = True
    found = [p for group in parameter_groups(model, Groups(), 0.0) for p in group["params"]]
    assert all(p is not model.score.weight for p in found)
    assert len(found) == 5


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_an_optimizers_state_goes_into_the_second_model_of_a_process(name):
    paddle.seed(1)
    first, second = Tiny(), Tiny()
    second.set_state_dict({key: value.clone() for key, value in first.state_dict().items()})
    one = OPTIMIZERS[name](first, Groups(), weight_decay=0.01)
    _one_step(first, one)
    second.set_state_dict({key: value.clone() for key, value in first.state_dict().items()})
    two = OPTIMIZERS[name](second, Groups(), weight_decay=0.01)
    load_optimizer_state(two, second, optimizer_state(one, first))
    _, _, after_first = _one_step(first, one)
    _, _, after_second = _one_step(second, two)
    for key, value in after_first.items():
        np.testing.assert_array_equal(value, after_second[key], err_msg=key)


def test_state_of_another_model_is_refused():
    model = Tiny()
    optimizer = OPTIMIZERS["Momentum"](model, Groups())
    with pytest.raises(ValueError, match=r"'fc6.weight', which is no parameter"):
        load_optimizer_state(optimizer, model, {"fc6.weight/velocity_0": np.zeros(2, "float32")})


def test_a_momentum_of_more_than_one_is_refused():
    with pytest.raises(ValueError, match=r"momentum 1\.5"):
        OPTIMIZERS["Momentum"](Tiny(), Groups(), momentum=1.5)


def test_every_kind_of_normalisation_is_spared_from_decay():
    model = nn.Sequential(nn.Conv2D(4, 4, 1), nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.BatchNorm2D(4))
    (plain,) = [group for group in parameter_groups(model, Groups(), 0.1) if group["weight_decay"]]
    assert [parameter.shape for parameter in plain["params"]] == [[4, 4, 1, 1]]


def test_groups_and_state_are_the_networks_own_under_a_data_parallel_wrapper():
    model = Tiny()
    wrapped = paddle.DataParallel(model)
    groups = [
        [(group["learning_rate"], len(group["params"])) for group in parameter_groups(m, Groups(10), 0.0)]
        for m in (model, wrapped)
    ]
    assert groups[0] == groups[1] == [(1.0, 4), (10.0, 2)]
    optimizer = OPTIMIZERS["Momentum"](wrapped, Groups())
    _one_step(model, optimizer)
    assert set(optimizer_state(optimizer, wrapped)) == set(optimizer_state(optimizer, model)) != set()


@pytest.mark.parametrize(
    ("rate", "reduction", "pixels", "trained"),
    [
        (1e-10, "sum", 500 * 500, False),  # FCN-32s as published; then 16s and 8s on top of it
        (1e-12, "sum", 500 * 500, True),
        (1e-14, "sum", 500 * 500, True),
        (2.5e-9, "mean", 500 * 500, True),  # the last one's equivalent
        (1e-4, "mean", 500 * 500, False),  # FCN-AlexNet
        (1e-2, "mean", 8 * 480 * 480, False),
    ],
)
def test_published_rates_pass_without_a_warning(rate, reduction, pixels, trained):
    assert rate_warning(rate, reduction=reduction, pixels=pixels, trained=trained) is None


def test_the_published_rate_with_a_mean_is_warned_about_with_its_equivalent():
    warning = rate_warning(1e-10, reduction="mean", pixels=250_000)
    assert "learning rate 1e-10 is too small by orders of magnitude" in warning
    assert "one for reduction: sum, and 2.5e-05 is its equivalent for reduction: mean" in warning


def test_a_means_rate_with_a_sum_is_warned_about_with_its_equivalent():
    warning = rate_warning(1e-2, reduction="sum", pixels=250_000)
    assert "too large by orders of magnitude for a loss with reduction: sum over 250,000 pixels" in warning
    assert "what 2.5e+03 is with a mean" in warning
    assert "one for reduction: mean, and 4e-08 is its equivalent for reduction: sum" in warning


def test_a_rate_that_suits_neither_reduction_is_shown_what_does():
    assert "usual are 4e-13 to 4e-06" in rate_warning(1e-30, reduction="sum", pixels=250_000)
    assert "1e-07 to 1e+00" in rate_warning(1e9, reduction="mean", pixels=250_000)


def test_equivalent_rates_take_equal_steps():
    from paddlefcn.losses import CrossEntropy

    logits = np.random.default_rng(0).normal(size=(1, 2, 4, 4)).astype("float32")
    label = paddle.zeros([1, 4, 4], "int64")
    moved = []
    for reduction, rate in (("mean", 0.16), ("sum", 0.01)):
        values = paddle.to_tensor(logits, stop_gradient=False)
        CrossEntropy(reduction=reduction)(values, label).backward()
        moved.append(rate * values.grad.numpy())
    np.testing.assert_allclose(moved[0], moved[1], rtol=1e-5)
