"""What the commands that score share: their options, the printed report and its files. No command itself."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paddlefcn.commands.common import add_json
from paddlefcn.errors import UserError
from paddlefcn.files import write_json, write_text

if TYPE_CHECKING:
    from paddlefcn.scoring.report import Report, Scorer


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """--convention, --borders, --tolerance, --trimap, --confusion, --per-image and --json."""
    parser.add_argument(
        "--convention",
        default="paper",
        choices=("paper", "mmsegmentation", "paddleseg"),
        help="how absent classes count in the means (default: paper, which leaves them out)",
    )
    parser.add_argument(
        "--borders",
        action="store_true",
        help="score borders too: boundary IoU and F1, surface distance, Hausdorff 95, trimap",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="PIXELS",
        help="of the normalised surface distance (default: 2; with --borders)",
    )
    parser.add_argument(
        "--trimap",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help="mean IoU this near to a border (default: 1 2 4 8 16 32; with --borders)",
    )
    parser.add_argument("--confusion", action="store_true", help="print the confusion matrix too")
    parser.add_argument("--per-image", metavar="FILE", help="write a line of CSV for each image")
    add_json(parser)


def make_scorer(args: argparse.Namespace, class_names: Sequence[str], ignore_index: int) -> Scorer:
    """The scorer that the options ask for.

    Raises:
        UserError: values that cannot be, or options without --borders.
    """
    from paddlefcn.borders import TRIMAP_WIDTHS, BorderCounter
    from paddlefcn.scoring.report import Scorer

    given = {"--tolerance": args.tolerance, "--trimap": args.trimap}
    alone = [name for name, value in given.items() if value is not None and not args.borders]
    if alone:
        raise UserError(f"{alone[0]} is for border scores; add --borders")
    borders = None
    if args.borders:
        try:
            borders = BorderCounter(
                len(class_names),
                ignore_index,
                tolerance=2.0 if args.tolerance is None else args.tolerance,
                trimap=args.trimap or TRIMAP_WIDTHS,
            )
        except ValueError as error:
            raise UserError(f"--{error}") from error
    return Scorer(class_names, ignore_index, convention=args.convention, borders=borders)


def write_report(args: argparse.Namespace, report: Report, about: Mapping[str, Any]) -> None:
    """The files of --json (the report with `about` added) and --per-image."""
    if args.json:
        write_json(args.json, {**report.to_dict(), **about})
    if args.per_image:
        write_text(args.per_image, report.per_image_csv())


def print_report(args: argparse.Namespace, report: Report, *lines: str) -> None:
    """The table, further lines, and the confusion matrix or the pairs most confused."""
    from paddlefcn.scoring.report import confused_pairs, confusion_table

    print(report.table())
    for line in lines:
        print(line)
    print(confusion_table(report.scores) if args.confusion else confused_pairs(report.scores))
