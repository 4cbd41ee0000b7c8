"""What several commands share: their common arguments and the start of the runtime."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddlefcn.config import Config


def add_config(parser: argparse.ArgumentParser) -> None:
    """-c/--config and -o/--opts."""
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="a YAML recipe")
    parser.add_argument(
        "-o",
        "--opts",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="overrides, for example train.batch_size=4 model.backbone.width=32",
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """--device and --debug, which every command takes."""
    parser.add_argument(
        "--device", metavar="cpu|gpu|gpu:N", help="where to compute (default: a GPU if there is one)"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json, for commands that measure."""
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file too")


def load(args: argparse.Namespace) -> Config:
    """The config of `--config` and `--opts`, validated; ConfigError if it cannot be right."""
    from paddlefcn.config import load_config

    return load_config(args.config, args.opts)


def start(args: argparse.Namespace) -> str:
    """Sets threads and quiet logs, imports paddle and selects the device; returns its name."""
    from paddlefcn import runtime

    runtime.prepare()
    return runtime.select_device(args.device)
