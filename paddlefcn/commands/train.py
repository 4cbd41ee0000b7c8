"""Trains a network, evaluates on schedule, keeps the best and the last.

A new run never writes into an existing run's folder: it takes the next free sibling and says so.
--resume goes on where a run stopped, to the same result as if it had not been stopped.

A config with `stages` trains one network after the other in one run: iterations count on, each network
starts from the weights that the one before ended with, and best/ is the last one's. The checkpoints that
end a stage are never removed.
"""

from __future__ import annotations

import argparse

from paddlefcn.commands.common import add_common, add_config, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="DIR",
        help="go on with this run, or with the newest run of train.save_dir",
    )
    group.add_argument("--overwrite", action="store_true", help="replace the run in train.save_dir")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 130 / 143 when stopped by a signal (after a checkpoint)."""
    from paddlefcn import runtime

    config = load(args)
    runtime.prepare()  # sets threads before anything imports paddle
    from paddlefcn.training import train

    return train(config, args.resume, args.overwrite, device=args.device).exit_code
