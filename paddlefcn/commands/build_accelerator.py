"""Builds and checks the kernels that make training on this processor faster.

Training does it by itself on first use (runtime.cpu_accelerator: auto); this is for doing it beforehand, as
in an image of a container, or again. Needs Linux on x86-64, paddle 3 and a C++ compiler (g++, or CXX).
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run(args: argparse.Namespace) -> int:
    """Returns 0; what is missing is an error."""
    from paddlefcn.accelerator.building import rebuild

    rebuild(lambda line: print(line, flush=True))
    return 0
