"""What several commands share: their common arguments, the start of the runtime, safe output."""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlefcn.errors import OutputError
from paddlefcn.files import said

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


def open_output(path: str | Path, overwrite: bool) -> Path:
    """Makes the output folder; a non-empty one is refused without `overwrite`, and emptied with it.

    Raises:
        OutputError: the folder is not empty, is a file, or holds the working folder.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"output {folder} is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise OutputError(f"output folder {folder} is not empty; choose another or --overwrite")
        if Path.cwd().resolve().is_relative_to(folder.resolve()) or (folder / ".git").exists():
            raise OutputError(f"output folder {folder} holds more than results; choose another")
        with said(folder):
            shutil.rmtree(folder)
    with said(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON beside the target and renames it; NaN and infinities become null."""
    from paddlefcn.files import write_text

    text = json.dumps(_finite(value), ensure_ascii=False, indent=2, allow_nan=False)
    write_text(path, text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "tolist"):  # numpy numbers and arrays
        return _finite(value.tolist())
    return value
