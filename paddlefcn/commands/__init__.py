"""The commands: one short file each, started by `paddlefcn NAME`, `python -m paddlefcn NAME`, tools/NAME.py.

A command module has `add_arguments(parser)` and `run(args) -> exit code`; its docstring's first line is
its help. Nothing heavy is imported before `run`, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import signal
import sys
import types
from collections.abc import Sequence

from paddlefcn import __version__
from paddlefcn.commands.common import check_files
from paddlefcn.errors import RunError, UserError
from paddlefcn.terminal import open_standard_streams, plain_output

# every name is a module of this package; import-weights and import_weights are the same command
NAMES = (
    "train",
    "val",
    "predict",
    "export",
    "infer",
    "check_data",
    "convert",
    "preview_data",
    "benchmark",
    "import_weights",
    "oracle",
    "plot_schedule",
    "build_accelerator",
    "score",
    "summary",
    "compare",
    "calibrate",
    "tune_crf",
)
# arguments that name a file to write, in every command; a command's own stand in its WRITES
_FILES = ("json", "per_image")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns the exit code: 0 done, 1 finished with faults or stopped by its own trouble, 2 an error the
    user can mend (one line on stderr), 130 and 143 stopped by SIGINT and SIGTERM.
    """
    open_standard_streams()
    with plain_output() as output:
        code = _main(list(sys.argv[1:] if argv is None else argv))
        output.flush()
        if output.lost is not None and output.lost.errno != errno.EPIPE:  # of `| head` nobody wants to hear
            return _fail(f"standard output: {output.lost.strerror}", code or 1)
        return code or int(output.lost is not None)


def _main(arguments: Sequence[str]) -> int:
    _catch_signals()
    if arguments and not arguments[0].startswith("-"):
        return _run_command(arguments[0].replace("-", "_"), arguments[1:])
    parser = argparse.ArgumentParser("paddlefcn", description=_overview(), add_help=True)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--version", action="version", version=f"paddlefcn {__version__}")
    parser.add_argument("command", help="one of the names above; `paddlefcn NAME --help` tells more")
    parser.parse_args(arguments)
    return 2


def console() -> None:
    """The console script's entry."""
    sys.exit(main())


def _run_command(name: str, arguments: Sequence[str]) -> int:
    if name not in NAMES:
        import difflib

        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"; did you mean {near[0].replace('_', '-')}?" if near else ""
        return _fail(f"no command {name.replace('_', '-')!r}{hint} (paddlefcn --help lists them)", 2)
    try:
        module = importlib.import_module(f"paddlefcn.commands.{name}")
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    parser = argparse.ArgumentParser(
        f"paddlefcn {name.replace('_', '-')}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    args = parser.parse_args(list(arguments))
    return _guarded(module, args)


def _guarded(module: types.ModuleType, args: argparse.Namespace) -> int:
    """Turns what a user can mend into one line and an exit code; `--debug` shows the traceback."""
    try:
        check_files(args, (*_FILES, *getattr(module, "WRITES", ())))
        return int(module.run(args))
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except _Terminated as stop:
        return _fail("terminated", 128 + stop.number)
    except (UserError, RunError, OSError, MemoryError) as error:
        if args.debug:
            raise
        return _fail(_one_line(error), _exit_code(error))


def _exit_code(error: BaseException) -> int:
    if isinstance(error, UserError):
        return 2
    if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        return 2  # a missing file, a folder that may not be written: the user's to mend
    return 1


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f" {error.filename}:" if error.filename else ""
        return f"{place} {error.strerror}".strip()
    if isinstance(error, MemoryError):
        return "out of memory: lower batch_size, the crop or the image size"
    return " ".join(str(error).split())


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return code


class _Terminated(BaseException):
    """SIGTERM or SIGHUP, outside of a training (which ends its iteration first)."""

    def __init__(self, number: int) -> None:
        self.number = number


def _terminate(signum: int, frame: types.FrameType | None) -> None:
    raise _Terminated(signum)


def _catch_signals() -> None:
    signal.signal(signal.SIGTERM, _terminate)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # not under nohup
        signal.signal(signal.SIGHUP, _terminate)


def _overview() -> str:
    """The commands with the first line of each one's docstring, read without importing them."""
    import ast
    from pathlib import Path

    lines = ["Semantic segmentation with fully convolutional networks in PaddlePaddle.", ""]
    for name in NAMES:
        path = Path(__file__).with_name(f"{name}.py")
        if path.exists():
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            lines.append(f"  {name.replace('_', '-'):17} {text.splitlines()[0] if text else ''}")
    return "\n".join(lines)
