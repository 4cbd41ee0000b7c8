"""Score a trained network on a split: a table per class, the confusion matrix, the worst images."""

from __future__ import annotations

import argparse
import heapq
import time
from pathlib import Path
from typing import TYPE_CHECKING

from paddlefcn.commands.common import add_common, add_config, add_json, load, start
from paddlefcn.commands.network import add_inference, add_weights, inference, load_network
from paddlefcn.errors import UserError
from paddlefcn.files import open_output, write_json

if TYPE_CHECKING:
    import numpy as np

    from paddlefcn.config import Config
    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.engine.evaluate import ImageResult
    from paddlefcn.metrics import Scores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_weights(parser)
    parser.add_argument("--split", default="val", help="train, val or test (default: val)")
    add_inference(parser)
    parser.add_argument(
        "--convention",
        default="paper",
        choices=("paper", "mmsegmentation", "paddleseg"),
        help="how absent classes count in the means (default: paper, which leaves them out)",
    )
    parser.add_argument("--confusion", action="store_true", help="print the confusion matrix too")
    parser.add_argument(
        "--worst", type=int, default=0, metavar="N", help="a gallery of the N images with the lowest mean IoU"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="where pictures go: confusion.png, worst.png (default with --worst: output/val_CONFIG)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the output")
    add_json(parser)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the scores; writes them as JSON, and pictures, where asked to."""
    config = load(args)
    start(args)
    from paddlefcn.build import build_dataset, build_losses, build_resize, validate
    from paddlefcn.engine.evaluate import evaluate
    from paddlefcn.engine.progress import Steps

    validate(config)
    if args.worst < 0:
        raise UserError(f"--worst {args.worst}: expected 0 or more")
    way = inference(args, config)
    dataset = build_dataset(config, args.split)
    model = load_network(args, config)
    losses = build_losses(config, model)
    output = _output(args)
    worst = Worst(args.worst, config.data.num_classes, config.data.ignore_index)
    began = time.perf_counter()
    result = evaluate(
        model,
        dataset,
        normalize=config.data.normalize,
        resize=build_resize(config),
        inference=way,
        loss=lambda logits, label: losses([logits], label),
        num_workers=config.data.num_workers,
        class_names=config.data.classes,
        convention=args.convention,
        progress=Steps(args.split),
        on_image=worst.look if args.worst else None,
    )
    seconds = time.perf_counter() - began
    scores = result.scores
    print(scores.table())
    print(f"loss {result.loss:.4f}; {scores.images / seconds:.2f} images/s")
    print(confusion_table(scores) if args.confusion else confused_pairs(scores))
    if args.json:
        write_json(args.json, {**scores.to_dict(), "val_loss": result.loss, "split": args.split})
    if output is not None:
        _pictures(output, scores, worst, dataset, config)
    return 0


class Worst:
    """Keeps the predictions of the N images with the lowest mean IoU; images of void alone aside."""

    def __init__(self, count: int, num_classes: int, ignore_index: int) -> None:
        self.count, self.num_classes, self.ignore_index = count, num_classes, ignore_index
        self._heap: list[tuple[float, int, float, np.ndarray]] = []

    def look(self, result: ImageResult) -> None:
        """One scored image."""
        from paddlefcn.metrics import ConfusionMatrix

        matrix = ConfusionMatrix(self.num_classes, self.ignore_index)
        matrix.update(result.pred, result.label)
        scores = matrix.scores()
        if scores.mean_iou is None or scores.pixel_accuracy is None:
            return
        # the smallest of the heap is the best image kept; indices differ, so no array is compared
        entry = (-scores.mean_iou, -result.index, scores.pixel_accuracy, result.pred)
        if len(self._heap) < self.count:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def ranked(self) -> list[tuple[int, float, float, np.ndarray]]:
        """(index, mean IoU, pixel accuracy, prediction), the worst first."""
        return [(-index, -iou, right, pred) for iou, index, right, pred in sorted(self._heap, reverse=True)]


def confused_pairs(scores: Scores, count: int = 5) -> str:
    """The classes most often taken for another, by their share of the class's pixels."""
    found = []
    for row, entry in zip(scores.confusion_matrix, scores.per_class):
        for column, pixels in enumerate(row):
            if pixels and scores.per_class[column] is not entry:
                found.append((pixels / entry.pixels, entry.name, scores.per_class[column].name))
    found.sort(key=lambda pair: -pair[0])
    said = ", ".join(f"{truth} as {taken} ({share:.0%})" for share, truth, taken in found[:count])
    return f"most confused: {said}" if said else "no pixel confused"


def confusion_table(scores: Scores) -> str:
    """Rows: truth, columns: prediction; of each class's pixels the share in per cent."""
    from paddlefcn.metrics import columns, padded

    names = [entry.name for entry in scores.per_class]
    width = max(columns(name) for name in names) + 2
    lines = [padded("truth \\ prediction, %", width + 2)]
    numbers = "".join(f"{index:>6}" for index in range(len(names)))
    lines.append(" " * (width + 4) + numbers)
    for index, (row, entry) in enumerate(zip(scores.confusion_matrix, scores.per_class)):
        cells = "".join(f"{100 * n / entry.pixels:>6.1f}" if entry.pixels else f"{'-':>6}" for n in row)
        lines.append(f"{index:>3} {padded(entry.name, width)}{cells}")
    return "\n".join(lines)


def _output(args: argparse.Namespace) -> Path | None:
    if args.output is not None:
        return open_output(args.output, args.overwrite)
    if not args.worst:
        return None
    base = Path("output") / f"val_{Path(args.config).stem}"
    folder, number = base, 1
    while folder.exists() and not args.overwrite:
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return open_output(folder, args.overwrite)


def _pictures(
    output: Path, scores: Scores, worst: Worst, dataset: SegmentationDataset, config: Config
) -> None:
    """confusion.png, and of the worst images one picture each and one of all."""
    from paddlefcn.plots import plot_confusion
    from paddlefcn.visualize import gallery, preview, write_picture

    data = config.data
    plot_confusion(scores, output / "confusion.png")
    rows = []
    for rank, (index, iou, right, pred) in enumerate(worst.ranked(), start=1):
        image, label = dataset.read(index)
        name = dataset.samples[index].name
        picture = preview(image, label, pred, data.palette, data.ignore_index)
        write_picture(output / "worst" / f"{rank:03}_{Path(name).stem}.png", picture)
        rows.append((f"{name}: mean IoU {iou:.3f}, pixel accuracy {right:.3f}", picture))
        print(f"{rank:>3}. {rows[-1][0]}")
    if rows:
        write_picture(output / "worst.png", gallery(rows, max_width=1200))
    print(f"pictures in {output} (image, truth, prediction)")
