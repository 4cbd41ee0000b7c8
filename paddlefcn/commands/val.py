"""Score a trained network on a split: a table per class, the confusion matrix, the worst images."""

from __future__ import annotations

import argparse
import heapq
from pathlib import Path
from typing import TYPE_CHECKING

from paddlefcn.commands.common import add_common, load, start
from paddlefcn.commands.network import add_scored_network, inference
from paddlefcn.commands.refining import add_refinement, refine_options
from paddlefcn.commands.scoring import (
    add_scoring,
    make_scorer,
    print_report,
    write_report,
)
from paddlefcn.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from paddlefcn.config import Config
    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.engine.evaluate import ImageResult
    from paddlefcn.metrics import Scores
    from paddlefcn.ownership import Owned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_scored_network(parser)
    add_refinement(parser, files=False)
    add_scoring(parser)
    parser.add_argument(
        "--worst", type=int, default=0, metavar="N", help="a gallery of the N images with the lowest mean IoU"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="where pictures go: confusion.png, worst.png (default with --worst: output/val_RECIPE)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the output")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the scores; writes them as JSON, and pictures, where asked to."""
    config = load(args)
    start(args)
    from paddlefcn.build import validate
    from paddlefcn.evaluation import score

    validate(config)
    if args.worst < 0:
        raise UserError(f"--worst {args.worst}: expected 0 or more")
    options = refine_options(args)
    if options.min_area is not None and options.min_area.map_units:
        raise UserError(f"--min-area {args.min_area}: val knows no map; give pixels")
    data = config.data
    worst = Worst(args.worst, data.num_classes, data.ignore_index)
    scorer = make_scorer(args, data.classes, data.ignore_index)
    owned = _output(args, config)
    scored = score(
        config,
        args.weights,
        scorer,
        split=args.split,
        inference=inference(args, config),
        on_image=worst.look if args.worst else lambda result: None,
        refine=options,
    )
    for message in scored.bad.values():
        print(f"left out: {message}")
    rate = scored.report.scores.images / scored.seconds
    print_report(args, scored.report, f"loss {scored.loss:.4f}; {rate:.2f} images/s")
    write_report(args, scored.report, scored.record())
    if owned is not None:
        _pictures(owned.folder, scored.report.scores, worst, scored.dataset, config)
    return 1 if scored.bad else 0


class Worst:
    """Keeps the predictions of the N images with the lowest mean IoU; images of void alone aside."""

    def __init__(self, count: int, num_classes: int, ignore_index: int) -> None:
        self.count, self.num_classes, self.ignore_index = count, num_classes, ignore_index
        self._heap: list[tuple[float, int, float, np.ndarray]] = []

    def look(self, result: ImageResult) -> None:
        """One scored image."""
        from paddlefcn.metrics import ConfusionMatrix, scored_pixels

        matrix = ConfusionMatrix(self.num_classes, self.ignore_index)
        matrix.update(*scored_pixels(result.pred, result.label, self.ignore_index))
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


def _output(args: argparse.Namespace, config: Config) -> Owned | None:
    from paddlefcn.ownership import own_folder

    if args.output is None and not args.worst:
        return None
    recipe = Path(args.config)
    # a run's own recipe is called config.yml in every run
    name = recipe.absolute().parent.name if recipe.name == "config.yml" else recipe.stem
    folder = Path("output") / f"val_{name}" if args.output is None else args.output
    inputs, names = [args.config, args.weights, config.data.root], ["confusion.png", "worst.png"]
    return own_folder(folder, "scores", overwrite=args.overwrite, names=names, inputs=inputs)


def _pictures(
    output: Path, scores: Scores, worst: Worst, dataset: SegmentationDataset, config: Config
) -> None:
    """confusion.png, and of the worst images one picture each and one of all."""
    from paddlefcn.plots import plot_confusion
    from paddlefcn.visualize import gallery, preview, write_picture

    plot_confusion(scores, output / "confusion.png")
    rows = []
    for rank, (index, iou, right, pred) in enumerate(worst.ranked(), start=1):
        image, label = dataset.read(index)
        name = dataset.samples[index].name
        picture = preview(image, label, pred, config.classes)
        write_picture(output / "worst" / f"{rank:03}_{Path(name).stem}.png", picture)
        rows.append((f"{name}: mean IoU {iou:.3f}, pixel accuracy {right:.3f}", picture))
        print(f"{rank:>3}. {rows[-1][0]}")
    if rows:
        write_picture(output / "worst.png", gallery(rows, max_width=1200))
    print(f"pictures in {output} (image, truth, prediction)")
