"""Fit a temperature that makes probabilities mean what they say; reliability before and after."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from paddlefcn.commands.common import add_common, load, start
from paddlefcn.commands.network import add_scored_network, inference
from paddlefcn.errors import UserError

if TYPE_CHECKING:
    from paddlefcn.tuning import Calibration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_scored_network(parser)
    parser.add_argument(
        "--pixels", type=int, default=2000, metavar="N", help="of each image, for the fit (default: 2000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw of pixels (default: 0)")
    parser.add_argument(
        "--output", metavar="DIR", help="write calibration.json and reliability.png into this folder"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the output")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the temperature, the errors before and after, and the line for the recipe."""
    config = load(args)
    if args.pixels < 1:
        raise UserError(f"--pixels {args.pixels}: expected 1 or more")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: expected 0 or more")
    start(args)
    from paddlefcn.bars import Steps
    from paddlefcn.build import validate
    from paddlefcn.files import write_json
    from paddlefcn.ownership import own_folder
    from paddlefcn.tuning import calibrate

    validate(config)
    owned = None
    if args.output is not None:
        sources = [config.file, args.weights]
        owned = own_folder(
            args.output,
            "calibration",
            overwrite=args.overwrite,
            names=["calibration.json", "reliability.png"],
            inputs=sources,
        )
    found = calibrate(
        config,
        args.weights,
        split=args.split,
        inference=inference(args, config),
        pixels=args.pixels,
        seed=args.seed,
        progress=Steps(args.split),
    )
    print(table(found))
    print(f"in the recipe:   refine: {{temperature: {found.temperature:.4f}}}")
    print(f"or as an option: -o refine.temperature={found.temperature:.4f}")
    if owned is not None:
        from paddlefcn.plots import plot_reliability

        with owned as output:
            write_json(output / "calibration.json", {**found.to_dict(), "split": args.split})
            plot_reliability({"before": found.before, "after": found.after}, output / "reliability.png")
        print(f"calibration.json and reliability.png in {args.output}")
    return 0


def table(found: Calibration) -> str:
    """Two lines of errors, measured on images that the temperature was not fitted on."""
    lines = [
        f"temperature {found.temperature:.4f}, fitted on {found.fitted_on} images, measured on "
        f"{found.measured_on} others",
        f"{'':<10}{'calibration error':>20}{'log likelihood':>18}",
    ]
    for name, row in (("before", found.before), ("after", found.after)):
        error = "-" if row.expected_calibration_error is None else f"{row.expected_calibration_error:.4f}"
        nll = "-" if row.nll is None else f"{-row.nll:.4f}"
        lines.append(f"{name:<10}{error:>20}{nll:>18}")
    return "\n".join(lines)
