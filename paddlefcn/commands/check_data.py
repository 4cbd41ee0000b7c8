"""Reads every pair of a data set and reports counts, class shares and every fault with its fix.

Exit code 1 if there is a fault. The end of the report suggests class weights and normalisation, and
classes and label_map where the masks do not fit the config.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from paddlefcn.commands.common import add_common, add_config, add_json, load
from paddlefcn.files import write_json

if TYPE_CHECKING:
    from paddlefcn.config import Config
    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.data.report import Report

WRITES = ("figure",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config(parser)
    add_json(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the files of --json and --figure")
    parser.add_argument(
        "--splits", nargs="+", default=["train", "val"], metavar="SPLIT", help="default: train val"
    )
    parser.add_argument("--all", action="store_true", help="list every fault, not one of each kind")
    parser.add_argument("--figure", metavar="FILE", help="draw the class shares to this PNG")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 if a fault was found."""
    from paddlefcn import runtime

    runtime.prepare()
    config = _load(args)
    from paddlefcn.build import build_dataset, validate
    from paddlefcn.data.report import check
    from paddlefcn.errors import DataError

    validate(config)
    datasets: dict[str, SegmentationDataset | DataError] = {}
    for split in args.splits:
        try:
            datasets[split] = build_dataset(config, split)
        except DataError as error:  # an empty or missing list is a fault like others
            datasets[split] = error
    report = check(datasets, config.data.classes, num_workers=config.data.num_workers, progress=_progress())
    print(report.text(config.tree, every_fault=args.all), flush=True)
    if args.json:
        write_json(args.json, report.to_dict())
    if args.figure:
        _draw(report, config, args.figure)
        print(f"class shares drawn to {args.figure}", flush=True)
    return 1 if report.faults else 0


def _load(args: argparse.Namespace) -> Config:
    """The recipe; with `classes: auto` the classes are found in the data and printed."""
    from paddlefcn.config import parse_config, read_tree

    if args.config is None:
        return load(args)
    file, tree = read_tree(args.config, args.opts)
    data = tree.get("data")
    if not isinstance(data, dict) or data.get("classes") != "auto":
        return parse_config(tree, file)
    from paddlefcn.build import find_classes

    data.pop("palette", None)  # of classes that are not known yet
    # two names stand in until the data have been looked at
    names = find_classes(parse_config({**tree, "data": {**data, "classes": ["0", "1"]}}, file), args.splits)
    quoted = ", ".join(f"{name!r}" if not name.isidentifier() else name for name in names)
    print(f"classes found, in the order of their ids:\n  classes: [{quoted}]", flush=True)
    return parse_config({**tree, "data": {**data, "classes": names}}, file)


def _progress() -> Callable[[str, int, int], None]:
    """A bar for each split; nothing where stderr is no terminal."""
    from paddlefcn.bars import Steps

    bars: dict[str, Steps] = {}
    read: dict[str, int] = {}

    def show(split: str, done: int, total: int) -> None:
        read[split] = read.get(split, 0) + 1
        bars.setdefault(split, Steps(f"reading {split}", "pair"))(read[split], total)

    return show


def _draw(report: Report, config: Config, path: str) -> None:
    """Bars of every class's share as PNG, a panel for each split."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from paddlefcn.files import write_bytes
    from paddlefcn.plots import plot_shares

    height = 1.5 + 0.3 * len(report.class_names)
    picture = Figure(figsize=(6 * len(report.splits), height), layout="constrained")
    panels = picture.subplots(1, len(report.splits), squeeze=False)[0]
    for axes, split in zip(panels, report.splits):
        shares = list(zip(report.class_names, range(len(report.class_names)), split.shares().tolist()))
        plot_shares(axes, shares, config.classes)
        axes.set_title(f"{split.name}: class shares of {split.images} masks")
    buffer = io.BytesIO()
    FigureCanvasAgg(picture).print_png(buffer)
    write_bytes(path, buffer.getvalue())
