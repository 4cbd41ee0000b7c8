"""Plots: training curves, confusion matrix, class shares, a prediction in one picture.

matplotlib's Figure objects are drawn by the Agg canvas directly: no pyplot, so no global state, no
window and nothing to close.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from paddlefcn.classes import Classes
from paddlefcn.files import write_bytes
from paddlefcn.metrics import Scores
from paddlefcn.scoring.calibration import Reliability
from paddlefcn.visualize import displayable, drawable, font_path

Record = Mapping[str, Any]
_WRITTEN_CLASSES = 25  # with more classes than this the figures in the cells could not be read


def plot_curves(records: Iterable[Record], path: str | Path, class_scores: Iterable[Record] = ()) -> None:
    """Draws a run's records (the lines of metrics.jsonl, and of class_scores.jsonl) as PNG.

    Losses of training (raw and smoothed) and validation; learning rate; mean IoU, pixel accuracy and
    the IoU of the three classes that ended worst. A record may hold `stage`: where it changes a line is
    drawn, and if `iter` starts again there, the stages are put one behind the other.
    """
    rows, borders = _behind_each_other(list(records))
    picture = Figure(figsize=(11, 7.5), layout="constrained")
    loss, rate, score = picture.subplots(3, 1, sharex=True, height_ratios=[3, 1, 2])
    _line(loss, rows, "loss", label=None, alpha=0.3, color="C0")
    _smooth(loss, rows)
    _line(loss, rows, "val_loss", label="validation", color="C1", marker="o", markersize=3)
    loss.set_ylabel("loss")
    _line(rate, rows, "learning_rate", label=None, color="C2")
    rate.set_ylabel("learning rate")
    if borders:
        rate.set_yscale("log")  # published stages are a hundred times apart
    _line(score, rows, "mean_iou", label="mean IoU", color="C3", marker="o", markersize=3)
    _line(score, rows, "pixel_accuracy", label="pixel accuracy", color="C4", marker=".")
    _worst_classes(score, list(class_scores) if not borders else [])
    score.set(ylabel="score", ylim=(0, 1), xlabel="iteration")
    for axes in (loss, rate, score):
        axes.grid(alpha=0.3)
        for border, name in borders:
            axes.axvline(border, color="gray", linestyle="--", linewidth=1)
            if axes is loss:
                axes.annotate(f" {name}", (border, 1), xycoords=("data", "axes fraction"), va="top")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best", fontsize=9)
    _save(picture, path)


def _worst_classes(axes: Axes, evaluations: Sequence[Record], count: int = 3) -> None:
    """The IoU of the classes that scored lowest at the last evaluation, as thin lines."""
    if not evaluations:
        return
    last = {name: value for name, value in evaluations[-1]["iou"].items() if value is not None}
    for number, name in enumerate(sorted(last, key=lambda name: last[name])[:count]):
        steps = [record["iter"] for record in evaluations]
        values = [math.nan if (v := record["iou"].get(name)) is None else v for record in evaluations]
        label = f"IoU of {_label(name, number)}"
        axes.plot(steps, values, label=label, color=f"C{5 + number}", linewidth=0.9, linestyle=":")


def plot_confusion(scores: Scores, path: str | Path) -> None:
    """Draws the confusion matrix as PNG: of each class's pixels (rows) the share of each answer."""
    names = [row.name for row in scores.per_class]
    matrix = np.asarray(scores.confusion_matrix, np.float64)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(24.0, 3 + 0.45 * len(names))
    picture = Figure(figsize=(side + 1, side), layout="constrained")
    axes = picture.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    picture.colorbar(drawn, ax=axes, shrink=0.8, label="share of the class's pixels")
    labels = [_label(name, index) for index, name in enumerate(names)]
    axes.set_xticks(range(len(names)), labels, rotation=90)
    axes.set_yticks(range(len(names)), labels)
    _set_fonts([*axes.get_xticklabels(), *axes.get_yticklabels()])
    axes.set(xlabel="prediction", ylabel="truth", title=f"{scores.images} images")
    if len(names) <= _WRITTEN_CLASSES:
        for row, column in np.argwhere(shares >= 0.005):
            value = shares[row, column]
            colour = "white" if value > 0.5 else "black"
            text = f"{100 * value:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    _save(picture, path)


