"""Scores of a segmentation's borders: how well outlines agree, beside the regions of paddlefcn.metrics.

One rule for pixels without truth: what the truth calls void is void in the prediction too, and void is a
neighbour like any class. So a border that lies within a void strip (as PASCAL VOC draws them) is right.
A class's contour are its pixels with another label above, below, left or right of them; the outside of the
image counts as another label, as in the code that others publish.

    boundary IoU  IoU of the pixels within d (chessboard) of their own class's contour, d = 2 % of the
                  image's diagonal, at least 1; summed over all images. Cheng et al., Boundary IoU,
                  CVPR 2021, section 4
    boundary F1   harmonic mean of the shares of predicted contour within t of the true contour and the
                  reverse, t = 0.75 % of the diagonal; mean over images that hold the class. Csurka et
                  al., What is a good evaluation measure for semantic segmentation?, BMVC 2013, section 3
    NSD           normalised surface distance: the share of all contour pixels, true and predicted, within
                  `tolerance` pixels of the other contour; mean over images. Nikolov et al., 2018,
                  arXiv:1809.04430, section "Performance metric"
    Hausdorff 95  the larger of the two 95th percentiles of distances, truth to prediction and back, in
                  pixels; mean over images where both maps hold the class, `missing` counts the others
    trimap        mean IoU of the pixels less than n from a border of the truth (not the image's edge).
                  Kohli, Ladicky, Torr, IJCV 2009, section 6; Krähenbühl and Koltun, NIPS 2011
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from paddlefcn.metrics import columns, padded

TRIMAP_WIDTHS = (1, 2, 4, 8, 16, 32)
BOUNDARY_SHARE = 0.02
F1_SHARE = 0.0075


@dataclass(frozen=True)
class ClassBorders:
    """The border scores of one class: shares within 0..1, `hausdorff95` in pixels; None if it is nowhere.

    `images` hold the class in truth or prediction, `missing` of them in one of the two alone.
    """

    name: str
    boundary_iou: float | None
    boundary_f1: float | None
    normalised_surface_distance: float | None
    hausdorff95: float | None
    images: int
    missing: int


@dataclass(frozen=True)
class TrimapScore:
    """The mean IoU of the `pixels` less than `width` from a border of the truth."""

    width: int
    mean_iou: float | None
    pixels: int


@dataclass(frozen=True)
class BorderScores:
    """All border scores; the means are over the classes that have a value."""

    boundary_iou: float | None
    boundary_f1: float | None
    normalised_surface_distance: float | None
    hausdorff95: float | None
    per_class: tuple[ClassBorders, ...]
    trimap: tuple[TrimapScore, ...]
    tolerance: float

    def to_dict(self) -> dict[str, Any]:
        """The scores as JSON can hold them."""
        plain = asdict(self)
        return {**plain, "per_class": list(plain["per_class"]), "trimap": list(plain["trimap"])}

    def table(self) -> str:
        """The scores as lines of text: one a class, the means, the trimap's widths."""
        width = max(5, *(columns(row.name) for row in self.per_class))
        words = ("boundary IoU", "boundary F1", f"NSD {self.tolerance:g} px", "Hausdorff 95", "images")
        lines = [padded("class", width) + "".join(f"{word:>14}" for word in words)]
        rows: list[ClassBorders | BorderScores] = [*self.per_class, self]
        for row in rows:
            name = row.name if isinstance(row, ClassBorders) else "mean"
            shares = (row.boundary_iou, row.boundary_f1, row.normalised_surface_distance)
            cells = ["-" if share is None else f"{share:.4f}" for share in shares]
            cells.append("-" if row.hausdorff95 is None else f"{row.hausdorff95:.1f} px")
            cells.append(f"{row.images}" if isinstance(row, ClassBorders) else "")
            lines.append((padded(name, width) + "".join(f"{cell:>14}" for cell in cells)).rstrip())
        scores = ["-" if part.mean_iou is None else f"{part.mean_iou:.4f}" for part in self.trimap]
        lines.append("")
        lines.append("pixels to a border  " + "".join(f"{'< ' + str(part.width):>9}" for part in self.trimap))
        lines.append("mean IoU there      " + "".join(f"{score:>9}" for score in scores))
        missing = sum(row.missing for row in self.per_class)
        if missing:
            lines.append(
                f"{missing} times a class is in one map of an image alone: no Hausdorff distance there"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class ImageBorders:
    """What one image adds. Arrays of one entry a class; `trimap` is [width, (true, predicted, hit), class].

    `band_*` are pixels near a contour; `f1`, `nsd` and `hausdorff95` are NaN where neither map holds the
    class, `hausdorff95` also where one alone does.
    """

    band_true: np.ndarray
    band_predicted: np.ndarray
    band_hit: np.ndarray
    f1: np.ndarray
    nsd: np.ndarray
    hausdorff95: np.ndarray
    trimap: np.ndarray


class BorderCounter:
    """Collects the border scores of label maps, one image at a time.

    Args:
        num_classes: at least 1, at most 65534.
        ignore_index: the truth's void.
        tolerance: of the normalised surface distance, in pixels.
        trimap: widths in pixels, rising.

    Raises:
        ValueError: a value outside its range.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        *,
        tolerance: float = 2.0,
        trimap: Sequence[int] = TRIMAP_WIDTHS,
    ) -> None:
        if not 1 <= num_classes <= 65534:
            raise ValueError(f"num_classes is {num_classes}; it must be 1 to 65534")
        if not 0 <= tolerance < float("inf"):
            raise ValueError(f"tolerance {tolerance}: expected pixels, 0 or more")
        widths = tuple(trimap)
        if not widths or any(width < 1 for width in widths) or sorted(set(widths)) != list(widths):
            raise ValueError(f"trimap {list(widths)}: expected rising widths in pixels, 1 or more")
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.tolerance, self.trimap = float(tolerance), widths
        self.images: list[ImageBorders] = []

    def update(self, pred: np.ndarray, label: np.ndarray) -> ImageBorders:
        """Adds one image: `pred` and `label` are [H, W] as for ConfusionMatrix, which has checked them."""
        if pred.shape != label.shape or label.ndim != 2:
            raise ValueError(f"pred has shape {pred.shape}, label {label.shape}; expected two equal [H, W]")
        void = label == self.ignore_index
        # ids from 1, so that 0 is void; 16 bits: cv2 has no morphology for 32
        truth = np.where(void, 0, label.astype(np.int32) + 1).astype(np.uint16)
        guess = np.where(void, 0, pred.astype(np.int32) + 1).astype(np.uint16)
        classes = self.num_classes
        if not label.size:
            nothing = np.zeros(classes, np.int64)
            empty = np.full(classes, np.nan)
            trimap = np.zeros((len(self.trimap), 3, classes), np.int64)
            found = ImageBorders(nothing, nothing, nothing, empty, empty, empty, trimap)
        else:
            bands = _band_counts(truth, guess, classes)
            contours = _contour_scores(truth, guess, classes, self.tolerance)
            found = ImageBorders(*bands, *contours, _trimap_counts(truth, guess, classes, self.trimap))
        self.images.append(found)
        return found

    def scores(self, class_names: Sequence[str] | None = None) -> BorderScores:
        """Read the scores off; every class that no image holds has None."""
        names = list(class_names or (str(index) for index in range(self.num_classes)))
        bands = np.array([[i.band_true, i.band_predicted, i.band_hit] for i in self.images], np.int64)
        bands = bands.reshape(-1, 3, self.num_classes).sum(axis=0)
        shape = (-1, self.num_classes)
        f1, nsd, distance = (
            np.array([getattr(image, key) for image in self.images], np.float64).reshape(shape)
            for key in ("f1", "nsd", "hausdorff95")
        )
        trimap = sum(
            (image.trimap for image in self.images), np.zeros((len(self.trimap), 3, self.num_classes))
        )
        present, both = ~np.isnan(f1), ~np.isnan(distance)
        rows = [
            ClassBorders(
                name=str(name),
                boundary_iou=quotient(bands[2, i], bands[0, i] + bands[1, i] - bands[2, i]),
                boundary_f1=_mean(f1[:, i]),
                normalised_surface_distance=_mean(nsd[:, i]),
                hausdorff95=_mean(distance[:, i]),
                images=int(present[:, i].sum()),
                missing=int((present[:, i] & ~both[:, i]).sum()),
            )
            for i, name in enumerate(names)
        ]
        keys = ("boundary_iou", "boundary_f1", "normalised_surface_distance", "hausdorff95")
        means = {key: _mean(np.array([getattr(row, key) for row in rows], np.float64)) for key in keys}
        near = [
            TrimapScore(width, _mean_iou(*part), int(part[0].sum()))
            for width, part in zip(self.trimap, trimap)
        ]
        return BorderScores(**means, per_class=tuple(rows), trimap=tuple(near), tolerance=self.tolerance)


def near_contour(labels: np.ndarray, distance: int) -> np.ndarray:
    """Pixels with another label, or the outside, within `distance` (chessboard): [H, W] bool.

    Equal to a mask minus its erosion by a square of 2 distance + 1, for all classes at once and at a cost
    that does not grow with the distance. `labels` are [H, W] uint16 of 0..65534.
    """
    framed = cv2.copyMakeBorder(labels, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=65535)
    square = np.ones((3, 3), np.uint8)
    edge = (cv2.dilate(framed, square) != cv2.erode(framed, square))[1:-1, 1:-1]
    if distance <= 1:
        return edge
    # a pixel sees another label within d just where it is within d - 1 of a pixel that touches one
    return cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_C, 3) <= distance - 1


def contour(labels: np.ndarray, *, frame: bool = True) -> np.ndarray:
    """Pixels with another label above, below, left or right of them: [H, W] bool.

    With `frame`, the outside of the image is another label.
    """
    edge = np.zeros(labels.shape, bool)
    rows, cols = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= rows
    edge[:-1] |= rows
    edge[:, 1:] |= cols
    edge[:, :-1] |= cols
    if frame and labels.size:
        edge[0] = edge[-1] = edge[:, 0] = edge[:, -1] = True
    return edge


def boundary_distance(height: int, width: int) -> int:
    """The d of boundary IoU for an image of this size."""
    return max(1, round(BOUNDARY_SHARE * float(np.hypot(height, width))))


def _band_counts(
    truth: np.ndarray, guess: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of each class near its own contour: in the truth, in the prediction, in both."""
    distance = boundary_distance(*truth.shape)
    ours = np.where(near_contour(truth, distance), truth, 0)
    theirs = np.where(near_contour(guess, distance), guess, 0)
    return _counts(ours, classes), _counts(theirs, classes), _counts(ours[ours == theirs], classes)


def _trimap_counts(truth: np.ndarray, guess: np.ndarray, classes: int, widths: Sequence[int]) -> np.ndarray:
    """[width, (true, predicted, hit), class] pixels less than each width from a border of the truth."""
    counts = np.zeros((len(widths), 3, classes), np.int64)
    edge = contour(truth, frame=False)
    if not edge.any():
        return counts
    distance = euclidean_distance(~edge)
    rings = np.searchsorted(np.asarray(widths, np.float64), distance.ravel(), side="right")
    near = rings < len(widths)
    rings, ours, theirs = rings[near], truth.ravel()[near], guess.ravel()[near]
    for column, values in enumerate((ours, theirs, np.where(ours == theirs, ours, 0))):
        index = rings * (classes + 1) + values
        found = np.bincount(index, minlength=len(widths) * (classes + 1)).reshape(len(widths), -1)
        counts[:, column] = found[:, 1:].cumsum(axis=0)
    return counts


def _contour_scores(
    truth: np.ndarray, guess: np.ndarray, classes: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F1, NSD and Hausdorff 95 of each class; NaN where undefined."""
    ours, theirs = _contour_points(truth), _contour_points(guess)
    reach = F1_SHARE * float(np.hypot(*truth.shape))
    f1, nsd, hausdorff = (np.full(classes, np.nan) for _ in range(3))
    for label in (ours.keys() | theirs.keys()) - {0}:
        if label not in ours or label not in theirs:
            f1[label - 1] = nsd[label - 1] = 0.0
            continue
        there, back = _distances(ours[label], theirs[label])
        recall, precision = (there <= reach).mean(), (back <= reach).mean()
        f1[label - 1] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        close = (there <= tolerance).sum() + (back <= tolerance).sum()
        nsd[label - 1] = close / (len(there) + len(back))
        hausdorff[label - 1] = max(np.percentile(there, 95), np.percentile(back, 95))
    return f1, nsd, hausdorff


def _contour_points(labels: np.ndarray) -> dict[int, np.ndarray]:
    """label -> [n, 2] rows and columns of its contour."""
    points = np.argwhere(contour(labels))
    values = labels[points[:, 0], points[:, 1]]
    order = np.argsort(values, kind="stable")
    found, starts = np.unique(values[order], return_index=True)
    return {int(label): part for label, part in zip(found, np.split(points[order], starts[1:]))}


def _distances(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Euclidean distance of each of our points to theirs, and of theirs to ours."""
    low = np.minimum(ours.min(axis=0), theirs.min(axis=0))
    size = np.maximum(ours.max(axis=0), theirs.max(axis=0)) - low + 1

    def to(points: np.ndarray, others: np.ndarray) -> np.ndarray:
        away = np.ones(size, bool)
        away[tuple((others - low).T)] = False
        return euclidean_distance(away)[tuple((points - low).T)]

    return to(ours, theirs), to(theirs, ours)


def euclidean_distance(away: np.ndarray) -> np.ndarray:
    """How far each pixel [H, W] bool is from the nearest that is False: [H, W] float64.

    OpenCV's float32 differs in its last digits from call to call; squares of distances are integers, so
    rounding them makes every distance up to a thousand pixels exact.
    """
    rough = cv2.distanceTransform(away.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.sqrt(np.rint(np.square(rough, dtype=np.float64)))


def _counts(values: np.ndarray, classes: int) -> np.ndarray:
    """Pixels of each class among ids from 1; 0 is none."""
    return np.bincount(values.ravel(), minlength=classes + 1)[1:]


def quotient(over: Any, under: Any) -> float | None:
    """over / under, None for 0 / 0."""
    return float(over) / float(under) if under else None


def _mean(values: np.ndarray) -> float | None:
    """The mean of what is not NaN (None is NaN here)."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _mean_iou(true: np.ndarray, predicted: np.ndarray, hit: np.ndarray) -> float | None:
    union = true + predicted - hit
    return _mean(hit[union > 0] / union[union > 0])
