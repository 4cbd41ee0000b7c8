"""What several commands share: their common arguments and the start of the runtime."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paddlefcn.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from paddlefcn.config import Config


def add_config(parser: argparse.ArgumentParser) -> None:
    """-c/--config and -o/--opts."""
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help="a YAML recipe, or the name of one of this library's (where a run is named: default its own)",
    )
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
    """The recipe of `--config`, else of the run that `--weights` or `--resume` names, with `--opts`.

    Raises:
        ConfigError: no recipe is named, or it cannot be right.
    """
    from paddlefcn.config import load_config

    if args.config is None:
        args.config = str(_recipe_of_the_run(args))
    config = load_config(args.config, args.opts)
    check_inputs(args, [args.config, config.data.root])
    return config


def _recipe_of_the_run(args: argparse.Namespace) -> Path:
    """The config.yml of the run that the arguments name; nearest above the weights."""
    named = getattr(args, "weights", None) or getattr(args, "resume", None)
    if not isinstance(named, str):
        raise ConfigError("-c/--config: missing; give a recipe, or the name of a shipped one (-c quickstart)")
    place = Path(named).absolute()
    if not place.exists():
        raise ConfigError(f"{named}: no such file or folder; give a run, its weights, or a recipe with -c")
    for folder in (place, *list(place.parents)[:3]):  # RUN/checkpoints/iter_8/model.safetensors
        if (folder / "config.yml").is_file():
            return folder / "config.yml"
    raise ConfigError(f"-c/--config: missing, and {named} is of no run with a config.yml of its own")


def check_files(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Before a command does anything: the files that it is to write are new, or may be replaced.

    Args:
        names: the arguments that name files to write; all others may name inputs.

    Raises:
        OutputError: a file stands there (without --overwrite), or is a link, a folder or an input.
    """
    given = vars(args)
    inputs = [value for name, value in given.items() if name not in names and isinstance(value, str)]
    found = [(name, value) for name in names if isinstance(value := given.get(name), str)]
    args.written = {f"--{name.replace('_', '-')}": value for name, value in found}
    check_inputs(args, inputs)
    places = [os.path.abspath(path) for _, path in found if path != os.devnull]
    if len(set(places)) < len(places):
        raise OutputError(f"{' and '.join(args.written)} name one file; give two")


def check_inputs(args: argparse.Namespace, inputs: Sequence[str | Path]) -> None:
    """`check_files` again, once more inputs are known."""
    from paddlefcn.ownership import check_file

    for option, path in getattr(args, "written", {}).items():
        check_file(option, path, overwrite=bool(getattr(args, "overwrite", False)), inputs=inputs)


def start(args: argparse.Namespace) -> str:
    """Sets threads and quiet logs, imports paddle and selects the device; returns its name."""
    from paddlefcn import runtime

    runtime.prepare()
    return runtime.select_device(args.device)
