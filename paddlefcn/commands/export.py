"""Export a trained network for Paddle Inference and prove that it predicts the same."""

from __future__ import annotations

import argparse

from paddlefcn.commands.common import add_common, add_config, load
from paddlefcn.commands.network import add_weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_weights(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="where the export goes")
    parser.add_argument("--overwrite", action="store_true", help="replace an export there")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Writes model, parameters and deploy.yaml; fails if an engine disagrees with the network."""
    config = load(args)
    from paddlefcn.deploy.export import export

    export(
        config,
        args.weights,
        args.output,
        overwrite=args.overwrite,
        device=args.device,
        on_parity=lambda found: print(found, flush=True),
    )
    print(f"exported to {args.output}; next: paddlefcn infer --model {args.output} --input … --output …")
    return 0
