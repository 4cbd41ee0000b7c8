"""Splits that do not lie: by group, stratified, in folds; written down as lists and taken up again."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from paddlefcn.data.datasets.base import Sample, Source
from paddlefcn.errors import DataError

Values = Callable[[int], Sequence[Hashable]]  # index of a sample -> what stands in its mask


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """How pairs without lists are split into train and val: the same way on every machine.

    Args:
        val_fraction: the share that is held out, above 0 and below 1; at least one.
        seed: which ones.
        group_by: what must not stand on both sides: "folder" (the images of a folder), "prefix" (names
            that are equal up to their first `_`), or a regular expression, whose first group (or whole
            match) in the name is the group.
        stratify: classes are spread evenly by the images that hold them (Sechidis et al. 2011, On the
            stratification of multi-label data); every mask is read for it.
        folds: so many parts instead of `val_fraction`, of which number `fold` (from 0) is held out.

    Raises:
        ValueError: an argument out of its bounds.
    """

    val_fraction: float = 0.2
    seed: int = 0
    group_by: str | None = None
    stratify: bool = False
    folds: int | None = None
    fold: int = 0

    def __post_init__(self) -> None:
        fraction = self.val_fraction
        if not isinstance(fraction, (int, float)) or not 0 < fraction < 1:
            raise ValueError(f"val_fraction: expected a number between 0 and 1, got {fraction!r}")
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed: expected an integer of 0 or more, got {self.seed!r}")
        if self.folds is not None and (type(self.folds) is not int or not 2 <= self.folds <= 1000):
            raise ValueError(f"folds: expected 2 to 1000, got {self.folds!r}")
        if type(self.fold) is not int or not 0 <= self.fold < (self.folds or 1):
            last = (self.folds or 1) - 1
            raise ValueError(f"fold: expected 0 to {last} (it counts from 0 up to folds), got {self.fold!r}")
        if self.group_by not in (None, "folder", "prefix"):
            try:
                re.compile(str(self.group_by))
            except re.error as error:
                raise ValueError(f"group_by: {self.group_by!r} is no regular expression ({error})") from None

    def take(self, samples: Sequence[Sample], split: str, values: Values | None = None) -> list[Sample]:
        """The samples of a split, in the order of `samples`.

        Args:
            values: index -> what stands in the sample's mask; needed to stratify.

        Raises:
            DataError: no such split, or too few samples or groups to hold one out.
        """
        check_split(split)
        if not samples:
            return []
        if len(samples) == 1:
            name = samples[0].image or samples[0].name
            raise DataError(f"{name}: is the only image; two are needed to hold one out")
        held = self._held(samples, values)
        return [sample for index, sample in enumerate(samples) if (index in held) == (split == "val")]

    def _held(self, samples: Sequence[Sample], values: Values | None) -> set[int]:
        if self.group_by is None and not self.stratify and self.folds is None:
            count = min(max(1, round(len(samples) * self.val_fraction)), len(samples) - 1)
            order = np.random.default_rng([self.seed]).permutation(len(samples))
            return set(order[:count].tolist())
        groups = self._groups(samples)
        parts = self.folds or 2
        if len(groups) < parts:
            what = f"groups by {self.group_by!r}" if self.group_by else "images"
            raise DataError(f"{len(groups)} {what}; {parts} are needed for {parts} parts")
        shares = [1 / parts] * parts if self.folds else [self.val_fraction, 1 - self.val_fraction]
        counts = _counts(groups, values if self.stratify else None)
        wanted = self.fold if self.folds else 0
        chosen = _spread(counts, shares, np.random.default_rng([self.seed]))
        return {index for group, part in zip(groups, chosen) if part == wanted for index in group}

    def _groups(self, samples: Sequence[Sample]) -> list[list[int]]:
        groups: dict[str, list[int]] = {}
        for index, sample in enumerate(samples):
            groups.setdefault(self._key(sample.name), []).append(index)
        return list(groups.values())

    def _key(self, name: str) -> str:
        if self.group_by is None:
            return name
        if self.group_by == "folder":
            return PurePosixPath(name).parent.as_posix()
        if self.group_by == "prefix":
            return PurePosixPath(name).name.split("_")[0]
        match = re.search(self.group_by, name)
        if match is None:
            raise DataError(f"{name}: data.group_by {self.group_by!r} matches nothing in it")
        return (match[1] if match.groups() else match[0]) or ""


def check_split(split: str) -> None:
    """DataError for a split that is drawn from none."""
    if split not in ("train", "val"):
        raise DataError(f"no split {split!r}; folders without lists are split into train and val")


def _counts(groups: Sequence[Sequence[int]], values: Values | None) -> np.ndarray:
    """[groups, 1 + classes]: images of each group, and images that hold each class."""
    held = [[set(values(index)) if values else set() for index in group] for group in groups]
    classes = sorted({value for group in held for image in group for value in image}, key=repr)
    return np.array(
        [[len(group), *(sum(value in image for image in group) for value in classes)] for group in held]
    )


def _spread(counts: np.ndarray, shares: Sequence[float], rng: np.random.Generator) -> list[int]:
    """The part of each group: the rarest class first, to the part that lacks most of it."""
    order = rng.permutation(len(counts))
    lacking = np.outer(shares, counts.sum(axis=0)).astype(float)  # [parts, 1 + classes]
    part_of = [-1] * len(counts)
    open_groups = [int(index) for index in order]
    while open_groups:
        left = counts[open_groups].sum(axis=0)
        rare = [column for column in range(1, counts.shape[1]) if left[column]]
        column = min(rare, key=lambda c: left[c]) if rare else 0
        # the largest first, so that small ones even it out; ties in the drawn order
        index = max(open_groups, key=lambda i: counts[i, column])
        empty = [part for part in range(len(shares)) if part not in part_of]
        # the last groups go to the parts that have none yet
        choice = empty if len(open_groups) <= len(empty) else range(len(shares))
        part_of[index] = max(choice, key=lambda p: (round(lacking[p, column], 9), round(lacking[p, 0], 9)))
        lacking[part_of[index]] -= counts[index]
        open_groups.remove(index)
    return part_of


def restore_split(sources: Mapping[str, Source], lists: Mapping[str, Sequence[str]]) -> list[str]:
    """Gives each source the samples that a list names, in its order, wherever they were drawn to since.

    `lists` is what `{split: [sample.name for sample in source.samples]}` once was: a set that has gained
    images since would be drawn anew otherwise, and train on what it is scored on.

    Args:
        sources: split -> source, all of one data set; their `samples` are replaced.
        lists: split -> the names of its samples.

    Returns:
        The names of samples that stand in no list; they are left out.

    Raises:
        DataError: a name in a list that none of the sources has.
    """
    pool = {sample.name: sample for source in sources.values() for sample in source.samples}
    missing = [name for names in lists.values() for name in names if name not in pool]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{missing[0]}{more}: was in this run's split and is gone; put it back, or start a new run"
        )
    for split, source in sources.items():
        source.samples = [pool[name] for name in lists.get(split, ())]
    listed = {name for names in lists.values() for name in names}
    return sorted(name for name in pool if name not in listed)
