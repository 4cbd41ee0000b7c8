"""What val, predict and infer share of refinement: their options. No command itself."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddlefcn.refine.settings import RefineOptions


def add_refinement(parser: argparse.ArgumentParser, *, files: bool) -> None:
    """--crf, --min-area, --min-confidence; with `files` --confidence, --polygons and --simplify too."""
    parser.add_argument("--crf", action="store_true", help="draw borders along the image's edges (dense CRF)")
    parser.add_argument(
        "--min-area",
        metavar="N|Nu2",
        help="remove components below N pixels, or below N square map units, and fill holes",
    )
    parser.add_argument(
        "--min-confidence",
        type=float,
        default=0.0,
        metavar="P",
        help="leave pixels unlabelled whose class has a probability below P",
    )
    if not files:
        return
    parser.add_argument(
        "--confidence",
        action="store_true",
        help="NAME_confidence.png too: 0 to 255 for a probability of 0 to 1",
    )
    parser.add_argument(
        "--polygons",
        metavar="FORMAT",
        help="outlines too: geojson (in map coordinates if the image has a place), or labelme (NAME.json)",
    )
    parser.add_argument(
        "--simplify", type=float, default=0.0, metavar="PIXELS", help="how far outlines may leave the pixels'"
    )


def refine_options(args: argparse.Namespace) -> RefineOptions:
    """What the arguments ask for. UserError for values that cannot be."""
    from paddlefcn.refine.settings import Area, RefineOptions

    area = None if args.min_area is None else Area.parse(args.min_area)
    return RefineOptions(args.crf, area, args.min_confidence, getattr(args, "confidence", False))
