"""What predict and infer write for each image, and how they go over their inputs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlefcn.errors import DataError, OutputError
from paddlefcn.files import write_json

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Input:
    """An image and its name: the path within the input folder, without the suffix."""

    file: Path
    name: str


@dataclass(frozen=True)
class Classes:
    """How class ids are named and coloured."""

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """--input, --output, --figure and --overwrite."""
    parser.add_argument("--input", required=True, metavar="FILE_OR_DIR", help="image, or a folder")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the pictures go")
    parser.add_argument(
        "--figure", action="store_true", help="one more picture each: image, map, overlay, shares"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the output")


def find_inputs(path: str | Path, output: str | Path, *, figure: bool) -> list[Input]:
    """The image, or every image below the folder but for those of an output folder within.

    Raises:
        DataError: nothing there, or two inputs would write one file.
    """
    from paddlefcn.data.images import SUFFIXES, image_files

    given = Path(path)
    if not given.exists():
        raise DataError(f"input {given}: no such file or folder")
    if not given.is_dir():
        return [Input(given, given.stem)]
    written = Path(output).resolve()
    found = [
        Input(file, file.relative_to(given).with_suffix("").as_posix())
        for file in image_files(given)
        if written not in file.resolve().parents
    ]
    if not found:
        raise DataError(f"input {given}: no image below ({', '.join(SUFFIXES)})")
    writer: dict[str, Path] = {}
    for item in found:
        for name in _pictures(item.name, figure):
            if name in writer:
                raise DataError(
                    f"input {given}: {writer[name]} and {item.file} would both write {name}; rename one"
                )
            writer[name] = item.file
    return found


def keep_sources(output: str | Path, sources: Iterable[str | Path]) -> None:
    """Refuses an output folder that holds what is about to be read: --overwrite would empty it.

    Raises:
        OutputError: the folder is a source, or a source lies below it.
    """
    folder = Path(output).resolve()
    for source in sources:
        read = Path(source).resolve()
        if read == folder or folder in read.parents:
            raise OutputError(f"output folder {output} holds the input {source}; choose another")


def predict_all(
    inputs: Sequence[Input],
    output: Path,
    *,
    read: Callable[[Path], np.ndarray],
    predict: Callable[[np.ndarray], np.ndarray],
    classes: Classes,
    figure: bool,
) -> int:
    """Predicts and writes every input; an unreadable one is reported and the rest go on.

    Args:
        inputs: from `find_inputs`.
        output: an empty folder; subfolders mirror the inputs'.
        read: file -> image [H, W, C]; its DataError marks the input as unreadable.
        predict: image -> class ids [H, W].
        classes: names and colours.
        figure: whether the picture with image, map, overlay and shares is written too.

    Returns:
        The exit code: 1 if an input could not be read.
    """
    from tqdm import tqdm

    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    with tqdm(inputs, unit="image", disable=not sys.stderr.isatty(), leave=False) as bar:
        for item in bar:
            try:
                image = read(item.file)
                labels = predict(image)
            except DataError as error:
                message = " ".join(str(error).split())
                tqdm.write(f"error: {message}", file=sys.stderr)
                failed.append({"file": str(item.file), "error": message})
                continue
            write_prediction(output, item.name, image, labels, classes, figure=figure)
            done.append(_summary(item, labels, classes))
    total = _total(done, classes)
    write_json(
        output / "shares.json",
        {"classes": list(classes.names), "total": total, "images": done, "unreadable": failed},
    )
    _report(done, failed, total, output)
    return 1 if failed else 0


def write_prediction(
    output: Path,
    name: str,
    image: np.ndarray,
    labels: np.ndarray,
    classes: Classes,
    *,
    figure: bool,
) -> None:
    """NAME.png (class ids, palette), NAME_overlay.png and, if wanted, NAME_figure.png."""
    from paddlefcn.visualize import colourize, overlay, tint, write_palette_png, write_picture

    names, palette, ignore_index = classes.names, classes.palette, classes.ignore_index
    paths = [output / file for file in _pictures(name, figure)]
    write_palette_png(paths[0], labels, palette, ignore_index)
    write_picture(paths[1], overlay(image, labels, palette, names, ignore_index))
    if figure:
        from paddlefcn.plots import figure as draw_figure

        shares = _shares(labels, classes)
        present = sorted(
            ((names[index], index, share) for index, share in enumerate(shares) if share > 0),
            key=lambda entry: -entry[2],
        )
        colours = colourize(labels, palette, ignore_index)
        tinted = tint(image, labels, palette, ignore_index)
        draw_figure(image, colours, tinted, present[:20], palette, paths[2])


def _pictures(name: str, figure: bool) -> list[str]:
    files = [f"{name}.png", f"{name}_overlay.png"]
    return [*files, f"{name}_figure.png"] if figure else files


def _shares(labels: np.ndarray, classes: Classes) -> list[float]:
    import numpy as np

    counts = np.bincount(labels.ravel(), minlength=len(classes.names))
    return [int(count) / labels.size for count in counts[: len(classes.names)]]


def _summary(item: Input, labels: np.ndarray, classes: Classes) -> dict[str, Any]:
    shares = dict(zip(classes.names, _shares(labels, classes)))
    return {
        "name": item.name,
        "file": str(item.file),
        "height": labels.shape[0],
        "width": labels.shape[1],
        "shares": shares,
    }


def _total(done: Sequence[dict[str, Any]], classes: Classes) -> dict[str, float | None]:
    """The share of each class in all pixels of all images; None without images."""
    pixels = [entry["height"] * entry["width"] for entry in done]
    return {
        name: sum(n * entry["shares"][name] for n, entry in zip(pixels, done)) / sum(pixels) if done else None
        for name in classes.names
    }


def _report(
    done: Sequence[dict[str, Any]],
    failed: Sequence[dict[str, str]],
    total: dict[str, float | None],
    output: Path,
) -> None:
    from paddlefcn.metrics import columns, padded

    ranked = sorted(((share, name) for name, share in total.items() if share), reverse=True)
    width = max((columns(name) for _, name in ranked), default=0) + 2
    for share, name in ranked:
        images = sum(entry["shares"][name] > 0 for entry in done)
        print(f"{padded(name, width)}{share:8.2%}  in {images} of {len(done)} images")
    print(f"{len(done)} images predicted into {output}")
    if failed:
        print(f"error: {len(failed)} of {len(done) + len(failed)} inputs could not be read", file=sys.stderr)
