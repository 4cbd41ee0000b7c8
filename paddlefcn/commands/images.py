"""What predict and infer share: the arguments of their inputs and outputs, and their last lines."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from paddlefcn.commands.refining import refine_options

if TYPE_CHECKING:
    from paddlefcn.deploy.options import Request


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """--input, --output, what is written, and how the inputs are gone over."""
    parser.add_argument(
        "--input", required=True, nargs="+", metavar="PATH", help="images, folders, or .txt lists of images"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="where the pictures go")
    parser.add_argument(
        "--tile", type=int, metavar="N", help="in tiles of N pixels, for images larger than memory"
    )
    parser.add_argument(
        "--figure", action="store_true", help="one more picture each: image, map, overlay, shares"
    )
    parser.add_argument("--no-overlay", action="store_true", help="no NAME_overlay.png")
    parser.add_argument(
        "--probabilities", action="store_true", help="NAME_probabilities.npy too: float16 [classes, H, W]"
    )
    parser.add_argument("--resume", action="store_true", help="go on where this prediction was stopped")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the output")


def read_request(args: argparse.Namespace) -> Request:
    """What the arguments ask for. UserError for values that cannot be."""
    from paddlefcn.deploy.options import Request, Wanted

    return Request(
        Wanted(not args.no_overlay, args.figure, args.probabilities, args.polygons, args.simplify),
        refine_options(args),
        tile=args.tile,
        overwrite=args.overwrite,
        resume=args.resume,
    )


def report(shares: dict[str, Any], output: str) -> int:
    """Prints the classes by their share of all pixels; the exit code is 1 if an input was unreadable."""
    from paddlefcn.metrics import columns, padded

    done, failed = shares["images"], shares["unreadable"]
    ranked = sorted(((share, name) for name, share in shares["total"].items() if share), reverse=True)
    width = max((columns(name) for _, name in ranked), default=0) + 2
    for share, name in ranked:
        images = sum(entry["shares"][name] > 0 for entry in done)
        print(f"{padded(name, width)}{share:8.2%}  in {images} of {len(done)} images")
    print(f"{len(done)} images predicted into {output}")
    if failed:
        print(f"error: {len(failed)} of {len(done) + len(failed)} inputs could not be read", file=sys.stderr)
    return 1 if failed else 0
