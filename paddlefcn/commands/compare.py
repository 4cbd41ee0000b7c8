"""Compare two sets of predictions of the same images, from the JSON of val or score."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from paddlefcn.commands.common import add_json
from paddlefcn.errors import UserError
from paddlefcn.files import write_json

if TYPE_CHECKING:
    from paddlefcn.scoring.statistics import Difference

_SURE = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("a", metavar="A.json", help="what `val --json` or `score --json` wrote")
    parser.add_argument("b", metavar="B.json", help="the same images, other predictions")
    parser.add_argument(
        "--permutations", type=int, default=10_000, metavar="N", help="random exchanges (default: 10000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of resamples and exchanges (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --json")
    add_json(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run(args: argparse.Namespace) -> int:
    """Prints every score of both, the difference with its interval, and how likely chance alone is."""
    from dataclasses import asdict

    from paddlefcn.scoring.records import paired, read_record
    from paddlefcn.scoring.statistics import paired_differences

    if not 100 <= args.permutations <= 1_000_000:
        raise UserError(f"--permutations {args.permutations}: expected 100 to 1000000")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: expected 0 or more")
    first, second = paired(read_record(args.a), read_record(args.b))
    found = paired_differences(
        first.counts, second.counts, first.convention, permutations=args.permutations, seed=args.seed
    )
    print(table(found))
    print(f"over {len(first.names)} images, B - A; convention: {first.convention}")
    print(verdict(found))
    if args.json:
        about: dict[str, Any] = {"a": args.a, "b": args.b, "images": len(first.names)}
        about.update(convention=first.convention, permutations=args.permutations, seed=args.seed)
        write_json(args.json, {**about, "differences": [asdict(each) for each in found]})
    return 0


def table(found: list[Difference]) -> str:
    """A line for each score."""
    words = ("A", "B", "B - A", "95 % interval", "p")
    widths = (10, 10, 10, 22, 9)
    lines = [f"{'score':<30}" + "".join(f"{word:>{width}}" for word, width in zip(words, widths))]
    for each in found:
        interval = f"{each.low:+.4f} to {each.high:+.4f}"
        cells = (f"{each.a:.4f}", f"{each.b:.4f}", f"{each.difference:+.4f}", interval, f"{each.p_value:.4f}")
        name = each.score.replace("_", " ").replace("iou", "IoU").replace("dice", "Dice")
        lines.append(f"{name:<30}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths)))
    return "\n".join(lines)


def verdict(found: list[Difference]) -> str:
    """One sentence on the mean IoU."""
    each = next(item for item in found if item.score == "mean_iou")
    if each.difference == 0:
        return "mean IoU: no difference"
    better = "B" if each.difference > 0 else "A"
    chance = f"chance between the images explains (p {each.p_value:.4f})"
    if each.p_value < _SURE:
        return f"mean IoU: {better} is better by more than {chance}"
    return f"mean IoU: {better} is higher by no more than {chance}"
