"""Export a trained network for Paddle Inference and prove that it predicts the same."""

from __future__ import annotations

import argparse
from pathlib import Path

from paddlefcn.commands.common import add_common, add_config, load, start
from paddlefcn.commands.network import add_weights, load_network


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_weights(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="where the export goes")
    parser.add_argument("--overwrite", action="store_true", help="replace an export there")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Writes model, parameters and deploy.yaml; fails if an engine disagrees with the network."""
    config = load(args)
    # the program does not depend on the device, and its proof is the two engines of a CPU
    args.device = args.device or "cpu"
    start(args)
    from paddlefcn.build import build_resize, validate
    from paddlefcn.export import Deployable, check_target, export

    validate(config)
    folder = Path(args.output)
    check_target(folder, args.overwrite)
    data = config.data
    model = load_network(args, config)
    about = Deployable(
        model_type=config.model.type,
        normalize=data.normalize,
        resize=build_resize(config),
        classes=data.classes,
        palette=data.palette,
        ignore_index=data.ignore_index,
        max_pixels=data.max_pixels,
    )
    export(model, about, folder, on_parity=lambda found: print(found, flush=True))
    print(f"exported to {folder}; next: paddlefcn infer --model {folder} --input … --output …")
    return 0
