"""Checks of a data set: a quick look before training, and a full inspection of every pair."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from paddlefcn.data.datasets import Sample, SegmentationDataset, check_sizes
from paddlefcn.data.images import palette_of
from paddlefcn.data.labels import is_smoothed_binary
from paddlefcn.data.near_duplicates import small_copy
from paddlefcn.data.scenes import open_scene
from paddlefcn.data.workers import ordered_map
from paddlefcn.errors import DataError

_MOST_VALUES = 1024  # different values of a mask that are remembered


def quick_look(
    dataset: SegmentationDataset, class_names: Sequence[str] = (), *, limit: int = 50, skip: bool = False
) -> list[str]:
    """What training makes sure of before it starts: every file is there, and `limit` pairs, spread over
    the split, fit.

    With `skip`, pairs that cannot be read are a warning as long as one can. Returns warnings, one line
    each: a class without a pixel in what was looked at, masks without an image.

    Raises:
        DataError: naming the file, the values found and the fix.
    """
    samples = dataset.samples
    if not samples:
        raise DataError("the split has no samples")
    errors = [line for line in (missing_files(sample) for sample in samples) if line]
    if errors and (not skip or len(errors) == len(samples)):
        raise DataError(errors[0] + (f" ({len(errors) - 1} more are missing)" if len(errors) > 1 else ""))
    values = np.zeros(0, np.int64)
    counts = np.zeros(dataset.label_reader.num_classes, np.int64)
    looked = 0
    # spread: sorted lists often hold one class, or one camera, at their start
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(limit, len(samples))).round().astype(int))
    for index in chosen.tolist():
        if errors and missing_files(samples[index]):
            continue
        try:
            _, label = dataset.read(index)
        except DataError as error:
            if not skip:
                raise
            errors.append(str(error))
            continue
        looked += 1
        values = np.union1d(values, np.unique(label))
        counts += np.bincount(label[label != dataset.label_reader.ignore_index], minlength=len(counts))
    if not looked:
        raise DataError(f"none of {len(chosen)} pairs that were looked at can be used; {errors[-1]}")
    first = samples[0]
    _refuse_unlabelled(dataset, values, f"mask {first.label or first.name} and {looked - 1} others")
    warnings = [f"{len(errors)} pairs cannot be used, the first: {errors[0]}"] if errors else []
    warnings += list(getattr(dataset.source, "remarks", ()))[:5]
    absent = [index for index in range(len(counts)) if not counts[index]]
    if absent:
        names = [class_names[i] if i < len(class_names) else f"class {i}" for i in absent]
        warnings.append(
            f"no pixel of {', '.join(names)} in {looked} masks spread over the split: it will not be learned "
            f"if the rest has none either (paddlefcn check-data counts them all)"
        )
    return warnings


def missing_files(sample: Sample) -> str | None:
    """What is wrong with a pair's file names, None if both are there (or generated)."""
    if sample.image is None and sample.label is None:
        return None
    if sample.image is None:
        return f"mask {sample.label}: has no image; add it, or remove the mask"
    if not os.path.exists(sample.image):
        return f"image {sample.image}: no such file; correct the list, data.root or the folder"
    if sample.label is None:
        return f"image {sample.image}: has no mask; add it, or remove the image"
    if not os.path.exists(sample.label):
        return f"mask {sample.label}: no such file; correct the list, data.root or the folder"
    return None


def _refuse_unlabelled(dataset: SegmentationDataset, values: np.ndarray, where: str) -> None:
    """Refuses masks in which nothing but void, or but 0 and an ignored 255, stands."""
    labels = dataset.label_reader
    found = {int(value) for value in values}
    if found == {labels.ignore_index}:
        raise DataError(
            f"{where}: every pixel is void (ignore_index {labels.ignore_index}); nothing can be learned"
        )
    plain = not labels.label_map and labels.threshold is None
    if labels.num_classes == 2 and found == {0, 255} and labels.ignore_index == 255 and plain:
        raise DataError(f"{where}: hold only 0 and 255, {_BINARY_FIX}")


_BINARY_FIX = (
    "and 255 is ignored: nothing but class 0 is labelled; if 255 is the other class, set "
    "data.label_map: {0: 0, 255: 1}"
)


@dataclasses.dataclass
class Finding:
    """What the inspection of one pair found. Counts are pixels."""

    index: int
    faults: list[str] = dataclasses.field(default_factory=list)
    size: tuple[int, int] | None = None  # (height, width)
    dtype: str = ""
    channel_sums: np.ndarray | None = None  # per channel: sum and sum of squares, [2, C]
    content: str = ""  # of the image's pixels
    small: np.ndarray | None = None  # the image as `small_copy` makes it
    values: dict[int, int] = dataclasses.field(default_factory=dict)  # as they stand in the mask
    colors: dict[tuple[int, ...], int] = dataclasses.field(default_factory=dict)
    palette: dict[int, tuple[int, ...]] = dataclasses.field(default_factory=dict)  # of the values used
    class_pixels: np.ndarray | None = None
    void_pixels: int = 0


