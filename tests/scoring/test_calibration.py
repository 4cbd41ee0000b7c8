"""Reliability and temperature against what they must be for probabilities that are known."""

import numpy as np
import pytest

from paddlefcn.scoring.calibration import ReliabilityCounter, fit_temperature


def drawn(temperature, count=20_000, classes=4, seed=0):
    """Logits, and labels drawn from their softmax at a temperature: calibrated there."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes)) * 3
    powers = np.exp(logits / temperature)
    chances = powers / powers.sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    return logits.astype(np.float32), labels, chances


def reliability(chances, labels):
    counter = ReliabilityCounter()
    for part in np.array_split(np.arange(len(labels)), 3):
        counter.add(chances[part], labels[part])
    return counter.result()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_labels_were_drawn_at_is_found(temperature):
    logits, labels, _ = drawn(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.04)


def test_the_temperature_is_where_the_likelihood_is_highest():
    logits, labels, _ = drawn(1.7, count=500)
    best = fit_temperature(logits, labels)

    def nll(temperature):
        powers = np.exp(logits.astype(float) / temperature)
        return -np.log((powers / powers.sum(axis=1, keepdims=True))[np.arange(500), labels]).mean()

    assert all(nll(best) <= nll(other) + 1e-9 for other in np.linspace(0.5, 4, 200))


def test_calibrated_probabilities_have_next_to_no_error_and_overconfident_ones_do():
    logits, labels, chances = drawn(2.0)
    assert reliability(chances, labels).expected_calibration_error < 0.01
    sure = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = reliability(sure, labels)
    assert found.expected_calibration_error > 0.1
    assert found.nll > reliability(chances, labels).nll


def test_the_error_is_as_computed_by_hand():
    chances = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.52, 0.48]])
    found = reliability(chances, np.array([0, 1, 1, 0]))
    # bins of 1/15: 0.9 twice, half of them right; 0.7 and 0.52 alone, right
    assert found.expected_calibration_error == pytest.approx((2 * 0.4 + 0.3 + 0.48) / 4)
    assert found.nll == pytest.approx(-np.log([0.9, 0.1, 0.7, 0.52]).mean())
    assert [row.pixels for row in found.bins if row.pixels] == [1, 1, 2]
    assert sum(row.pixels for row in found.bins) == found.pixels == 4
    assert found.bins[0].accuracy is None


def test_a_probability_of_1_is_in_the_last_bin_and_no_pixel_gives_nothing():
    found = reliability(np.array([[1.0, 0.0]] * 3), np.array([0, 0, 0]))
    assert found.bins[-1].pixels == 3
    empty = ReliabilityCounter().result()
    assert empty.expected_calibration_error is empty.nll is None
    with pytest.raises(ValueError, match="no labelled pixel"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))


def test_perfect_and_hopeless_logits_end_at_the_bounds():
    labels = np.arange(100) % 3
    assert fit_temperature(5 * np.eye(3)[labels], labels) == pytest.approx(0.05, rel=0.01)
    assert fit_temperature(-5 * np.eye(3)[labels], labels) == pytest.approx(20, rel=0.01)
