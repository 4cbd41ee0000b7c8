"""The best mean IoU that a network of each output stride could reach on a data set's masks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from paddlefcn.commands.common import add_common, add_config, add_json, load, start
from paddlefcn.errors import DataError, UserError
from paddlefcn.files import write_json

if TYPE_CHECKING:
    from paddlefcn.config import Config
    from paddlefcn.metrics import Scores
    from paddlefcn.ownership import Owned

_COARSEST = 1024  # beyond it nothing is left to score


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config(parser)
    parser.add_argument(
        "--strides",
        nargs="+",
        type=int,
        default=[4, 8, 16, 32, 64],
        metavar="S",
        help="output strides in pixels (default: 4 8 16 32 64)",
    )
    parser.add_argument(
        "--method",
        default="area",
        choices=("area", "nearest"),
        help="how masks are reduced (default: area: shares of each cell, enlarged bilinearly)",
    )
    parser.add_argument("--split", default="val", help="train, val or test (default: val)")
    parser.add_argument("--output", metavar="DIR", help="where the picture goes (default: no picture)")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the output")
    add_json(parser)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the table and the classes that suffer most; a picture and JSON where asked to."""
    config = load(args)
    strides = sorted(set(args.strides))
    if not (strides[0] >= 1 and strides[-1] <= _COARSEST):
        raise UserError(f"--strides {strides[0]} to {strides[-1]}: expected 1 to {_COARSEST} pixels each")
    start(args)
    from paddlefcn.bars import Steps
    from paddlefcn.build import build_dataset, validate
    from paddlefcn.metrics import ConfusionMatrix
    from paddlefcn.oracle import best_at_stride

    validate(config)
    owned = _owned(args, config) if args.output else None
    output = None if owned is None else owned.folder
    dataset = build_dataset(config, args.split)
    data = config.data
    totals = {stride: ConfusionMatrix(data.num_classes, data.ignore_index) for stride in strides}
    progress = Steps("masks")
    bad = 0
    for index in range(len(dataset)):
        progress(index + 1, len(dataset))
        try:
            _, label = dataset.read(index)
        except DataError as error:
            if data.on_bad_image == "stop":
                raise
            bad += 1
            print(f"left out: {error}")
            continue
        if (label != data.ignore_index).any():
            for stride, matrix in totals.items():
                matrix.update(best_at_stride(label, stride, data.ignore_index, args.method), label)
    scores = {stride: matrix.scores(list(data.classes)) for stride, matrix in totals.items()}
    print(table(scores, len(dataset) - bad, args.method))
    if args.json:
        entries = [{"stride": stride, **found.to_dict()} for stride, found in scores.items()]
        write_json(args.json, {"method": args.method, "split": args.split, "strides": entries})
    if output is not None:
        from paddlefcn.plots import plot_oracle

        plot_oracle(scores, output / "oracle.png")
        print(f"picture: {output / 'oracle.png'}")
    return 1 if bad else 0


def _owned(args: argparse.Namespace, config: Config) -> Owned:
    from paddlefcn.ownership import own_folder

    inputs = [args.config, config.data.root]
    return own_folder(args.output, "oracle", overwrite=args.overwrite, names=["oracle.png"], inputs=inputs)


def table(scores: Mapping[int, Scores], masks: int, method: str) -> str:
    """A line a stride: mean IoU, what the paper found on PASCAL, the classes that suffer most."""
    from paddlefcn.oracle import PUBLISHED

    lines = [f"best mean IoU at each output stride, {masks} masks, {method}"]
    lines.append(f"{'stride':>6}{'mean IoU':>10}{'PASCAL':>8}  suffer most")
    for stride, found in scores.items():
        score = "-" if found.mean_iou is None else f"{100 * found.mean_iou:.1f}"
        published = f"{PUBLISHED[stride]:.1f}" if stride in PUBLISHED else "-"
        worst = ", ".join(f"{name} {100 * iou:.1f}" for name, iou in suffering(found))
        lines.append(f"{stride:>6}{score:>10}{published:>8}  {worst}")
    lines.append("PASCAL: as published for VOC (Shelhamer, Long, Darrell, PAMI 2017, appendix A)")
    return "\n".join(lines)


def suffering(scores: Scores, count: int = 3) -> Sequence[tuple[str, float]]:
    """The classes with the lowest IoU."""
    known = [(row.name, row.iou) for row in scores.per_class if row.iou is not None and row.pixels]
    return sorted(known, key=lambda pair: pair[1])[:count]
