"""Draws the learning rate of every iteration of a recipe, warm-up and stages included."""

from __future__ import annotations

import argparse
from pathlib import Path

from paddlefcn.commands.common import add_common, add_config, load, start

WRITES = ("output",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config(parser)
    parser.add_argument("--output", required=True, metavar="FILE", help="where the PNG goes")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it stands there")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0. The data set is only looked at where the recipe counts in epochs."""
    config = load(args)
    target = Path(args.output)
    start(args)
    from paddlefcn.build import validate
    from paddlefcn.plots import plot_schedules
    from paddlefcn.training.rates import planned_rates

    validate(config)
    parts = planned_rates(config)
    plot_schedules([(part.name, part.rates) for part in parts], target)
    for part in parts:
        print(f"{part.name}: {part.summary()}")
        for note in part.notes:
            print(f"note: {note}")
    print(f"written to {target}")
    return 0