@dataclasses.dataclass(frozen=True)
class Inspector:
    """Reads one pair and tells all that is wrong with it; runs in workers."""

    dataset: SegmentationDataset

    def __call__(self, index: int) -> Finding:
        finding = Finding(index)
        sample = self.dataset.samples[index]
        missing = missing_files(sample)
        if missing and (sample.image is None or not os.path.exists(sample.image)):
            finding.faults.append(missing)
        image, mask = self._image(index, finding), self._mask(index, finding)
        if missing and not finding.faults:
            finding.faults.append(missing)
        if image is not None and mask is not None:
            try:
                check_sizes(sample, image, mask)
            except DataError as error:
                finding.faults.append(str(error))
        if mask is not None:
            self._values(mask, sample, finding)
        return finding

    def _image(self, index: int, finding: Finding) -> np.ndarray | None:
        sample = self.dataset.samples[index]
        if sample.image is not None and not os.path.exists(sample.image):
            return None
        try:
            image = self.dataset.read_image(index)
        except DataError as error:
            finding.faults.append(str(error))
            return None
        finding.size, finding.dtype = (image.shape[0], image.shape[1]), str(image.dtype)
        finding.content = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
        finding.small = small_copy(image)
        pixels = image.reshape(-1, image.shape[2]).astype(np.float64)
        finding.channel_sums = np.stack([pixels.sum(axis=0), (pixels**2).sum(axis=0)])
        return image

    def _mask(self, index: int, finding: Finding) -> np.ndarray | None:
        sample = self.dataset.samples[index]
        if sample.label is None and sample.image is not None:
            return None
        if sample.label is not None and not os.path.exists(sample.label):
            return None
        try:
            mask = self.dataset.read_mask(index)
        except DataError as error:
            finding.faults.append(str(error))
            return None
        if hasattr(self.dataset.source, "doubts"):
            finding.faults += self.dataset.source.doubts(index, self.dataset.label_reader)
        return mask

    def _values(self, mask: np.ndarray, sample: Sample, finding: Finding) -> None:
        labels, name = self.dataset.label_reader, sample.label or sample.name
        if mask.ndim == 3:
            colors, counts = np.unique(mask.reshape(-1, 3), axis=0, return_counts=True)
            pairs = list(zip(colors.tolist(), counts.tolist()))[:_MOST_VALUES]
            finding.colors = {tuple(color): count for color, count in pairs}
        else:
            values, counts = np.unique(mask, return_counts=True)
            pairs = list(zip(values.tolist(), counts.tolist()))[:_MOST_VALUES]
            finding.values = dict(pairs)
            if sample.label is not None:
                palette = palette_of(sample.label)
                finding.palette = {value: palette[value] for value in finding.values if value in palette}
        try:
            ids = labels(mask, name)
        except DataError as error:
            finding.faults.append(str(error))
            if labels.num_classes == 2 and is_smoothed_binary(finding.values):
                # shares as they will be with the threshold that is suggested
                high = sum(count for value, count in finding.values.items() if value >= 128)
                finding.class_pixels = np.array([mask.size - high, high])
            return
        void = ids == labels.ignore_index
        finding.void_pixels = int(void.sum())
        finding.class_pixels = np.bincount(ids[~void], minlength=labels.num_classes)
        if finding.void_pixels == ids.size:
            finding.faults.append(
                f"mask {name}: every pixel is void (ignore_index {labels.ignore_index}); label it, or remove "
                f"the pair"
            )
        elif self._binary(finding, void):
            finding.faults.append(f"mask {name}: holds only 0 and 255, {_BINARY_FIX}")

    def _binary(self, finding: Finding, void: np.ndarray) -> bool:
        """Whether 255 looks like a class rather than like void: solid areas of it, and no other class."""
        labels = self.dataset.label_reader
        if set(finding.values) != {0, 255} or labels.ignore_index != 255:
            return False
        if labels.label_map or labels.threshold is not None:
            return False
        if labels.num_classes == 2:
            return True
        solid = cv2.erode(void.astype(np.uint8), np.ones((7, 7), np.uint8))
        return finding.void_pixels > 0.01 * void.size and int(solid.sum()) > 0.2 * finding.void_pixels


def inspect(
    dataset: SegmentationDataset, num_workers: int = 0, progress: Callable[[int, int], None] | None = None
) -> list[Finding]:
    """Inspects every pair in parallel; faults are found, not raised. `progress(done, all)` after each."""
    findings = []
    for finding in ordered_map(Inspector(dataset), range(len(dataset)), num_workers, ahead=4):
        findings.append(finding)
        if progress is not None:
            progress(len(findings), len(dataset))
    return findings


def wrong_palettes(samples: Sequence[Sample], findings: Sequence[Finding]) -> dict[int, str]:
    """Masks whose palette shows an index in another colour than most masks do: index of the pair -> fault.

    An editor that optimises a palette renumbers it: the picture looks right, the ids are not.
    """
    shown: dict[int, dict[tuple[int, ...], int]] = {}
    for finding in findings:
        for value, color in finding.palette.items():
            colors = shown.setdefault(value, {})
            colors[color] = colors.get(color, 0) + 1
    usual = {value: max(sorted(colors), key=lambda c: colors[c]) for value, colors in shown.items()}
    faults = {}
    for finding in findings:
        odd = {v: color for v, color in finding.palette.items() if color != usual[v]}
        if odd:
            value, color = next(iter(odd.items()))
            faults[finding.index] = (
                f"mask {samples[finding.index].label}: palette shows {value} as {list(color)}, most masks as "
                f"{list(usual[value])}: an editor may have renumbered it; save it with the others' palette"
            )
    return faults


def left_out_bands(dataset: SegmentationDataset) -> list[str]:
    """Whether a last band is taken for alpha, as in the split's first picture of a kind that holds bands."""
    pictures = [sample.image for sample in dataset.samples if sample.image is not None]
    file = next((path for path in pictures if path.suffix.lower() in (".tif", ".tiff", ".npy")), None)
    if file is None:
        return []
    with contextlib.suppress(DataError), open_scene(file) as scene:
        if scene.channels in (2, 4) and scene.channels == dataset.channels + 1:
            return [
                f"image {file}: has {scene.channels} channels; the last is left out as alpha, because "
                f"data.normalize has {dataset.channels}; give it {scene.channels} values if all are bands"
            ]
    return []
