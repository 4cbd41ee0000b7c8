"""Learning-rate schedules: pure functions of the iteration and of the scores recorded before it.

A resumed run has both, so no schedule has a state of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Score = tuple[int, float | None]  # (iteration, score), higher is better; None where there was none


class Schedule:
    """The learning rate of each iteration (1, 2, …), after a warm-up that all schedules have.

    Args:
        learning_rate: the rate that the recipe names, above 0 and up to 1e100.
        total: iterations of the run.
        warmup_iters: for so many iterations the rate climbs in a straight line up to the schedule's own.
        warmup_ratio: where that line begins, as a share of the rate, 0 to 1.
    """

    def __init__(
        self, learning_rate: float, total: int, warmup_iters: int = 0, warmup_ratio: float = 0.0
    ) -> None:
        if not 0 < learning_rate <= 1e100:
            raise ValueError(f"learning_rate {learning_rate}: expected a number above 0")
        if warmup_iters < 0:
            raise ValueError(f"warmup_iters {warmup_iters}: expected 0 or more")
        if not 0 <= warmup_ratio <= 1:
            raise ValueError(f"warmup_ratio {warmup_ratio}: expected 0 to 1")
        self.learning_rate, self.total = learning_rate, total
        self.warmup_iters, self.warmup_ratio = warmup_iters, warmup_ratio

    def __call__(self, iteration: int, scores: Iterable[Score] = ()) -> float:
        """The rate of an iteration; `scores` are those of the evaluations so far, in their order."""
        rate = self.decayed(iteration - 1, scores)
        if iteration <= self.warmup_iters:
            share = iteration / (self.warmup_iters + 1)
            rate *= self.warmup_ratio + (1 - self.warmup_ratio) * share
        return rate

    def decayed(self, done: int, scores: Iterable[Score] = ()) -> float:
        """The rate after `done` iterations, without warm-up."""
        return self.learning_rate

    @property
    def highest(self) -> float:
        """The largest rate that the schedule reaches in any run."""
        return self.learning_rate

    @property
    def first(self) -> float:
        """The rate of the first iteration."""
        return self(1)

    def longer_than_the_run(self) -> str | None:
        """What part of the schedule does not fit into the run, in words."""
        if self.warmup_iters >= self.total:
            return f"warm-up of {self.warmup_iters} iterations in a run of {self.total}"
        return None


class Constant(Schedule):
    """One rate throughout, after the warm-up."""


class Poly(Schedule):
    """learning_rate * (1 - done / total) ** power, not below `end` (DeepLab, section 4.1)."""

    def __init__(
        self,
        learning_rate: float,
        total: int,
        power: float = 0.9,
        end: float = 0.0,
        warmup_iters: int = 0,
        warmup_ratio: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, total, warmup_iters, warmup_ratio)
        if power <= 0:
            raise ValueError(f"power {power}: expected a number above 0")
        self.power, self.end = power, _check_end(end, learning_rate)

    def decayed(self, done: int, scores: Iterable[Score] = ()) -> float:
        left = max(0.0, 1.0 - done / self.total)
        return (self.learning_rate - self.end) * left**self.power + self.end


class Step(Schedule):
    """The rate times `gamma` after every iteration of `milestones`, or after every `size` iterations."""

    def __init__(
        self,
        learning_rate: float,
        total: int,
        milestones: Sequence[int] | None = None,
        size: int | None = None,
        gamma: float = 0.1,
        warmup_iters: int = 0,
        warmup_ratio: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, total, warmup_iters, warmup_ratio)
        if (milestones is None) == (size is None):
            raise ValueError("milestones or size: expected one of them, such as milestones: [300, 600]")
        if size is not None and size < 1:
            raise ValueError(f"size {size}: expected 1 iteration or more")
        rising = [size] if size is not None else list(milestones or ())
        if not rising or rising != sorted(set(rising)) or rising[0] < 1:
            raise ValueError(f"milestones {rising}: expected rising iterations, such as [300, 600]")
        if not 0 < gamma <= 1:
            raise ValueError(f"gamma {gamma}: expected a number above 0, up to 1")
        self.milestones, self.size, self.gamma = tuple(rising), size, gamma

    def decayed(self, done: int, scores: Iterable[Score] = ()) -> float:
        steps = done // self.size if self.size else sum(done >= mark for mark in self.milestones)
        return self.learning_rate * self.gamma**steps

    def longer_than_the_run(self) -> str | None:
        if self.milestones[-1] >= self.total:
            return f"a step at iteration {self.milestones[-1]} in a run of {self.total}"
        return super().longer_than_the_run()


class Cosine(Schedule):
    """Half a cosine from the rate down to `end`, over the run or again and again (SGDR, ICLR 2017).

    Args:
        learning_rate: at the start and after every restart.
        total: iterations of the run.
        period: iterations until the first restart; None for the whole run.
        factor: every period is so many times as long as the one before, 1 or more.
        end: the lowest rate, 0 or more.
        warmup_iters, warmup_ratio: see `Schedule`.
    """

    def __init__(
        self,
        learning_rate: float,
        total: int,
        period: int | None = None,
        factor: float = 1.0,
        end: float = 0.0,
        warmup_iters: int = 0,
        warmup_ratio: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, total, warmup_iters, warmup_ratio)
        if period is not None and period < 1:
            raise ValueError(f"period {period}: expected 1 iteration or more")
        if factor < 1:
            raise ValueError(f"factor {factor}: expected 1 or more")
        self.period, self.factor, self.end = period, factor, _check_end(end, learning_rate)

    def decayed(self, done: int, scores: Iterable[Score] = ()) -> float:
        if self.period is None:
            share = min(1.0, done / self.total)
        else:
            length, begun = float(self.period), 0.0
            while done >= begun + length:
                begun, length = begun + length, length * self.factor
            share = (done - begun) / length
        return self.end + (self.learning_rate - self.end) * _half_cosine(share)

    def longer_than_the_run(self) -> str | None:
        if self.period is not None and self.period > self.total:
            return f"a period of {self.period} iterations in a run of {self.total}"
        return super().longer_than_the_run()


class OneCycle(Schedule):
    """Up to `learning_rate` and down to almost nothing, each along half a cosine (Smith and Topin, 2018).

    Args:
        learning_rate: the peak.
        total: iterations of the run.
        warmup_iters: iterations of the rise; None for three tenths of the run.
        warmup_ratio: where the rise begins, as a share of the peak.
        end_ratio: where the fall ends, as a share of the peak.
    """

    def __init__(
        self,
        learning_rate: float,
        total: int,
        warmup_iters: int | None = None,
        warmup_ratio: float = 0.04,
        end_ratio: float = 4e-6,
    ) -> None:
        rise = round(0.3 * total) if warmup_iters is None else warmup_iters
        super().__init__(learning_rate, total, rise, warmup_ratio)
        if not 0 <= end_ratio <= 1:
            raise ValueError(f"end_ratio {end_ratio}: expected 0 to 1")
        self.end_ratio = end_ratio

    def __call__(self, iteration: int, scores: Iterable[Score] = ()) -> float:
        # the rise is this schedule's warm-up
        return self.decayed(iteration - 1, scores)

    def decayed(self, done: int, scores: Iterable[Score] = ()) -> float:
        if done < self.warmup_iters:
            return self._between(1.0, self.warmup_ratio, done / self.warmup_iters)
        fall = max(1, self.total - 1 - self.warmup_iters)
        return self._between(self.end_ratio, 1.0, min(1.0, (done - self.warmup_iters) / fall))

    def _between(self, end: float, start: float, share: float) -> float:
        return self.learning_rate * (end + (start - end) * _half_cosine(share))


class ReduceOnPlateau(Schedule):
    """The rate times `factor` whenever the score has not risen for `patience` evaluations.

    The score is that of `train.best`, at each evaluation of the run (of the stage). What is recorded in
    metrics.jsonl decides alone, so that a resumed run takes the same rates.

    Args:
        learning_rate: at the start.
        total: iterations of the run.
        factor: above 0, below 1.
        patience: evaluations in a row without a better score that are still waited for, 0 or more.
        threshold: a score is better if it is more than this above the best so far, 0 or more.
        cooldown: evaluations after a reduction that are not counted, 0 or more.
        end: the lowest rate, 0 or more.
        warmup_iters, warmup_ratio: see `Schedule`.
    """

    def __init__(
        self,
        learning_rate: float,
        total: int,
        factor: float = 0.1,
        patience: int = 3,
        threshold: float = 1e-4,
        cooldown: int = 0,
        end: float = 0.0,
        warmup_iters: int = 0,
        warmup_ratio: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, total, warmup_iters, warmup_ratio)
        if not 0 < factor < 1:
            raise ValueError(f"factor {factor}: expected a number above 0 and below 1")
        for name, value in (("patience", patience), ("cooldown", cooldown), ("threshold", threshold)):
            if value < 0:
                raise ValueError(f"{name} {value}: expected 0 or more")
        self.factor, self.patience, self.threshold = factor, patience, threshold
        self.cooldown, self.end = cooldown, _check_end(end, learning_rate)

    def decayed(self, done: int, scores: Iterable[Score] = ()) -> float:
        reductions = self._reductions([score for iteration, score in scores if iteration <= done])
        return max(self.end, self.learning_rate * self.factor**reductions)

    def _reductions(self, scores: Sequence[float | None]) -> int:
        best, waited, resting, count = -math.inf, 0, 0, 0
        for score in scores:
            if score is not None and score > best + self.threshold:
                best, waited = score, 0
            elif resting == 0:
                waited += 1
            resting = max(0, resting - 1)
            if waited > self.patience:
                count, waited, resting = count + 1, 0, self.cooldown
        return count


def _half_cosine(share: float) -> float:
    """1 at share 0, 0 at share 1."""
    return 0.5 * (1 + math.cos(math.pi * share))


def _check_end(end: float, learning_rate: float) -> float:
    if not 0 <= end <= learning_rate:
        raise ValueError(f"end {end}: expected 0 up to learning_rate {learning_rate}")
    return end


SCHEDULES = {
    "Constant": Constant,
    "Poly": Poly,
    "Step": Step,
    "Cosine": Cosine,
    "OneCycle": OneCycle,
    "ReduceOnPlateau": ReduceOnPlateau,
}
