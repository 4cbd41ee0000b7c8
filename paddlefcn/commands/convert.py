"""Converts any data set to PNG masks with lists, and masks or predictions to labelme or COCO.

  paddlefcn convert --type LabelMe --root drawings --to masks --output data/my_data
  paddlefcn convert -c my.yml --to coco --output for_the_tool
  paddlefcn convert -c my.yml --images new --masks predictions --to labelme --output for_the_tool

With a recipe, its data section says what is read; without, --type and --root do, and the classes are found
in the annotations. With --images and --masks, the masks (class ids, as `predict` writes them) of those
images are converted. Exit code 1 if a picture could not be converted.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from paddlefcn.commands.common import add_common, add_config, load
from paddlefcn.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from paddlefcn.classes import Classes
    from paddlefcn.data.datasets import Sample, SegmentationDataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config(parser)
    parser.add_argument("--type", metavar="TYPE", help="instead of a recipe: a data.type, such as LabelMe")
    parser.add_argument("--root", metavar="DIR", help="with --type: the folder of the data set")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="with --type: in the order of their ids")
    parser.add_argument("--to", required=True, choices=("masks", "labelme", "coco"), help="what is written")
    parser.add_argument("--output", required=True, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--splits", nargs="+", default=["train", "val"], metavar="SPLIT", help="default: train val"
    )
    parser.add_argument("--images", metavar="DIR", help="images whose masks are in --masks")
    parser.add_argument("--masks", metavar="DIR", help="masks or predictions with the names of --images")
    parser.add_argument(
        "--min-area", type=int, default=0, metavar="N", help="leave out regions of fewer pixels"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the output folder")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 if a picture could not be converted."""
    from paddlefcn import runtime

    runtime.prepare()
    from paddlefcn.data.convert import output_names
    from paddlefcn.ownership import own_folder

    datasets, classes = _datasets(args)
    files = (path for set_ in datasets.values() for s in set_.samples for path in (s.image, s.label) if path)
    names = output_names(datasets, args.to)
    with own_folder(
        args.output, "annotations", overwrite=args.overwrite, names=names, inputs=files
    ) as folder:
        bad = _write(args, datasets, classes, folder)
    for line in bad:
        print(f"fault: {line}", flush=True)
    return 1 if bad else 0


def _write(
    args: argparse.Namespace, datasets: dict[str, SegmentationDataset], classes: Classes, folder: Path
) -> list[str]:
    """Writes and says what; returns a line for each picture that could not be converted."""
    from paddlefcn.data.convert import write_coco, write_labelme, write_masks

    if args.to == "masks":
        bad = write_masks(datasets, classes, folder)
        print(_section(folder, list(datasets), classes), flush=True)
    else:
        bad = []
        pairs = _pairs(datasets, bad)
        if args.to == "labelme":
            count = write_labelme(pairs, classes, folder, min_area=args.min_area)
        else:
            count = write_coco(pairs, classes, folder / "annotations.json", min_area=args.min_area)
        print(f"{len(pairs)} pictures with {count} shapes written to {folder}", flush=True)
    return bad


def _datasets(args: argparse.Namespace) -> tuple[dict[str, SegmentationDataset], Classes]:
    """What is to be converted, by split, and its classes."""
    from paddlefcn.build import build_dataset, build_label_reader, validate

    if args.config is None and args.type is not None:
        return _named_on_the_command_line(args)
    config = load(args)
    validate(config)
    if args.masks is None and args.images is None:
        return {split: build_dataset(config, split) for split in args.splits}, config.classes
    if args.masks is None or args.images is None:
        raise ConfigError("--images and --masks: give both, the images and the masks that were made for them")
    from pathlib import Path

    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.data.datasets.folder import Predictions
    from paddlefcn.data.labels import LabelReader

    source = Predictions(Path(args.images), Path(args.masks))
    plain = build_label_reader(config)
    reader = LabelReader(plain.num_classes, plain.ignore_index, max_pixels=config.data.max_pixels)
    dataset = SegmentationDataset(source, reader, config.data.normalize.channels, config.data.max_pixels)
    return {"predictions": dataset}, config.classes


def _named_on_the_command_line(args: argparse.Namespace) -> tuple[dict[str, SegmentationDataset], Classes]:
    from paddlefcn.arguments import accepts, nearest
    from paddlefcn.classes import Classes
    from paddlefcn.data import DATASETS
    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.data.labels import LabelReader

    if args.type not in DATASETS:
        raise ConfigError(f"--type: unknown {args.type!r}{nearest(args.type, DATASETS)}")
    if args.root is None:
        raise ConfigError("--root: missing; give the folder of the data set")
    made = DATASETS[args.type]
    if not accepts(made, "classes"):
        raise ConfigError(f"--type {args.type}: its masks name no classes; give a recipe with -c")
    sources = {split: made(args.root, split, classes=args.classes) for split in args.splits}
    names = list(dict.fromkeys(name for source in sources.values() for name in source.classes))
    if len(names) < 2:
        raise ConfigError(f"--classes: found {', '.join(names)} alone in {args.root}; name two or more")
    sources = {split: made(args.root, split, classes=names) for split in args.splits}
    datasets = {
        name: SegmentationDataset(source, LabelReader(len(names))) for name, source in sources.items()
    }
    return datasets, Classes(tuple(names))


def _pairs(datasets: dict[str, SegmentationDataset], bad: list[str]) -> list[tuple[Sample, np.ndarray]]:
    pairs = []
    for dataset in datasets.values():
        for index, sample in enumerate(dataset.samples):
            try:
                pairs.append(
                    (sample, dataset.label_reader(dataset.read_mask(index), sample.label or sample.name))
                )
            except DataError as error:
                bad.append(str(error))
    return pairs


def _section(folder: Path, splits: list[str], classes: Classes) -> str:
    import yaml

    from paddlefcn.data.datasets import read_lines

    section = {"type": "ListFile", "root": str(folder.resolve())}
    counts = []
    for split in splits:
        section[split] = f"{split}.txt"
        empty = (folder / f"{split}.txt").stat().st_size == 0
        counts.append(f"{split} {0 if empty else len(read_lines(folder / f'{split}.txt'))}")
    text = yaml.safe_dump(
        {"data": {**section, "classes": list(classes.names)}}, sort_keys=False, allow_unicode=True
    )
    return f"masks written to {folder} ({', '.join(counts)}); for the recipe:\n{text}".rstrip()
