"""Batches for training, and images in order for evaluation. What comes out depends on the seed alone."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from paddlefcn.data.cache import CachedDataset
from paddlefcn.data.datasets import Sample, SegmentationDataset
from paddlefcn.data.growth import Growth
from paddlefcn.data.images import Normalize
from paddlefcn.data.transforms import Compose, Transform
from paddlefcn.data.transforms.fused import resize_averaged, resize_ids
from paddlefcn.data.workers import ordered_map
from paddlefcn.errors import DataError, RunError


@dataclasses.dataclass(frozen=True)
class Batch:
    """image float32 [N, C, H, W], normalised; label int64 [N, H, W]; the samples' names."""

    image: np.ndarray
    label: np.ndarray
    names: list[str]


class TrainLoader:
    """An endless stream of augmented batches; batch k depends on (seed, k) alone.

    The samples of every epoch come in a new order, and batches run on over its end: no sample is left
    out, and a data set smaller than a batch works. With several ranks, each takes its part of a joint
    batch of batch_size * world_size.

    Args:
        transforms: one or several, called one after the other as (image, label, rng) -> (image, label).
        batch_size: samples a batch of this rank.
        growth: smaller samples in larger batches at first; all at their size when not given.
        num_workers: processes that prepare batches; 0 prepares them in this one.
        on_bad_image: "stop" raises the DataError; "skip" takes the epoch's next sample instead and
            notes the bad one in `bad`.

    Raises:
        DataError: from `batches`, for files that cannot be used and samples that differ in size.
        RunError: a worker died.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        transforms: Transform | Sequence[Transform],
        normalize: Normalize,
        *,
        batch_size: int,
        growth: Growth | None = None,
        seed: int = 0,
        num_workers: int = 0,
        on_bad_image: str = "stop",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if on_bad_image not in ("stop", "skip"):
            raise ValueError(f"on_bad_image {on_bad_image!r}: expected stop or skip")
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(f"batch_size {batch_size}, rank {rank} of {world_size}: out of range")
        if not len(dataset):
            raise DataError("the training split has no samples")
        self.growth = growth or Growth(batch_size)
        augment = transforms if callable(transforms) else Compose(transforms)
        skip = on_bad_image == "skip"
        self._make = _BatchMaker(
            dataset, augment, normalize, self.growth, seed, skip, rank, world_size, holders={}
        )
        self._prepared = False
        self.num_workers = num_workers
        self.batches_per_epoch = -(-len(dataset) // (batch_size * world_size))
        self.bad: dict[str, str] = {}  # name -> message of every sample that was skipped so far

    def prepare(self) -> list[str]:
        """Fills the data set's cache and finds what samples are drawn by, once; returns lines that say so.

        Raises:
            DataError: no room for the cache, or no mask holds one of the classes to draw by.
        """
        if self._prepared:
            return []
        make, lines = self._make, []
        if isinstance(make.dataset, CachedDataset):
            line = make.dataset.fill(self.num_workers)
            lines += [line] if line else []
        groups = make.augment.partner_classes if isinstance(make.augment, Compose) else []
        if groups:
            holders = find_holders(make.dataset, {*itertools.chain(*groups)}, self.num_workers, make.skip)
            self._make = dataclasses.replace(make, holders=holders)
            counts = ", ".join(f"{value}: {len(held)}" for value, held in holders.items())
            lines.append(f"CopyPaste: of {len(make.dataset)} images so many hold class {counts}")
        for group in groups:
            if not any(holders[value] for value in group):
                count = len(make.dataset)
                raise DataError(f"CopyPaste: none of the {count} masks holds one of classes {list(group)}")
        self._prepared = True
        return lines

    def draw_sample(
        self, rng: np.random.Generator, classes: tuple[int, ...] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Any sample as its files hold it, or one that holds one of `classes`: as mixing draws it."""
        self.prepare()
        return self._make.draw(rng, classes, self.bad)

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Batch `start` and those after it, without end. Close the generator to end its workers."""
        self.prepare()
        make = dataclasses.replace(self._make, small_labels=self.num_workers > 0)
        stream = ordered_map(make, itertools.count(start), self.num_workers)
        try:
            for image, label, names, bad in stream:
                self.bad.update(bad)
                yield Batch(image, label.astype(np.int64, copy=False), names)
                del image, label  # before the next ones are made: their memory is free
        finally:
            stream.close()  # type: ignore[attr-defined]


@functools.lru_cache(maxsize=2)  # a batch may run on over the end of an epoch
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The samples of an epoch in their random order."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def _reduced(image: np.ndarray, label: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """A sample at a share of its height and width, one pixel at least."""
    size = (max(1, round(label.shape[0] * scale)), max(1, round(label.shape[1] * scale)))
    return resize_averaged(image, size), resize_ids(label, size)


@dataclasses.dataclass(frozen=True)
class _BatchMaker:
    """Makes batch k; sent to every worker once, from where labels travel in their small type."""

    dataset: SegmentationDataset
    augment: Transform
    normalize: Normalize
    growth: Growth
    seed: int
    skip: bool
    rank: int
    world_size: int
    holders: Mapping[int, Sequence[int]]  # class id -> the samples that hold it, for those that are drawn by
    small_labels: bool = False  # of the data set's own type instead of int64

    def __call__(self, number: int) -> tuple[np.ndarray, np.ndarray, list[str], dict[str, str]]:
        position, size, scale = self.growth(number)
        first = position * self.world_size + self.rank * size
        bad: dict[str, str] = {}
        samples = [self._sample(position, bad) for position in range(first, first + size)]
        if scale < 1:
            samples = [(*_reduced(image, label, scale), name) for image, label, name in samples]
        names = [name for _, _, name in samples]
        shape = samples[0][1].shape
        for _, label, name in samples:
            if label.shape != shape:
                raise DataError(
                    f"a batch needs one size, but {names[0]} is {shape[0]}x{shape[1]} and {name} is "
                    f"{label.shape[0]}x{label.shape[1]}; add RandomCrop or Resize with a size to "
                    f"data.train_transforms, or set train.batch_size to 1"
                )
        kind = np.result_type(*(label for _, label, _ in samples)) if self.small_labels else np.int64
        image = np.empty((len(samples), self.normalize.channels, *shape), np.float32)
        labels = np.empty((len(samples), *shape), kind)
        for index, (pixels, label, _) in enumerate(samples):
            self.normalize(pixels, out=image[index])
            labels[index] = label
        return image, labels, names, bad

    def _sample(self, position: int, bad: dict[str, str]) -> tuple[np.ndarray, np.ndarray, str]:
        """The sample at a position of the endless stream, augmented."""
        count = len(self.dataset)
        epoch, place = divmod(position, count)
        order = _order(self.seed, epoch, count)
        candidates = (int(order[(place + step) % count]) for step in range(count))
        # an unreadable sample's place is taken by the epoch's next, with the chance that is its own
        image, label, name, rng = self._read(
            candidates, lambda index: np.random.default_rng([self.seed, epoch, index]), bad
        )
        try:
            if isinstance(self.augment, Compose):
                image, label = self.augment(
                    image, label, rng, lambda chance, ids: self.draw(chance, ids, bad)
                )
            else:
                image, label = self.augment(image, label, rng)
            return image, label, name
        except (DataError, RunError):
            raise
        # a transform's own bug: say which picture it happened to
        except Exception as error:
            reason = " ".join(str(error).split())
            raise RunError(f"augmenting {name} failed: {type(error).__name__}: {reason[:500]}") from error

    def draw(
        self, rng: np.random.Generator, classes: tuple[int, ...] | None, bad: dict[str, str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Any sample, or one that holds one of `classes`: each class as likely, then each sample of it."""
        pool: Sequence[int] = range(len(self.dataset))
        if classes is not None:
            held = [value for value in classes if len(self.holders[value])]
            pool = self.holders[held[int(rng.integers(len(held)))]]
        first = int(rng.integers(len(pool)))
        candidates = (int(pool[(first + step) % len(pool)]) for step in range(len(pool)))
        return self._read(candidates, lambda index: rng, bad)[:2]

    def _read(
        self,
        candidates: Iterable[int],
        generator: Callable[[int], np.random.Generator],
        bad: dict[str, str],
    ) -> tuple[np.ndarray, np.ndarray, str, np.random.Generator]:
        """The first of the candidates that can be read, its name and generator."""
        name = ""
        for index in candidates:
            name = self.dataset.samples[index].name
            rng = generator(index)
            try:
                image, label = self.dataset.read(index, rng)
            except DataError as error:
                if not self.skip:
                    raise
                bad[name] = str(error)
                continue
            return image, label, name, rng
        raise DataError(f"none of the {len(self.dataset)} samples can be read; the last: {bad[name]}")


