"""Arguments of the commands that run a trained network: its weights, and how it is run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from paddlefcn.commands.common import add_config
from paddlefcn.errors import UserError

if TYPE_CHECKING:
    from paddlefcn.config import Config
    from paddlefcn.inference import Inference


def add_weights(parser: argparse.ArgumentParser) -> None:
    """--weights."""
    parser.add_argument(
        "--weights",
        required=True,
        metavar="PATH",
        help="a .safetensors or .pdparams file, a checkpoint folder, or a run's folder",
    )


def add_scales(parser: argparse.ArgumentParser) -> None:
    """--multi-scale and --flip."""
    parser.add_argument(
        "--multi-scale",
        nargs="+",
        type=float,
        metavar="SCALE",
        help="average class probabilities over these sizes, for example 0.75 1 1.25",
    )
    parser.add_argument("--flip", action="store_true", help="average with the mirrored image")


def add_inference(parser: argparse.ArgumentParser) -> None:
    """--multi-scale, --flip and --sliding."""
    add_scales(parser)
    parser.add_argument(
        "--sliding",
        nargs="*",
        type=int,
        metavar=("SIZE", "STRIDE"),
        help="in windows of SIZE pixels every STRIDE (default: the training crop, two thirds)",
    )


def add_scored_network(parser: argparse.ArgumentParser) -> None:
    """A recipe, its weights, the split that they are looked at on, and how the network is run."""
    add_config(parser)
    add_weights(parser)
    parser.add_argument("--split", default="val", help="train, val or test (default: val)")
    add_inference(parser)


def inference(args: argparse.Namespace, config: Config) -> Inference:
    """How the arguments ask for a network to be run.

    Raises:
        UserError: values that cannot be.
    """
    from paddlefcn.inference import MultiScale, SlidingWindow, WholeImage

    run: Inference = WholeImage()
    try:
        if args.sliding is not None:
            if len(args.sliding) > 2:
                raise ValueError(f"got {len(args.sliding)} numbers; expected SIZE [STRIDE]")
            size = args.sliding[0] if args.sliding else training_crop(config)
            run = SlidingWindow(size, *args.sliding[1:])
        if args.multi_scale or args.flip:
            run = MultiScale(args.multi_scale or [1.0], args.flip, run)
    except ValueError as error:
        raise UserError(f"--sliding, --multi-scale: {error}") from error
    return run


def training_crop(config: Config) -> tuple[int, ...]:
    """The size of the recipe's crops; ValueError if it has none."""
    for transform in config.data.train_transforms:
        size = transform.args.get("size")
        if transform.type in ("RandomCrop", "RandomWarp", "ClassCrop") and size is not None:
            return (size, size) if isinstance(size, int) else tuple(size)
    raise ValueError(
        "the config has no RandomCrop, RandomWarp or ClassCrop to take the window's size from; give SIZE"
    )