def figure(
    image: np.ndarray,
    labels: np.ndarray,
    overlay: np.ndarray,
    shares: Sequence[tuple[str, int, float]],
    classes: Classes,
    path: str | Path,
) -> None:
    """Draws a prediction as one PNG: image, map, overlay and a bar of each class's share.

    Args:
        image: [H, W, C] of any type.
        labels: [H, W, 3] uint8, the map in its colours.
        overlay: [H', W', 3] uint8.
        shares: (name, id, share 0..1) of each class to show, in the order of the bars.
        classes: their colours.
        path: where the PNG goes.
    """
    picture = Figure(figsize=(12, 8.5), layout="constrained")
    panels = picture.subplots(2, 2).ravel()
    shown = (("image", displayable(image)), ("map", labels), ("overlay", overlay))
    for axes, (title, pixels) in zip(panels, shown):
        axes.imshow(pixels, interpolation="nearest")
        axes.set_title(title)
        axes.axis("off")
    plot_shares(panels[3], shares, classes)
    _save(picture, path)


def plot_oracle(scores: Mapping[int, Scores], path: str | Path) -> None:
    """Draws the best mean IoU against the output stride as PNG, with the classes that fall furthest."""
    from paddlefcn.oracle import PUBLISHED

    strides = sorted(scores)
    picture = Figure(figsize=(9, 6), layout="constrained")
    axes = picture.subplots()
    last = [(row.iou, index) for index, row in enumerate(scores[strides[-1]].per_class)]
    falling = sorted((iou, index) for iou, index in last if iou is not None)[:4]
    for _, index in falling:
        rows = [scores[stride].per_class[index] for stride in strides]
        values = [math.nan if row.iou is None else 100 * row.iou for row in rows]
        label = _label(rows[0].name, index)
        axes.plot(strides, values, linestyle=":", marker=".", label=label)
    means = [math.nan if (s := scores[stride].mean_iou) is None else 100 * s for stride in strides]
    axes.plot(strides, means, marker="o", linewidth=2.5, color="black", label="mean IoU")
    known = [stride for stride in strides if stride in PUBLISHED]
    published = [PUBLISHED[stride] for stride in known]
    axes.plot(known, published, "s--", color="gray", label="PASCAL, as published")
    axes.set_xscale("log", base=2)
    axes.set_xticks(strides, [str(stride) for stride in strides])
    axes.set(xlabel="output stride, pixels", ylabel="best IoU, %", ylim=(0, 102))
    axes.grid(alpha=0.3)
    _set_fonts(axes.legend(loc="lower left").get_texts())
    _save(picture, path)


def plot_schedules(parts: Sequence[tuple[str, Sequence[float]]], path: str | Path) -> None:
    """Draws the learning rate of every iteration as PNG, the parts (name, rates) one behind the other."""
    picture = Figure(figsize=(10, 5), layout="constrained")
    axes = picture.subplots()
    begun = 0
    for number, (name, rates) in enumerate(parts):
        at = range(begun + 1, begun + len(rates) + 1)
        axes.plot(at, rates, color=f"C{number}", label=name, marker="o" if len(rates) == 1 else None)
        begun += len(rates)
        if number + 1 < len(parts):
            axes.axvline(begun, color="gray", linestyle="--", linewidth=1)
    if len(parts) > 1:
        axes.set_yscale("log")  # published stages are a hundred times apart
    axes.set(xlabel="iteration", ylabel="learning rate")
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize=9)
    _save(picture, path)


