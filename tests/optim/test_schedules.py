"""Schedules against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from paddlefcn.optim import SCHEDULES, Constant, Cosine, OneCycle, Poly, ReduceOnPlateau, Step

SMALLEST = {"Step": {"milestones": [10]}}


def test_poly_falls_from_the_rate_to_the_end():
    schedule = Poly(0.1, 10, power=2.0, end=0.02)
    assert schedule(1) == pytest.approx(0.1)
    assert schedule(6) == pytest.approx(0.08 * 0.25 + 0.02)
    assert schedule(11) == pytest.approx(0.02)


def test_step_multiplies_at_its_milestones():
    schedule = Step(1.0, 10, milestones=[2, 4], gamma=0.1)
    assert [schedule(i) for i in (1, 2, 3, 4, 5)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_warm_up_is_a_straight_line():
    schedule = Constant(1.0, 10, warmup_iters=3, warmup_ratio=0.2)
    assert [schedule(i) for i in (1, 2, 3, 4)] == pytest.approx([0.4, 0.6, 0.8, 1.0])


def test_a_schedule_longer_than_the_run_is_said():
    assert "warm-up of 500" in Poly(0.1, 8, warmup_iters=500).longer_than_the_run()
    assert "step at iteration 9" in Step(0.1, 8, milestones=[9]).longer_than_the_run()
    assert Poly(0.1, 8, warmup_iters=2).longer_than_the_run() is None


def test_step_by_size_multiplies_again_and_again():
    schedule = Step(1.0, 10, size=3, gamma=0.5)
    assert [schedule(i) for i in (1, 3, 4, 6, 7)] == pytest.approx([1, 1, 0.5, 0.5, 0.25])


def test_cosine_falls_to_the_end_of_the_run():
    schedule = Cosine(1.0, 8, end=0.2)
    assert [schedule(i) for i in (1, 5, 9)] == pytest.approx([1.0, 0.6, 0.2])


def test_cosine_restarts_after_periods_that_grow():
    schedule = Cosine(1.0, 100, period=4, factor=2.0)
    half = (1 + math.cos(math.pi / 4)) / 2
    assert [schedule(i) for i in (1, 2, 3, 5, 9, 13)] == pytest.approx([1, half, 0.5, 1, 0.5, 1])
    assert schedule(4 + 8 + 16 + 1) == pytest.approx(1)


def test_one_cycle_rises_and_falls():
    schedule = OneCycle(2.0, 11, warmup_iters=4, warmup_ratio=0.1, end_ratio=0.01)
    assert [schedule(i) for i in (1, 3, 5)] == pytest.approx([0.2, 1.1, 2.0])
    assert [schedule(i) for i in (8, 11, 15)] == pytest.approx([2.0 * (1.01 / 2), 0.02, 0.02])
    assert OneCycle(2.0, 100).warmup_iters == 30


def test_plateau_reduces_after_evaluations_without_a_better_score():
    schedule = ReduceOnPlateau(1.0, 100, factor=0.5, patience=1, threshold=0.01)
    scores = [(10, 0.5), (20, 0.505), (30, 0.6), (40, None), (50, 0.59), (60, 0.6), (70, 0.6)]
    rates = {i: schedule(i, scores) for i in (10, 11, 31, 41, 50, 51, 61, 71, 100)}
    assert rates == {10: 1, 11: 1, 31: 1, 41: 1, 50: 1, 51: 0.5, 61: 0.5, 71: 0.25, 100: 0.25}


def test_plateau_rests_after_a_reduction_and_stops_at_its_end():
    scores = [(i, 0.5) for i in range(1, 9)]
    resting = ReduceOnPlateau(1.0, 9, factor=0.1, patience=0, cooldown=2, end=0.05)
    # the first is the best; the second reduces, two are not counted, the fifth reduces, two rest …
    rates = [resting(i, scores) for i in range(2, 10)]
    assert rates == pytest.approx([1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05])


def test_plateau_takes_the_same_rates_whatever_is_recorded_later():
    schedule = ReduceOnPlateau(1.0, 100, patience=1)
    scores = [(10 * i, 0.5) for i in range(1, 10)]
    for iteration in range(1, 100):
        before = [pair for pair in scores if pair[0] < iteration]
        assert schedule(iteration, before) == schedule(iteration, scores)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_every_schedule_warms_up_and_knows_its_first_and_highest_rate(name):
    schedule = SCHEDULES[name](
        learning_rate=0.5, total=20, warmup_iters=4, warmup_ratio=0.2, **SMALLEST.get(name, {})
    )
    rates = [schedule(i) for i in range(1, 21)]
    assert rates[:4] == sorted(rates[:4])
    assert schedule.first == rates[0] < 0.3
    assert schedule.highest == 0.5
    assert max(rates) == pytest.approx(0.5, rel=0.2)
    assert min(rates) > 0
    assert schedule.learning_rate == 0.5


def test_a_period_longer_than_the_run_is_said():
    assert "period of 9 iterations in a run of 8" in Cosine(0.1, 8, period=9).longer_than_the_run()
    assert "step at iteration 9" in Step(0.1, 8, size=9).longer_than_the_run()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Poly(-1.0, 8), "learning_rate -1.0"),
        (lambda: Poly(1.0, 8, power=0), "power 0"),
        (lambda: Poly(1.0, 8, end=2.0), "end 2.0: expected 0 up to learning_rate 1.0"),
        (lambda: Poly(1.0, 8, warmup_iters=-1), "warmup_iters -1"),
        (lambda: Poly(1.0, 8, warmup_ratio=2.0), "warmup_ratio 2.0"),
        (lambda: Step(1.0, 8, milestones=[]), "milestones"),
        (lambda: Step(1.0, 8), "milestones or size: expected one of them"),
        (lambda: Step(1.0, 8, milestones=[1], size=2), "milestones or size: expected one of them"),
        (lambda: Step(1.0, 8, size=0), "size 0: expected 1 iteration or more"),
        (lambda: Step(1.0, 8, size=2, gamma=1.5), "gamma 1.5"),
        (lambda: Cosine(1.0, 8, period=0), "period 0"),
        (lambda: Cosine(1.0, 8, factor=0.5), "factor 0.5"),
        (lambda: OneCycle(1.0, 8, end_ratio=-1.0), "end_ratio -1.0"),
        (lambda: ReduceOnPlateau(1.0, 8, factor=1.0), "factor 1.0"),
        (lambda: ReduceOnPlateau(1.0, 8, patience=-1), "patience -1"),
        (lambda: ReduceOnPlateau(1.0, 8, cooldown=-1), "cooldown -1"),
    ],
)
def test_values_that_cannot_be_right_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
