"""What predict and infer read and write for each image, and how they go over their inputs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from paddlefcn.classes import Classes
from paddlefcn.data.images import SUFFIXES, image_files
from paddlefcn.errors import DataError, OutputError
from paddlefcn.files import write_json
from paddlefcn.visualize import colourize, overlay, tint, write_palette_png, write_picture

SHARES_FILE = "shares.json"


@dataclass(frozen=True)
class Input:
    """An image and its name: the path within the input folder, without the suffix."""

    file: Path
    name: str


def find_inputs(path: str | Path, output: str | Path, *, figure: bool) -> list[Input]:
    """The image, or every image below the folder but for those of an output folder within.

    Raises:
        DataError: nothing there, or two inputs would write one file.
    """
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
) -> dict[str, Any]:
    """Predicts and writes every input; an unreadable one is reported on stderr and the rest go on.

    Args:
        inputs: from `find_inputs`.
        output: an empty folder; subfolders mirror the inputs'.
        read: file -> image [H, W, C]; its DataError marks the input as unreadable.
        predict: image -> class ids [H, W].
        classes: names and colours.
        figure: whether the picture with image, map, overlay and shares is written too.

    Returns:
        What shares.json holds: `classes`, `total` (the share of each class in all pixels, None without
        images), `images` (name, file, height, width, shares) and `unreadable` (file, error).
    """
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    with tqdm(inputs, unit="image", disable=not sys.stderr.isatty(), leave=False) as bar:
        for item in bar:
            try:
                image = read(item.file)
                labels = predict(image)
            except DataError as error:
                message = " ".join(str(error).split())
                message = message if str(item.file) in message else f"image {item.file}: {message}"
                tqdm.write(f"error: {message}", file=sys.stderr)
                failed.append({"file": str(item.file), "error": message})
                continue
            write_prediction(output, item.name, image, labels, classes, figure=figure)
            done.append(_summary(item, labels, classes))
    total = _total(done, classes)
    shares = {"classes": list(classes.names), "total": total, "images": done, "unreadable": failed}
    write_json(output / SHARES_FILE, shares)
    return shares


def write_prediction(
    output: Path, name: str, image: np.ndarray, labels: np.ndarray, classes: Classes, *, figure: bool
) -> None:
    """NAME.png (class ids, palette), NAME_overlay.png and, if wanted, NAME_figure.png."""
    paths = [output / file for file in _pictures(name, figure)]
    write_palette_png(paths[0], labels, classes)
    write_picture(paths[1], overlay(image, labels, classes))
    if figure:
        from paddlefcn.plots import figure as draw_figure

        present = sorted(
            ((classes.names[id_], id_, share) for id_, share in enumerate(_shares(labels, classes)) if share),
            key=lambda entry: -entry[2],
        )
        colours, tinted = colourize(labels, classes), tint(image, labels, classes)
        draw_figure(image, colours, tinted, present[:20], classes, paths[2])


def _pictures(name: str, figure: bool) -> list[str]:
    files = [f"{name}.png", f"{name}_overlay.png"]
    return [*files, f"{name}_figure.png"] if figure else files


def _shares(labels: np.ndarray, classes: Classes) -> list[float]:
    counts = np.bincount(labels.ravel(), minlength=len(classes))
    return [int(count) / labels.size for count in counts[: len(classes)]]


def _summary(item: Input, labels: np.ndarray, classes: Classes) -> dict[str, Any]:
    return {
        "name": item.name,
        "file": str(item.file),
        "height": labels.shape[0],
        "width": labels.shape[1],
        "shares": dict(zip(classes.names, _shares(labels, classes))),
    }


def _total(done: Sequence[dict[str, Any]], classes: Classes) -> dict[str, float | None]:
    """The share of each class in all pixels of all images; None without images."""
    pixels = [entry["height"] * entry["width"] for entry in done]
    return {
        name: sum(n * entry["shares"][name] for n, entry in zip(pixels, done)) / sum(pixels) if done else None
        for name in classes.names
    }