def plot_reliability(tables: Mapping[str, Reliability], path: str | Path) -> None:
    """Draws reliability tables as PNG: the share that is right against the probability, and the pixels."""
    picture = Figure(figsize=(4.6 * len(tables), 5.4), layout="constrained")
    panels = picture.subplots(2, len(tables), squeeze=False, height_ratios=[3, 1], sharex=True)
    for (name, table), (upper, lower) in zip(tables.items(), panels.T):
        known = [row for row in table.bins if row.accuracy is not None]
        middles, width = [(row.low + row.high) / 2 for row in known], 1 / max(1, len(table.bins))
        upper.bar(middles, [row.accuracy or 0 for row in known], width, color="C0", edgecolor="white")
        confidences = [row.confidence or 0 for row in known]
        upper.plot(confidences, confidences, ".", color="C3", label="the probability that was said")
        upper.plot([0, 1], [0, 1], "--", color="gray", linewidth=1)
        error = table.expected_calibration_error
        title = name if error is None else f"{name}: calibration error {error:.4f}"
        upper.set(title=title, ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
        upper.legend(loc="upper left", fontsize=9)
        lower.bar(middles, [row.pixels / max(1, table.pixels) for row in known], width, color="gray")
        lower.set(xlabel="probability of the class", ylabel="share of pixels", ylim=(0, 1))
    _save(picture, path)


def plot_shares(axes: Axes, shares: Sequence[tuple[str, int, float]], classes: Classes) -> None:
    """Horizontal bars of (name, id, share 0..1) in the classes' colours."""
    labels = [_label(name, index) for name, index, _ in shares]
    colours = [[part / 255 for part in classes.palette[index]] for _, index, _ in shares]
    values = [100 * share for _, _, share in shares]
    bars = axes.barh(range(len(shares)), values, color=colours, edgecolor="gray")
    axes.bar_label(bars, [f"{value:.1f} %" for value in values], padding=3, fontsize=9)
    axes.set_yticks(range(len(shares)), labels)
    _set_fonts(axes.get_yticklabels())
    axes.invert_yaxis()
    axes.set(xlim=(0, 115), xlabel="share of the pixels, %", title="class shares")


def _label(name: str, index: int) -> str:
    """A class's name as matplotlib draws it: a dollar is a dollar, no formula."""
    return drawable(name, index).replace("$", r"\$")


def _behind_each_other(records: list[Record]) -> tuple[list[Record], list[tuple[float, str]]]:
    """The records with `iter` growing over all stages, and where each stage begins."""
    rows: list[Record] = []
    borders: list[tuple[float, str]] = []
    offset, last, stage = 0.0, 0.0, None
    for record in records:
        if not _is_number(record.get("iter")):
            continue
        if record.get("stage") is not None and record.get("stage") != stage:
            stage = record["stage"]
            offset = last if record["iter"] + offset < last else offset
            borders.append((last, str(stage)))
        last = max(last, record["iter"] + offset)
        rows.append({**record, "iter": record["iter"] + offset})
    return rows, borders


def _points(rows: Iterable[Record], key: str) -> tuple[list[float], list[float]]:
    pairs = [(row["iter"], row[key]) for row in rows if _is_number(row.get(key))]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _line(axes: Axes, rows: Iterable[Record], key: str, **style: Any) -> None:
    x, y = _points(rows, key)
    if x:
        # a single point is no line: it needs a mark to be seen
        axes.plot(x, y, **({"marker": "o", **style} if len(x) == 1 else style))


def _smooth(axes: Axes, rows: Iterable[Record]) -> None:
    """The running mean of the training loss, so that a trend shows through the noise."""
    x, y = _points(rows, "loss")
    if not x:
        return
    width = max(1, len(y) // 25)
    sums = np.cumsum([0.0, *y])
    index = np.arange(1, len(y) + 1)
    start = np.maximum(0, index - width)
    axes.plot(x, (sums[index] - sums[start]) / (index - start), color="C0", label="training")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _set_fonts(texts: Iterable[Any]) -> None:
    for text in texts:
        path = font_path(text.get_text())
        if path is not None:
            text.set_fontproperties(FontProperties(fname=path, size=9))


def _save(picture: Figure, path: str | Path) -> None:
    buffer = io.BytesIO()
    FigureCanvasAgg(picture).print_png(buffer)
    write_bytes(path, buffer.getvalue())