def find_holders(
    dataset: SegmentationDataset, classes: Iterable[int], num_workers: int = 0, skip: bool = False
) -> dict[int, list[int]]:
    """Class id -> indices of the samples whose mask holds it. Reads every mask.

    Raises:
        DataError: a mask that cannot be read, unless `skip`; a data set of random windows.
    """
    if dataset.draws:
        raise DataError(
            "CopyPaste draws samples by class, and random windows have none of their own; remove it"
        )
    holders: dict[int, list[int]] = {value: [] for value in sorted(classes)}
    processes = num_workers if len(dataset) >= _MANY else 0
    for index, present in enumerate(ordered_map(_Classes(dataset, skip), range(len(dataset)), processes)):
        for value in holders.keys() & present:
            holders[value].append(index)
    return holders


_MANY = 1000  # masks: fewer are read before a process has started


@dataclasses.dataclass(frozen=True)
class _Classes:
    dataset: SegmentationDataset
    skip: bool

    def __call__(self, index: int) -> set[int]:
        """The class ids in a sample's mask."""
        sample = self.dataset.samples[index]
        try:
            mask = self.dataset.read_mask(index)
            return set(np.unique(self.dataset.label_reader(mask, sample.label or sample.name)).tolist())
        except DataError:
            if not self.skip:
                raise
            return set()


