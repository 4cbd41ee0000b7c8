"""What is written for each image: class ids, overlay, figure, probabilities; the shares of its classes."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from paddlefcn.classes import Classes
from paddlefcn.data.georeference import Georeference
from paddlefcn.data.tiff_writer import TiffWriter
from paddlefcn.deploy.options import POLYGON_ENDINGS, Wanted
from paddlefcn.errors import DataError
from paddlefcn.files import json_text, naming_errors, write_bytes, write_text
from paddlefcn.refine.map_units import MapTransform
from paddlefcn.refine.polygons import geojson, labelme
from paddlefcn.visualize import class_colours, colourize, overlay, tint, write_picture

_MOST_POLYGON_PIXELS = 1 << 27  # of a map; outlines need some twenty bytes for each
OVERLAY_SIDE = 2048  # pixels; what a viewer opens at once
_DRAWING = threading.Lock()  # matplotlib shares its fonts between threads without one


class ImageFiles:
    """The files of one image.

    Args:
        stem: folder and name of the image, without an ending.
        classes: what they are called and drawn in.
        wanted: what is written beside the class ids.
    """

    def __init__(self, stem: Path, classes: Classes, wanted: Wanted) -> None:
        self.stem, self.classes, self.wanted = stem, classes, wanted

    def _path(self, ending: str) -> Path:
        return self.stem.with_name(f"{self.stem.name}{ending}")

    def write_labels(self, labels: np.ndarray, georeference: Georeference | None) -> None:
        """NAME.png with the classes' colours, or NAME.tif with the image's place on Earth."""
        self.write_label_rows(iter([labels]), labels.shape, labels.dtype, georeference)

    def write_label_rows(
        self,
        bands: Iterator[np.ndarray],
        size: tuple[int, ...],
        dtype: np.dtype,
        georeference: Georeference | None,
    ) -> None:
        """`write_labels` of bands [rows, width] from top to bottom, in the memory of one band."""
        height, width = size
        with naming_errors(self.stem.parent):
            self.stem.parent.mkdir(parents=True, exist_ok=True)
        if georeference is None:
            _write_png_rows(self._path(".png"), bands, height, width, dtype, self.classes)
            return
        kind = np.uint8 if dtype == np.uint8 else np.uint16
        palette = self.classes.palette if kind is np.uint8 else None
        place = self._path(".tif")
        with TiffWriter(place, height, width, dtype=kind, palette=palette, georeference=georeference) as out:
            for band in bands:
                out.write_rows(band.astype(kind))

    def write_extras(
        self, image: np.ndarray, labels: np.ndarray, probabilities: np.ndarray | None = None
    ) -> None:
        """NAME_overlay.png of at most 2048 pixels a side, NAME_figure.png, NAME_probabilities.npy, as wanted.

        Args:
            image: [H, W, C]; labels: [H, W]; probabilities: [num_classes, H, W], written as float16.
        """
        wanted, classes = self.wanted, self.classes
        if wanted.probabilities and probabilities is not None:
            buffer = io.BytesIO()
            np.save(buffer, probabilities.astype(np.float16))
            write_bytes(self._path("_probabilities.npy"), buffer.getvalue())
        if not wanted.overlay and not wanted.figure:
            return
        shares = class_shares(np.bincount(labels.ravel(), minlength=len(classes)), classes)
        image, labels = reduced(image, labels, OVERLAY_SIDE)
        if wanted.overlay:
            write_picture(self._path("_overlay.png"), overlay(image, labels, classes))
        if wanted.figure:
            from paddlefcn.plots import figure

            present = [(name, classes.names.index(name), share) for name, share in shares.items() if share]
            present.sort(key=lambda entry: -entry[2])
            with _DRAWING:
                tinted, drawn = tint(image, labels, classes), colourize(labels, classes)
                figure(image, drawn, tinted, present[:20], classes, self._path("_figure.png"))

    def write_confidence(self, probabilities: np.ndarray, georeference: Georeference | None) -> None:
        """NAME_confidence.png (.tif with a place on Earth): the highest probability, 0 to 255 for 0 to 1."""
        grey = np.rint(probabilities.max(axis=0) * 255).astype(np.uint8)
        if georeference is None:
            buffer = io.BytesIO()
            Image.fromarray(grey).save(buffer, "PNG")
            write_bytes(self._path("_confidence.png"), buffer.getvalue())
            return
        place = self._path("_confidence.tif")
        with TiffWriter(place, *grey.shape, dtype=np.uint8, georeference=georeference) as out:
            out.write_rows(grey)

    def write_polygons(self, image: Path, labels: np.ndarray, transform: MapTransform | None) -> None:
        """NAME.geojson, or NAME.json for labelme, as wanted.

        Raises:
            DataError: the label map is too large.
        """
        wanted = self.wanted
        if wanted.polygons is None:
            return
        if labels.size > _MOST_POLYGON_PIXELS:
            most = f"{_MOST_POLYGON_PIXELS // 1_000_000} million"
            raise DataError(
                f"image {image}: {labels.size} pixels are too many for --polygons ({most}); crop it"
            )
        if wanted.polygons == "geojson":
            tree = geojson(labels, self.classes, transform, simplify=wanted.simplify)
        else:
            place = Path(os.path.relpath(image, self.stem.parent)).as_posix()
            tree = labelme(labels, self.classes, place, simplify=wanted.simplify)
        write_text(self._path(POLYGON_ENDINGS[wanted.polygons]), json_text(tree))


def _write_png_rows(
    path: Path, bands: Iterator[np.ndarray], height: int, width: int, dtype: np.dtype, classes: Classes
) -> None:
    """A palette PNG of 8 bits; ids beyond 255 make a grey one of 16, because a palette holds 256 colours."""
    deep = np.dtype(dtype).itemsize > 1
    partial = path.with_name(f".{path.name}.partial")
    packer = zlib.compressobj(6)
    with naming_errors(path):
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
