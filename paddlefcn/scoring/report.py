"""What `val` and `score` say of a split: a table, a dict for JSON, a line of CSV for each image.

scorer = Scorer(class_names, ignore_index)
scorer.add("street", pred, label)
report = scorer.report()
print(report.table())
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddlefcn.borders import BorderCounter, BorderScores, ImageBorders
from paddlefcn.metrics import CONVENTIONS, ConfusionMatrix, Scores, columns, padded, scored_pixels
from paddlefcn.scoring.statistics import BORDER_SCORES, LEVEL, REGION_SCORES, RESAMPLES, Counts, bootstrap


@dataclass(frozen=True)
class ImageScores:
    """One image: its pixels of each class in the truth, in the prediction and in both, void left out.

    `mean_iou` is over the classes in it, whatever the convention of the whole; None if all is void.
    """

    image: str
    pixel_accuracy: float | None
    mean_iou: float | None
    true: tuple[int, ...]
    predicted: tuple[int, ...]
    hit: tuple[int, ...]
    borders: ImageBorders | None = None

    def to_dict(self) -> dict[str, Any]:
        """The entry of `per_image` in the JSON."""
        plain: dict[str, Any] = {key: value for key, value in vars(self).items() if key != "borders"}
        plain.update({key: list(plain[key]) for key in ("true", "predicted", "hit")})
        if self.borders is not None:
            names = ("band_true", "band_predicted", "band_hit", "f1", "nsd", "hausdorff95")
            plain["borders"] = {name: _plain(getattr(self.borders, name)) for name in names}
        return plain


@dataclass(frozen=True)
class Report:
    """The scores of a split with their intervals, and of each image."""

    scores: Scores
    borders: BorderScores | None
    per_image: tuple[ImageScores, ...]
    intervals: Mapping[str, np.ndarray]
    unlabelled: int = 0

    def table(self) -> str:
        """The scores per class and over all, and how far chance in the choice of images moves them."""
        lines = [self.scores.table()]
        if self.borders is not None:
            lines += ["", self.borders.table()]
        if self.intervals:
            shown = ["pixel_accuracy", "mean_iou", *(BORDER_SCORES[:3] if self.borders else ())]
            parts = [
                f"{name.replace('_', ' ').replace('iou', 'IoU')} {self._interval(name)}" for name in shown
            ]
            lines.append(f"{LEVEL:.0%} of {RESAMPLES:,} draws of such images: " + ", ".join(parts))
        if self.unlabelled:
            scored = sum(row.pixels for row in self.scores.per_class)
            share = self.unlabelled / (scored + self.unlabelled)
            lines.append(f"{share:.2%} of the pixels are unlabelled and left out")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The scores, `intervals`, `borders` if counted, and `per_image`, as JSON can hold them."""
        plain = self.scores.to_dict()
        if self.borders is not None:
            plain["borders"] = self.borders.to_dict()
        plain["unlabelled_pixels"] = self.unlabelled
        plain["intervals"] = self._intervals()
        plain["per_image"] = [image.to_dict() for image in self.per_image]
        return plain

    def per_image_csv(self) -> str:
        """A line for each image: accuracy, mean IoU, IoU of each class, border scores as class means."""
        names = [row.name for row in self.scores.per_class]
        header = ["image", "pixel_accuracy", "mean_iou", *(f"iou {name}" for name in names)]
        header += BORDER_SCORES if self.borders is not None else ()
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        for image in self.per_image:
            ious = class_ious(image.true, image.predicted, image.hit)
            cells = [image.pixel_accuracy, image.mean_iou, *ious, *_border_means(image.borders)]
            writer.writerow([image.image, *("" if cell is None else f"{cell:.6g}" for cell in cells)])
        return stream.getvalue()

    def _interval(self, name: str) -> str:
        low, high = self.intervals[name]
        return "-" if math.isnan(low) else f"{low:.4f} to {high:.4f}"

    def _intervals(self) -> dict[str, Any] | None:
        """Low and high ends under the names of the scores; None if there are too few images."""
        if not self.intervals:
            return None
        plain: dict[str, Any] = {"level": LEVEL, "resamples": RESAMPLES}
        plain.update({name: _plain(self.intervals[name]) for name in REGION_SCORES})
        keys = {"iou": "iou"}
        if self.borders is not None:
            plain.update({name: _plain(self.intervals[name]) for name in BORDER_SCORES})
            plain["trimap"] = _plain(self.intervals["trimap"].T)
            keys.update({name: f"per_class_{name}" for name in BORDER_SCORES})
        plain["per_class"] = [
            {"name": row.name, **{key: _plain(self.intervals[name][:, i]) for key, name in keys.items()}}
            for i, row in enumerate(self.scores.per_class)
        ]
        return plain