def read_ahead(
    dataset: SegmentationDataset,
    prepare: Callable[[np.ndarray], np.ndarray],
    num_workers: int = 0,
    *,
    indices: Sequence[int] | None = None,
    bad: dict[str, str] | None = None,
) -> Iterator[tuple[int, np.ndarray, np.ndarray, Sample]]:
    """(index, prepared image CxHxW, label HxW at its own size, sample), in order.

    Args:
        prepare: image HxWxC -> float32 CxHxW, picklable (`Preprocess`).
        indices: which samples (a rank's part); all by default.
        bad: if given, samples that cannot be read are noted here (name -> message) and left out;
            without it their DataError is raised.
    """
    chosen = range(len(dataset)) if indices is None else list(indices)
    stream = ordered_map(_Reader(dataset, prepare, bad is not None), chosen, num_workers)
    try:
        for index, image, label, message in stream:
            sample = dataset.samples[index]
            if message is not None and bad is not None:
                bad[sample.name] = message
            else:
                yield index, image, label, sample
    finally:
        stream.close()  # type: ignore[attr-defined]


@dataclasses.dataclass(frozen=True)
class _Reader:
    dataset: SegmentationDataset
    prepare: Callable[[np.ndarray], np.ndarray]
    skip: bool

    def __call__(self, index: int) -> tuple[int, Any, Any, str | None]:
        try:
            image, label = self.dataset.read(index)
            return index, self.prepare(image), label, None
        except DataError as error:
            if not self.skip:
                raise
            return index, None, None, str(error)
