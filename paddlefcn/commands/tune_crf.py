"""Search the settings of the CRF on a split, and tell what they bring on other images of it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from paddlefcn.commands.common import add_common, add_json, load, start
from paddlefcn.commands.network import add_scored_network, inference
from paddlefcn.errors import UserError
from paddlefcn.files import write_json

if TYPE_CHECKING:
    from paddlefcn.refine.settings import CrfSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_scored_network(parser)
    parser.add_argument(
        "--images", type=int, default=40, metavar="N", help="at most, half of them searched (default: 40)"
    )
    add_json(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --json")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Prints every trial, the scores on the other images, and the lines for the recipe."""
    config = load(args)
    if args.images < 2:
        raise UserError(f"--images {args.images}: expected 2 or more")
    start(args)
    from paddlefcn.bars import Steps
    from paddlefcn.build import validate
    from paddlefcn.tuning import tune_crf

    validate(config)
    found = tune_crf(
        config,
        args.weights,
        split=args.split,
        inference=inference(args, config),
        images=args.images,
        progress=Steps(args.split),
        on_trial=lambda settings, score: print(f"{score:.4f}  {described(settings)}", flush=True),
    )
    print(f"on {found.measured_on} other images, mean IoU:")
    for name in ("without", "default", "tuned"):
        label = {"without": "without CRF", "default": "with the recipe's", "tuned": "with those found"}[name]
        print(f"  {label:<20}{getattr(found, name):.4f}")
    print(f"in the recipe:   refine: {{crf: {{{described(found.settings)}}}}}")
    if args.json:
        write_json(args.json, {**found.to_dict(), "split": args.split})
    return 0


def described(settings: CrfSettings) -> str:
    """The settings as YAML between braces."""
    return ", ".join(f"{key}: {value:g}" for key, value in settings.to_dict().items())
