"""Predict images: class-id PNG, overlay with a legend, class shares."""

from __future__ import annotations

import argparse

from paddlefcn.commands.common import add_common, add_config, load
from paddlefcn.commands.images import add_outputs, read_request, report
from paddlefcn.commands.network import add_inference, add_weights, inference
from paddlefcn.commands.refining import add_refinement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config(parser)
    add_weights(parser)
    add_outputs(parser)
    add_inference(parser)
    add_refinement(parser, files=True)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Writes NAME.png, NAME_overlay.png and shares.json; 1 if an input could not be read."""
    from paddlefcn import runtime

    config = load(args)
    runtime.prepare()
    from paddlefcn.deploy.predict import predict

    shares = predict(
        config,
        args.weights,
        args.input,
        args.output,
        inference=inference(args, config),
        request=read_request(args),
        device=args.device,
    )
    return report(shares, args.output)
