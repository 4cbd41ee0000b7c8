"""Predict images from an export alone, as `predict` does."""

from __future__ import annotations

import argparse

from paddlefcn.commands.common import add_common
from paddlefcn.commands.images import add_outputs, read_request, report
from paddlefcn.commands.network import add_scales
from paddlefcn.commands.refining import add_refinement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--model", required=True, metavar="DIR", help="a folder that export wrote")
    add_outputs(parser)
    parser.add_argument(
        "--runtime",
        default="auto",
        choices=("auto", "onednn", "native", "onnxruntime", "openvino"),
        help="what runs it (default: the fastest that is installed and passed the export's check)",
    )
    add_scales(parser)
    add_refinement(parser, files=True)
    parser.add_argument("--no-onednn", action="store_true", help="Paddle's own kernels on a CPU; slower")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of a CPU (default: all)")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Writes NAME.png, NAME_overlay.png and shares.json; 1 if an input could not be read."""
    from paddlefcn.deploy.options import EngineOptions, Views
    from paddlefcn.deploy.predict import infer

    shares = infer(
        args.model,
        args.input,
        args.output,
        views=Views(tuple(args.multi_scale or (1.0,)), args.flip),
        request=read_request(args),
        engine=EngineOptions(args.runtime, not args.no_onednn, args.threads),
        device=args.device,
    )
    return report(shares, args.output)
