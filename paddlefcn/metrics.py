"""One confusion matrix; every score of a segmentation is read off it.

With n[i, j] the pixels of class i predicted as class j, t_i = sum_j n[i, j] the pixels of class i
and p_i = sum_j n[j, i] the pixels predicted as class i (Long, Shelhamer, Darrell, CVPR 2015,
section 5):

    pixel accuracy         sum_i n_ii / sum_i t_i
    mean accuracy          mean of n_ii / t_i
    mean IoU               mean of n_ii / (t_i + p_i - n_ii)
    frequency weighted IoU sum_i t_i IoU_i / sum_k t_k
    mean Dice              mean of 2 n_ii / (t_i + p_i)

Code bases differ in what a quotient 0/0 counts as. The three conventions:

    paper           it is left out of the mean. A class absent from the truth but predicted has IoU
                    and Dice 0, which count, and no accuracy.
    mmsegmentation  the same in its own words: 0/0 is NaN and the means are NaN-means. So its
                    figures are the paper's; it prints them in per cent, with two decimals.
    paddleseg       it is 0 and counts, so a class that no image holds lowers every mean. PaddleSeg
                    has no mean accuracy over classes (what it calls so is the pixel accuracy); here
                    it is the mean of its class recalls. Neither of the two has a frequency weighted
                    IoU.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

CONVENTIONS = ("paper", "mmsegmentation", "paddleseg")


@dataclass(frozen=True)
class ClassScores:
    """The scores of one class, each within 0..1; None where the quotient is 0/0 and not counted."""

    name: str
    iou: float | None
    accuracy: float | None
    precision: float | None
    recall: float | None
    dice: float | None
    pixels: int


# the scores of a whole split, as they are called in records, in JSON and in `train.best`
SCORES = ("mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "mean_dice")


@dataclass(frozen=True)
class Scores:
    """Every score of a confusion matrix, each within 0..1, or None where nothing was scored.

    ``confusion_matrix`` holds pixels as [truth][prediction]; ``images`` is how many label maps were
    counted.
    """

    pixel_accuracy: float | None
    mean_accuracy: float | None
    mean_iou: float | None
    frequency_weighted_iou: float | None
    mean_dice: float | None
    per_class: tuple[ClassScores, ...]
    confusion_matrix: tuple[tuple[int, ...], ...]
    images: int
    convention: str

    def to_dict(self) -> dict[str, Any]:
        """The scores as JSON can hold them: lists and None, never NaN."""
        plain = asdict(self)
        plain["per_class"] = list(plain["per_class"])
        plain["confusion_matrix"] = [list(row) for row in self.confusion_matrix]
        return plain

    def table(self) -> str:
        """The scores as lines of text: one a class, then the means."""
        width = max(5, *(columns(row.name) for row in self.per_class))
        header = ("IoU", "recall", "precision", "Dice")  # a class's accuracy is its recall
        words = "".join(f"{word:>11}" for word in header)
        lines = [padded("class", width) + words + f"{'pixels':>14}"]
        for row in self.per_class:
            cells = (row.iou, row.recall, row.precision, row.dice)
            figures = "".join(f"{_figure(cell):>11}" for cell in cells)
            lines.append(padded(row.name, width) + figures + f"{row.pixels:>14,}")
        lines.append("")
        for label, value in (
            ("pixel accuracy", self.pixel_accuracy),
            ("mean accuracy", self.mean_accuracy),
            ("mean IoU", self.mean_iou),
            ("frequency weighted IoU", self.frequency_weighted_iou),
            ("mean Dice", self.mean_dice),
        ):
            lines.append(f"{label:<24}{_figure(value):>8}")
        present = sum(row.pixels > 0 for row in self.per_class)
        lines.append(
            f"over {self.images} images, {present} of {len(self.per_class)} classes present; "
            f"convention: {self.convention}"
        )
        return "\n".join(lines)


class ConfusionMatrix:
    """Counts pixels as [truth, prediction].

    ``num_classes`` is at least 1; pixels whose label is ``ignore_index`` are not counted.
    Raises ValueError for a number of classes below 1.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; it must be at least 1")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.images = 0
        self.matrix = np.zeros((num_classes, num_classes), np.int64)
        self._rows = self._row_table()

    def update(self, pred: np.ndarray, label: np.ndarray) -> None:
        """Add one label map (H, W), or several (N, H, W).

        ``pred`` holds class ids 0..num_classes-1, ``label`` the same or ``ignore_index``;
        integers of any width. Raises ValueError if the shapes differ or a value is outside.
        """
        pred, label = np.asarray(pred), np.asarray(label)
        if pred.shape != label.shape:
            raise ValueError(f"pred has shape {pred.shape}, label {label.shape}; must be equal")
        if pred.dtype.kind not in "iu" or label.dtype.kind not in "iu":
            raise ValueError(f"pred is {pred.dtype}, label {label.dtype}; both must be integers")
        if pred.size:
            self.matrix += self._count(pred, label)
        self.images += len(pred) if pred.ndim > 2 else 1

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        if (self.num_classes, self.ignore_index) != (other.num_classes, other.ignore_index):
            raise ValueError(
                f"cannot add a confusion matrix of {other.num_classes} classes, ignoring "
                f"{other.ignore_index}, to one of {self.num_classes}, ignoring {self.ignore_index}"
            )
        total = ConfusionMatrix(self.num_classes, self.ignore_index)
        total.matrix = self.matrix + other.matrix
        total.images = self.images + other.images
        return total

    def scores(
        self, class_names: tuple[str, ...] | list[str] | None = None, convention: str = "paper"
    ) -> Scores:
        """Read the scores off; ``convention`` is one of CONVENTIONS (see the module's text).

        Raises ValueError for an unknown convention or as many names as there are not classes.
        """
        if convention not in CONVENTIONS:
            raise ValueError(f"convention {convention!r} is not one of {', '.join(CONVENTIONS)}")
        names = class_names or [str(index) for index in range(self.num_classes)]
        if len(names) != self.num_classes:
            raise ValueError(f"{len(names)} class names for {self.num_classes} classes")
        right = np.diag(self.matrix)
        truth, predicted = self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        missing = 0.0 if convention == "paddleseg" else None
        iou = _quotients(right, truth + predicted - right, missing)
        accuracy = _quotients(right, truth, missing)
        precision = _quotients(right, predicted, missing)
        dice = _quotients(2 * right, truth + predicted, missing)
        pixels = [int(count) for count in truth]
        total = sum(pixels)
        weighted = sum(count * (score or 0.0) for count, score in zip(pixels, iou))
        return Scores(
            pixel_accuracy=int(right.sum()) / total if total else None,
            mean_accuracy=_mean(accuracy) if total else None,
            mean_iou=_mean(iou) if total else None,
            frequency_weighted_iou=weighted / total if total else None,
            mean_dice=_mean(dice) if total else None,
            per_class=tuple(
                ClassScores(str(name), *rest)
                for name, *rest in zip(names, iou, accuracy, precision, accuracy, dice, pixels)
            ),
            confusion_matrix=tuple(tuple(int(n) for n in row) for row in self.matrix),
            images=self.images,
            convention=convention,
        )

    def _row_table(self) -> np.ndarray:
        """Where the row of each 8-bit label begins; the ignored and the wrong get their own."""
        rows = np.full(256, (self.num_classes + 1) * self.num_classes, np.int64)
        known = min(self.num_classes, 256)
        rows[:known] = np.arange(known) * self.num_classes
        if 0 <= self.ignore_index < 256:
            rows[self.ignore_index] = self.num_classes * self.num_classes
        return rows

    def _count(self, pred: np.ndarray, label: np.ndarray) -> np.ndarray:
        classes = self.num_classes
        low, high = int(pred.min()), int(pred.max())
        if low < 0 or high >= classes:
            raise ValueError(f"pred holds {low}..{high}, outside 0..{classes - 1}")
        if label.dtype == np.uint8:  # one table look-up does both the ignoring and the checking
            index = self._rows[label]
        else:
            wide = label.astype(np.int64)
            ignored = wide == self.ignore_index
            outside = ~ignored & ((wide < 0) | (wide >= classes))
            index = np.where(ignored, classes, np.where(outside, classes + 1, wide)) * classes
        index += pred.astype(np.int64, copy=False)
        counts = np.bincount(index.ravel(), minlength=(classes + 2) * classes).reshape(-1, classes)
        if counts[classes + 1].any():
            values = np.unique(label)
            wrong = [int(v) for v in values if v != self.ignore_index and not 0 <= v < classes]
            raise ValueError(
                f"label holds {wrong[:8]}, outside 0..{classes - 1} and not ignore_index {self.ignore_index}"
            )
        return counts[:classes]


def scored_pixels(
    pred: np.ndarray, label: np.ndarray, ignore_index: int = 255
) -> tuple[np.ndarray, np.ndarray]:
    """Both maps [H, W] with the pixels that `pred` leaves unlabelled (`ignore_index`) made void in the label.

    Their prediction becomes class 0, which is not counted there; without such pixels both are returned as
    they are.
    """
    unlabelled = pred == ignore_index
    if not unlabelled.any():
        return pred, label
    wide = label if ignore_index <= np.iinfo(label.dtype).max else label.astype(np.int32)
    return np.where(unlabelled, 0, pred), np.where(unlabelled, np.array(ignore_index, wide.dtype), wide)


def _quotients(over: np.ndarray, under: np.ndarray, missing: float | None) -> list[float | None]:
    return [int(a) / int(b) if b else missing for a, b in zip(over, under)]


def _mean(values: list[float | None]) -> float | None:
    counted = [value for value in values if value is not None]
    return sum(counted) / len(counted) if counted else None


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def columns(text: str) -> int:
    """Terminal columns of a text; East Asian characters take two."""
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def padded(text: str, width: int) -> str:
    """The text filled up to `width` terminal columns; a Chinese character takes two."""
    return text + " " * (width - columns(text))
