"""Predict images from an export alone, as `predict` does."""

from __future__ import annotations

import argparse

from paddlefcn.commands.common import add_common, start
from paddlefcn.commands.outputs import (
    Classes,
    add_outputs,
    find_inputs,
    keep_sources,
    predict_all,
)
from paddlefcn.files import open_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="DIR", help="a folder that export wrote")
    add_outputs(parser)
    parser.add_argument("--no-onednn", action="store_true", help="Paddle's own kernels on a CPU; slower")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of a CPU (default: all)")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Writes NAME.png, NAME_overlay.png and shares.json; 1 if an input could not be read."""
    from paddlefcn.predictor import Predictor, load_deployment

    load_deployment(args.model)  # what is wrong with the folder is said before paddle is loaded
    keep_sources(args.output, [args.input, args.model])
    inputs = find_inputs(args.input, args.output, figure=args.figure)
    device = start(args)
    from paddlefcn.data.images import read_image

    predictor = Predictor(args.model, device, onednn=not args.no_onednn, threads=args.threads)
    deployment = predictor.deployment
    output = open_output(args.output, args.overwrite)
    return predict_all(
        inputs,
        output,
        read=lambda file: read_image(file, predictor.channels, deployment.max_pixels),
        predict=predictor.predict,
        classes=Classes(deployment.classes, deployment.palette, deployment.ignore_index),
        figure=args.figure,
    )