class Scorer:
    """Collects label maps, an image at a time; `report` reads everything off.

    Args:
        class_names: in the order of the ids.
        ignore_index: the truth's void, which is not scored.
        convention: how absent classes count in the means, see paddlefcn.metrics.
        borders: counts the border scores too, if given.

    Raises:
        ValueError: an unknown convention.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        ignore_index: int = 255,
        *,
        convention: str = "paper",
        borders: BorderCounter | None = None,
    ) -> None:
        if convention not in CONVENTIONS:
            raise ValueError(f"convention {convention!r} is not one of {', '.join(CONVENTIONS)}")
        self.class_names, self.convention, self.borders = list(class_names), convention, borders
        self.matrix = ConfusionMatrix(len(self.class_names), ignore_index)
        self.per_image: list[ImageScores] = []
        self.unlabelled = 0

    def add(self, image: str, pred: np.ndarray, label: np.ndarray) -> ImageScores:
        """Scores one image; `pred` and `label` are [H, W] class ids. ValueError as ConfusionMatrix.update.

        Pixels that `pred` leaves unlabelled (ignore_index) are counted in `unlabelled` and not scored.
        """
        void = self.matrix.ignore_index
        self.unlabelled += int(np.count_nonzero((pred == void) & (label != void)))
        pred, label = scored_pixels(pred, label, void)
        matrix = ConfusionMatrix(self.matrix.num_classes, self.matrix.ignore_index)
        matrix.update(pred, label)
        self.matrix += matrix
        found = self.borders.update(pred, label) if self.borders is not None else None
        true, predicted = matrix.matrix.sum(axis=1), matrix.matrix.sum(axis=0)
        hit, total = np.diag(matrix.matrix), int(true.sum())
        ious = [iou for iou in class_ious(true, predicted, hit) if iou is not None]
        scored = ImageScores(
            image=image,
            pixel_accuracy=int(hit.sum()) / total if total else None,
            mean_iou=sum(ious) / len(ious) if total else None,
            true=tuple(true.tolist()),
            predicted=tuple(predicted.tolist()),
            hit=tuple(hit.tolist()),
            borders=found,
        )
        self.per_image.append(scored)
        return scored

    def report(self) -> Report:
        """All scores of the images so far; intervals from two images on."""
        intervals = bootstrap(self.counts(), self.convention) if len(self.per_image) > 1 else {}
        return Report(
            self.matrix.scores(self.class_names, self.convention),
            self.borders.scores(self.class_names) if self.borders is not None else None,
            tuple(self.per_image),
            intervals,
            self.unlabelled,
        )

    def counts(self) -> Counts:
        """What `bootstrap` draws from."""
        keys = ("true", "predicted", "hit")
        region = [np.array([getattr(image, key) for image in self.per_image], np.float64) for key in keys]
        if self.borders is None:
            return Counts(*region)
        names = ("band_true", "band_predicted", "band_hit", "f1", "nsd", "hausdorff95", "trimap")
        images = self.borders.images
        return Counts(*region, *(np.array([getattr(i, name) for i in images], np.float64) for name in names))


def class_ious(
    true: Sequence[int] | np.ndarray, predicted: Sequence[int] | np.ndarray, hit: Sequence[int] | np.ndarray
) -> list[float | None]:
    """The IoU of each class, None for one that is neither in the truth nor in the prediction."""
    return [int(h) / int(t + p - h) if t + p else None for t, p, h in zip(true, predicted, hit)]


def confused_pairs(scores: Scores, count: int = 5) -> str:
    """The classes most often taken for another, by their share of the class's pixels."""
    found = []
    for row, entry in zip(scores.confusion_matrix, scores.per_class):
        for column, pixels in enumerate(row):
            if pixels and scores.per_class[column] is not entry:
                found.append((pixels / entry.pixels, entry.name, scores.per_class[column].name))
    found.sort(key=lambda pair: -pair[0])
    named = ", ".join(f"{truth} as {taken} ({share:.0%})" for share, truth, taken in found[:count])
    return f"most confused: {named}" if named else "no pixel confused"


def confusion_table(scores: Scores) -> str:
    """Rows: truth, columns: prediction; of each class's pixels the share in per cent."""
    names = [entry.name for entry in scores.per_class]
    width = max(columns(name) for name in names) + 2
    lines = [padded("truth \\ prediction, %", width + 2)]
    numbers = "".join(f"{index:>6}" for index in range(len(names)))
    lines.append(" " * (width + 4) + numbers)
    for index, (row, entry) in enumerate(zip(scores.confusion_matrix, scores.per_class)):
        cells = "".join(f"{100 * n / entry.pixels:>6.1f}" if entry.pixels else f"{'-':>6}" for n in row)
        lines.append(f"{index:>3} {padded(entry.name, width)}{cells}")
    return "\n".join(lines)


def _border_means(borders: ImageBorders | None) -> list[float | None]:
    """The class means of one image, in the order of BORDER_SCORES; nothing without borders."""
    if borders is None:
        return []
    union = borders.band_true + borders.band_predicted - borders.band_hit
    band = borders.band_hit[union > 0] / union[union > 0]
    parts = (band, borders.f1, borders.nsd, borders.hausdorff95)
    known = [values[~np.isnan(values)] for values in parts]
    return [float(values.mean()) if len(values) else None for values in known]


def _plain(values: np.ndarray) -> Any:
    """Lists of numbers, None for NaN."""
    if values.ndim > 1:
        return [_plain(row) for row in values]
    return [None if value != value else value for value in values.tolist()]
