"""Draws augmented pairs as the network sees them: a contact sheet of images and tinted labels.

The batches are the first ones that training itself would get, brought back from their normalisation.
With --sheet, each transform of the recipe is drawn alone, and all of them together.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from paddlefcn.commands.common import add_common, add_config, load

if TYPE_CHECKING:
    import numpy as np

    from paddlefcn.config import Config
    from paddlefcn.data.datasets import SegmentationDataset

WRITES = ("output", "sheet")
_OUTPUT = "preview_data.png"
_CELL = 240  # pixels of a picture's longer side on the sheet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config(parser)
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--output", metavar="FILE", help=f"default: {_OUTPUT}")
    target.add_argument("--sheet", metavar="FILE", help="draw each transform alone and all together instead")
    parser.add_argument(
        "--count", type=int, metavar="N", help="pairs to draw (default: 16; rows of a sheet: 3)"
    )
    parser.add_argument("--start", type=int, default=0, metavar="K", help="first batch of training to draw")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0."""
    from paddlefcn.errors import UserError
    from paddlefcn.ownership import check_file

    config = load(args)
    count = args.count if args.count is not None else 3 if args.sheet else 16
    if not 1 <= count <= 400 or args.start < 0:
        raise UserError(f"--count {count}, --start {args.start}: expected 1 to 400, and 0 or more")
    if not args.sheet and not args.output:
        args.output = _OUTPUT
        check_file("--output", _OUTPUT, overwrite=args.overwrite)
    output = Path(args.sheet or args.output)
    from paddlefcn import runtime

    runtime.prepare()
    from paddlefcn.build import build_dataset, build_loader, validate
    from paddlefcn.data.checks import quick_look
    from paddlefcn.visualize import write_picture

    validate(config)
    # a few pictures are not worth decoding all of them for
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, cache=None))
    dataset = build_dataset(config, "train")
    for line in quick_look(dataset, config.data.classes, skip=config.data.on_bad_image == "skip"):
        print(line, flush=True)
    if args.sheet:
        print(_draw_transforms(config, dataset, count, output), flush=True)
        return 0
    cells: list[np.ndarray] = []
    batches = build_loader(config, dataset).batches(args.start)
    for batch in batches:
        for image, label, name in zip(batch.image, batch.label, batch.names):
            cells.append(_cell(config, image, label, name))
        if len(cells) >= count:
            break
    batches.close()  # type: ignore[attr-defined]
    write_picture(output, _contact_sheet(cells[:count]))
    print(f"{min(len(cells), count)} pairs of the training split, augmented: {output}", flush=True)
    return 0


def _draw_transforms(config: Config, dataset: SegmentationDataset, count: int, output: Path) -> str:
    """Writes the sheet of the first readable pairs; returns the line that says so."""
    from paddlefcn.build import build_loader, build_train_transforms
    from paddlefcn.errors import DataError
    from paddlefcn.transform_sheet import draw_sheet
    from paddlefcn.visualize import write_picture

    loader = build_loader(config, dataset)
    loader.prepare()
    samples: list[tuple[str, np.ndarray, np.ndarray]] = []
    for index, sample in enumerate(dataset.samples):
        if len(samples) == count:
            break
        try:
            samples.append((sample.name, *dataset.read(index)))
        except DataError:
            if config.data.on_bad_image != "skip":
                raise
    if not samples:
        raise DataError("none of the training images can be read")
    transforms = build_train_transforms(config)
    sheet = draw_sheet(transforms, samples, config.classes, loader.draw_sample, config.train.seed)
    write_picture(output, sheet)
    return f"{len(transforms)} transforms of the recipe, each alone and all together: {output}"


def _cell(config: Config, image: np.ndarray, label: np.ndarray, name: str) -> np.ndarray:
    """One pair beside each other under its name; image float32 [C, H, W], label [H, W]."""
    import cv2
    import numpy as np

    from paddlefcn.visualize import displayable, gallery, tint

    data = config.data
    pixels = data.normalize.undo(image)
    if data.normalize.scale == 255:
        pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    shown = displayable(pixels)
    pair = np.concatenate([shown, tint(shown, label, config.classes)], axis=1)
    factor = _CELL / max(label.shape)
    size = (max(2, round(pair.shape[1] * factor)), max(1, round(pair.shape[0] * factor)))
    mode = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    height, width = label.shape
    return gallery([(f"{name}  {height}x{width}", cv2.resize(pair, size, interpolation=mode))])


def _contact_sheet(cells: list[np.ndarray], gap: int = 8) -> np.ndarray:
    """Cells in rows, about as wide as high, on white."""
    import math

    import numpy as np

    columns = max(1, round(math.sqrt(len(cells) / 2)))
    height = max(cell.shape[0] for cell in cells) + gap
    width = max(cell.shape[1] for cell in cells) + gap
    rows = -(-len(cells) // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return sheet
