"""Lists a recipe's network: modules, parameters, multiply-adds, memory, receptive field. Needs no data."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from paddlefcn.commands.common import add_common, add_config, add_json, load, start
from paddlefcn.commands.network import training_crop
from paddlefcn.errors import UserError
from paddlefcn.files import write_json

if TYPE_CHECKING:
    from paddlefcn.config import Config

# where a recipe trains on images of their own size
DEFAULT_SIZE = (512, 512)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config(parser)
    parser.add_argument(
        "--size", nargs=2, type=int, metavar=("H", "W"), help="of the image (default: the training crop)"
    )
    add_json(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --json")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0. A staged recipe gives a table for every stage."""
    config = load(args)
    if args.size is not None and not all(1 <= side <= 16384 for side in args.size):
        raise UserError(f"--size {args.size[0]} {args.size[1]}: expected 1 to 16384 pixels a side")
    start(args)
    from paddlefcn.build import validate

    validate(config)
    found = [_stage(stage, args.size) for stage in (config.stages or [config])]
    if args.json:
        write_json(args.json, {**found[-1], **({"stages": found} if config.stages else {})})
    return 0


def _stage(config: Config, size: list[int] | None) -> dict[str, Any]:
    from paddlefcn.build import build_model
    from paddlefcn.summary import summarize

    model = build_model(config, pretrained=False)
    height, width = size or training_size(config)
    summary = summarize(
        model,
        (height, width),
        in_channels=config.data.normalize.channels,
        batch_size=config.train.batch_size,
    )
    backbone = type(model.backbone).__name__
    print(f"{config.model.type} on {backbone}, {config.data.num_classes} classes")
    print(summary.table())
    return {"model": config.model.type, "backbone": backbone, **summary.as_dict()}


def training_size(config: Config) -> tuple[int, int]:
    """(height, width) of the recipe's crops, else of its generated images, else 512x512."""
    try:
        height, width = training_crop(config)
    except ValueError:
        size = config.data.source.args.get("size")
        height, width = size if isinstance(size, list) and len(size) == 2 else DEFAULT_SIZE
    return height, width
