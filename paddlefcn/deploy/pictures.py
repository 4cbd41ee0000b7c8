"""What is written for each image: class ids, overlay, figure, probabilities; the shares of its classes."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddlefcn.classes import Classes
from paddlefcn.data.georeference import Georeference
from paddlefcn.data.tiff_writer import TiffWriter
from paddlefcn.files import said, write_bytes
from paddlefcn.visualize import class_colours, colourize, overlay, tint, write_picture

OVERLAY_SIDE = 2048  # pixels; what a viewer opens at once
_DRAWING = threading.Lock()  # matplotlib shares its fonts between threads without one


@dataclass(frozen=True)
class Wanted:
    """What is written beside the class ids."""

    overlay: bool = True
    figure: bool = False
    probabilities: bool = False

    @property
    def endings(self) -> list[str]:
        """Of the files of one image, after its name."""
        return [
            ".png",
            *(["_overlay.png"] if self.overlay else []),
            *(["_figure.png"] if self.figure else []),
            *(["_probabilities.npy"] if self.probabilities else []),
        ]


def write_labels(stem: Path, labels: np.ndarray, classes: Classes, georeference: Georeference | None) -> Path:
    """NAME.png with the classes' colours, or NAME.tif with the image's place on Earth; returns which."""
    return write_label_rows(stem, iter([labels]), labels.shape, labels.dtype, classes, georeference)


def write_label_rows(
    stem: Path,
    bands: Iterator[np.ndarray],
    size: tuple[int, ...],
    dtype: np.dtype,
    classes: Classes,
    georeference: Georeference | None,
) -> Path:
    """`write_labels` of bands [rows, width] from top to bottom, in the memory of one band."""
    height, width = size
    stem.parent.mkdir(parents=True, exist_ok=True)
    if georeference is None:
        path = stem.with_name(f"{stem.name}.png")
        _write_png_rows(path, bands, height, width, dtype, classes)
        return path
    path = stem.with_name(f"{stem.name}.tif")
    kind = np.uint8 if dtype == np.uint8 else np.uint16
    palette = classes.palette if kind is np.uint8 else None
    with TiffWriter(path, height, width, dtype=kind, palette=palette, georeference=georeference) as out:
        for band in bands:
            out.write_rows(band.astype(kind))
    return path


def _write_png_rows(
    path: Path, bands: Iterator[np.ndarray], height: int, width: int, dtype: np.dtype, classes: Classes
) -> None:
    """A palette PNG of 8 bits; ids beyond 255 make a grey one of 16, because a palette holds 256 colours."""
    deep = np.dtype(dtype).itemsize > 1
    partial = path.with_name(f".{path.name}.partial")
    packer = zlib.compressobj(6)
    with said(path):
        try:
            with open(partial, "wb") as stream:
                stream.write(b"\x89PNG\r\n\x1a\n")
                header = struct.pack(">IIBBBBB", width, height, 16 if deep else 8, 0 if deep else 3, 0, 0, 0)
                _write_chunk(stream, b"IHDR", header)
                if not deep:
                    _write_chunk(stream, b"PLTE", class_colours(classes)[:256].astype(np.uint8).tobytes())
                for band in bands:
                    rows = band.astype(">u2" if deep else np.uint8).view(np.uint8).reshape(len(band), -1)
                    filtered = np.pad(rows, ((0, 0), (1, 0)))  # each row begins with its filter: none
                    _write_chunk(stream, b"IDAT", packer.compress(filtered.tobytes()))
                _write_chunk(stream, b"IDAT", packer.flush())
                _write_chunk(stream, b"IEND", b"")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _write_chunk(stream: io.BufferedWriter, kind: bytes, content: bytes) -> None:
    if content or kind == b"IEND":
        stream.write(struct.pack(">I", len(content)) + kind + content)
        stream.write(struct.pack(">I", zlib.crc32(kind + content)))


def write_extras(
    stem: Path,
    image: np.ndarray,
    labels: np.ndarray,
    classes: Classes,
    wanted: Wanted,
    probabilities: np.ndarray | None = None,
) -> None:
    """NAME_overlay.png of at most 2048 pixels a side, NAME_figure.png and NAME_probabilities.npy, as wanted.

    Args:
        image: [H, W, C]; labels: [H, W]; probabilities: [num_classes, H, W], written as float16.
    """
    if wanted.probabilities and probabilities is not None:
        buffer = io.BytesIO()
        np.save(buffer, probabilities.astype(np.float16))
        write_bytes(stem.with_name(f"{stem.name}_probabilities.npy"), buffer.getvalue())
    if not wanted.overlay and not wanted.figure:
        return
    shares = class_shares(np.bincount(labels.ravel(), minlength=len(classes)), classes)
    image, labels = reduced(image, labels, OVERLAY_SIDE)
    if wanted.overlay:
        write_picture(stem.with_name(f"{stem.name}_overlay.png"), overlay(image, labels, classes))
    if wanted.figure:
        from paddlefcn.plots import figure

        present = [(name, classes.names.index(name), share) for name, share in shares.items() if share]
        present.sort(key=lambda entry: -entry[2])
        path = stem.with_name(f"{stem.name}_figure.png")
        with _DRAWING:
            tinted = tint(image, labels, classes)
            figure(image, colourize(labels, classes), tinted, present[:20], classes, path)


def reduced(image: np.ndarray, labels: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Both at a size of at most `side` pixels: the image averaged, the labels by every n-th pixel."""
    height, width = labels.shape
    if max(height, width) <= side:
        return image, labels
    factor = side / max(height, width)
    size = max(1, round(height * factor)), max(1, round(width * factor))
    shown = cv2.resize(np.ascontiguousarray(image[:, :, :4]), size[::-1], interpolation=cv2.INTER_AREA)
    rows, columns = (((np.arange(n) + 0.5) * (m / n)).astype(np.intp) for n, m in zip(size, labels.shape))
    return shown.reshape(*size, -1), labels[rows[:, None], columns]


def class_shares(counts: np.ndarray, classes: Classes) -> dict[str, float]:
    """The share of each class in the pixels counted, 0 to 1; `counts` is np.bincount of class ids."""
    pixels = max(1, int(counts.sum()))
    return {name: int(count) / pixels for name, count in zip(classes.names, counts)}


def summary(
    name: str, file: Path, size: tuple[int, ...], counts: np.ndarray, classes: Classes
) -> dict[str, Any]:
    """An image's entry in shares.json."""
    return {
        "name": name,
        "file": str(file),
        "height": size[0],
        "width": size[1],
        "shares": class_shares(counts, classes),
    }
