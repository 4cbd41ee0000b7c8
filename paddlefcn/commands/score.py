"""Score label maps that anything made: two folders of PNGs, paired by name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from paddlefcn.commands.common import load
from paddlefcn.commands.scoring import (
    add_scoring,
    make_scorer,
    print_report,
    write_report,
)
from paddlefcn.errors import DataError, UserError

if TYPE_CHECKING:
    from paddlefcn.scoring.folders import Pair, Read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--pred", required=True, metavar="DIR", help="predictions: class ids, one file an image"
    )
    parser.add_argument("--labels", required=True, metavar="DIR", help="masks of the same names")
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="a recipe: its classes, ignore_index, label_map, color_table"
    )
    parser.add_argument("-o", "--opts", nargs="+", action="extend", default=[], metavar="KEY.PATH=VALUE")
    parser.add_argument("--names", metavar="FILE", help="score these names alone, one a line without suffix")
    parser.add_argument(
        "--pred-suffix", default="", metavar="TEXT", help="end of a prediction's name, as _pred"
    )
    parser.add_argument("--label-suffix", default="", metavar="TEXT", help="end of a mask's name, as _mask")
    parser.add_argument(
        "--pred-like-labels", action="store_true", help="read predictions by label_map and color_table too"
    )
    parser.add_argument(
        "--ignore-index", type=int, metavar="ID", help="id that is not scored, without -c (default: 255)"
    )
    parser.add_argument(
        "--leave-out-unlabelled",
        action="store_true",
        help="predicted pixels of the ignored id are not scored",
    )
    add_scoring(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the files of --json and --per-image"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run(args: argparse.Namespace) -> int:
    """Prints the scores; writes them where asked to."""
    from paddlefcn.bars import Steps
    from paddlefcn.data.datasets import read_lines
    from paddlefcn.scoring.folders import find_pairs, read_pairs

    _check(args)
    names = None if args.names is None else [line for _, line in read_lines(args.names)]
    suffixes = {"pred_suffix": args.pred_suffix, "label_suffix": args.label_suffix}
    pairs, left_out = find_pairs(args.pred, args.labels, names=names, **suffixes)
    class_names, ignore_index, read_pred, read_label = _readers(args, pairs)
    scorer = make_scorer(args, class_names, ignore_index)
    maps = read_pairs(
        pairs,
        read_pred,
        read_label,
        leave_out_unlabelled=args.leave_out_unlabelled,
        ignore_index=ignore_index,
    )
    steps = Steps("score")
    for done, (name, pred, label) in enumerate(maps, start=1):
        scorer.add(name, pred, label)
        steps(done, len(pairs))
    report = scorer.report()
    lines = (
        [f"{len(left_out)} files of {args.pred} have no label to score, as {left_out[0]}"] if left_out else []
    )
    print_report(args, report, *lines)
    about = {"pred": args.pred, "labels": args.labels, "recipe": args.config}
    write_report(args, report, about)
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.config is None:
        alone = {"-o": args.opts, "--pred-like-labels": args.pred_like_labels}
        for option, value in alone.items():
            if value:
                raise UserError(f"{option} is about a recipe; give one with -c")
    elif args.ignore_index is not None:
        raise UserError("--ignore-index is the recipe's data.ignore_index where -c is given; remove one")
    if args.ignore_index is not None and not 0 <= args.ignore_index <= 65535:
        raise UserError(f"--ignore-index {args.ignore_index}: expected 0 to 65535")


def _readers(args: argparse.Namespace, pairs: list[Pair]) -> tuple[list[str], int, Read, Read]:
    """Class names, the ignored id, and what reads predictions and labels."""
    from paddlefcn.scoring.folders import class_readers, id_reader, ids_found

    if args.config is None:
        ignore_index = 255 if args.ignore_index is None else args.ignore_index
        ids = ids_found(pairs, ignore_index)
        if not ids:
            raise DataError(f"labels {args.labels}: hold nothing but {ignore_index}, which is not scored")
        # positions of ids must not meet the ignored id
        void = max(ignore_index, len(ids))
        read = id_reader(ids, ignore_index, void)
        return [str(index) for index in ids], void, read, read
    config = load(args)
    from paddlefcn import runtime

    runtime.prepare()
    from paddlefcn.build import build_label_reader

    read_pred, read_label = class_readers(build_label_reader(config), pred_like_labels=args.pred_like_labels)
    return list(config.data.classes), config.data.ignore_index, read_pred, read_label
