"""Progressive resizing: a training that begins on small images, in larger batches, and ends at full size."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Phase:
    """Up to and with iteration `until` of the stage, augmented samples are reduced by `scale`.

    Args:
        until: 1 or more.
        scale: above 0, up to 1, of height and of width.
        batch_size: samples a batch; when not given, as many more as keep the pixels of a batch.
    """

    until: int
    scale: float
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.until < 1:
            raise ValueError(f"until {self.until}: expected an iteration, 1 or more")
        if not 0 < self.scale <= 1:
            raise ValueError(f"scale {self.scale}: expected a number above 0, up to 1")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size {self.batch_size}: expected 1 or more")


@dataclasses.dataclass(frozen=True)
class Growth:
    """Which samples batch k takes, and at which scale: a function of k alone.

    Args:
        batch_size: of the full size.
        phases: rising in `until`.
        accumulate: batches an iteration.
        start: iterations of the stages before; their batches are counted at the full size.
    """

    batch_size: int
    phases: tuple[Phase, ...] = ()
    accumulate: int = 1
    start: int = 0

    def __post_init__(self) -> None:
        marks = [phase.until for phase in self.phases]
        if marks != sorted(set(marks)):
            raise ValueError(f"until {marks}: expected rising iterations")

    def __call__(self, number: int) -> tuple[int, int, float]:
        """(the first sample's position, samples, scale) of batch `number`, counted from 0."""
        begun = self.start * self.accumulate
        first = min(number, begun) * self.batch_size
        for phase, size in zip(self.phases, self.batch_sizes):
            end = (self.start + phase.until) * self.accumulate
            first += max(0, min(number, end) - begun) * size
            if begun <= number < end:
                return first, size, phase.scale
            begun = max(begun, end)
        return first + max(0, number - begun) * self.batch_size, self.batch_size, 1.0

    @property
    def batch_sizes(self) -> Sequence[int]:
        """Samples a batch of each phase."""
        return [p.batch_size or max(1, round(self.batch_size / p.scale**2)) for p in self.phases]

    @property
    def full_size_from(self) -> int:
        """The first batch of the full size."""
        last = self.phases[-1].until if self.phases else 0
        return (self.start + last) * self.accumulate
