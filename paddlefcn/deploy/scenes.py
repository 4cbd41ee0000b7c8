"""Images in tiles, from a file to files, in constant memory; goes on after the last finished row."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlefcn.bars import bar
from paddlefcn.data.images import match_channels
from paddlefcn.data.scenes import Scene, open_scene
from paddlefcn.deploy.inputs import Input
from paddlefcn.deploy.journal import failure, stamp
from paddlefcn.deploy.network import Network
from paddlefcn.deploy.options import Wanted
from paddlefcn.deploy.pictures import OVERLAY_SIDE, ImageFiles, summary
from paddlefcn.deploy.tiling import label_bands
from paddlefcn.errors import DataError, OutputError
from paddlefcn.files import naming_errors, write_text
from paddlefcn.preprocess import Preprocess
from paddlefcn.refine.components import remove_small_by_windows
from paddlefcn.refine.map_units import MapTransform

_BAND_BYTES = 64 << 20


class TiledImages:
    """Predicts images in tiles and writes their files.

    Args:
        network: what predicts; it has a `tiling`.
        folder: where the files go.
        wanted: what is written beside the class ids.
        tile: side of the tiles, in pixels.
    """

    def __init__(self, network: Network, folder: Path, wanted: Wanted, tile: int) -> None:
        assert network.tiling is not None
        self.network, self.folder, self.wanted = network, folder, wanted
        self.tiling, self.tile = network.tiling, tile

    def __call__(self, todo: Sequence[Input]) -> Iterator[dict[str, Any]]:
        """Each image's entry in shares.json, or its `error`, in their order."""
        for item in todo:
            try:
                yield self._predict(item)
            except (DataError, OutputError, MemoryError) as error:
                yield failure(item.file, error)

    def _predict(self, item: Input) -> dict[str, Any]:
        """Predicts one image and writes its files.

        The class ids are collected in hidden files beside the result, a row of tiles at a time, where a
        stopped prediction finds them again if the image is still the same.
        """
        network, classes, options = self.network, self.network.classes, self.network.refinement.options
        files = ImageFiles(self.folder / item.name, classes, self.wanted)
        with naming_errors(files.stem.parent):
            files.stem.parent.mkdir(parents=True, exist_ok=True)
        with open_scene(item.file, max_pixels=network.max_pixels) as scene:
            transform = MapTransform.from_georeference(scene.georeference)
            smallest = options.min_area.pixels(transform) if options.min_area is not None else 0.0
            highest = max(len(classes) - 1, classes.ignore_index if options.min_confidence else 0)
            rows = _FinishedRows(files.stem, item.file, scene.width, highest)
            seen = _Matched(scene, network.preprocess.channels, item.file)
            _check_range(seen, network.preprocess)
            self._predict_rows(seen, rows, item.name)
            rows.remove_small(smallest, classes.ignore_index)
            size = (scene.height, scene.width)
            files.write_label_rows(rows.bands(), size, rows.dtype, scene.georeference)
            counts = sum(
                (np.bincount(band.ravel(), minlength=highest + 1) for band in rows.bands()),
                np.zeros(highest + 1, np.int64),
            )
            if self.wanted.polygons:
                files.write_polygons(item.file, rows.labels(), transform)
            if self.wanted.overlay or self.wanted.figure:
                files.write_extras(*_reduced(seen, rows, OVERLAY_SIDE))
        rows.remove()
        return {**summary(item.name, item.file, size, counts, classes), "stamp": stamp(item.file)}

    def _predict_rows(self, scene: Scene, rows: _FinishedRows, name: str) -> None:
        inside = self.tiling.inside(self.tile)
        across, down = -(-scene.width // inside), -(-scene.height // inside)
        done = rows.count // inside * across
        with bar(across * down, name, "tile", initial=done, quiet=across * down == 1) as steps:
            bands = label_bands(
                scene,
                self.network.run,
                self.network.preprocess.normalize,
                self.tiling,
                self.tile,
                start=rows.count,
                on_tile=lambda: steps.update(),
                refinement=self.network.refinement,
            )
            if rows.count < scene.height:
                for band in bands:
                    rows.append(band)


class _Matched:
    """A scene with the network's channels."""

    def __init__(self, scene: Scene, channels: int, file: Path) -> None:
        self._scene, self.channels, self._file = scene, channels, file
        self.height, self.width = scene.height, scene.width
        self.dtype, self.georeference = scene.dtype, scene.georeference

    def read_window(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return match_channels(self._scene.read_window(top, left, height, width), self.channels, self._file)


class _FinishedRows:
    """Class ids of the rows that are done, in a hidden file; as many as a stopped prediction left of it."""

    def __init__(self, stem: Path, source: Path, width: int, highest: int) -> None:
        self.path = stem.with_name(f".{stem.name}.rows")
        self._note = stem.with_name(f".{stem.name}.rows.json")
        self._cleaned = stem.with_name(f".{stem.name}.rows.cleaned")
        self.width = width
        self.dtype = np.dtype(np.uint8 if highest <= 255 else np.int32)
        note = json.dumps({"stamp": stamp(source), "width": width})
        self.count = 0
        if self._note.is_file() and self.path.is_file() and self._note.read_text() == note:
            self.count = self.path.stat().st_size // (width * self.dtype.itemsize)
        with naming_errors(self.path):
            write_text(self._note, note)
            with open(self.path, "ab") as stream:  # a row that was cut short is taken off
                stream.truncate(self.count * width * self.dtype.itemsize)

    def append(self, band: np.ndarray) -> None:
        with naming_errors(self.path), open(self.path, "ab") as stream:
            stream.write(np.ascontiguousarray(band, self.dtype).tobytes())
        self.count += len(band)

    def bands(self) -> Iterator[np.ndarray]:
        """Every row, in bands of bounded memory."""
        rows = max(1, _BAND_BYTES // (self.width * self.dtype.itemsize))
        with open(self.path, "rb") as stream:
            while content := stream.read(rows * self.width * self.dtype.itemsize):
                yield np.frombuffer(content, self.dtype).reshape(-1, self.width)

    def labels(self) -> np.ndarray:
        """All rows [count, width], read from the file as they are used."""
        return np.memmap(self.path, self.dtype, "r", shape=(self.count, self.width))

    def remove_small(self, min_area: float, ignore_index: int) -> None:
        """Takes small components out, in a second file that replaces the first."""
        if min_area <= 1 or not self.count:
            return
        with naming_errors(self._cleaned):
            out = np.memmap(self._cleaned, self.dtype, "w+", shape=(self.count, self.width))
            remove_small_by_windows(self.labels(), out, min_area, ignore_index)
            out.flush()
            del out
            os.replace(self._cleaned, self.path)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self._cleaned.unlink(missing_ok=True)


def _check_range(scene: _Matched, preprocess: Preprocess) -> None:
    """By the middle of the image: its edges may be empty."""
    height, width = min(512, scene.height), min(512, scene.width)
    top, left = (scene.height - height) // 2, (scene.width - width) // 2
    preprocess.check_range(scene.read_window(top, left, height, width))


def _reduced(scene: _Matched, rows: _FinishedRows, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and class ids by every n-th pixel, at most `side` pixels high and wide."""
    step = -(-max(scene.height, scene.width) // side)
    labels = [band[-top % step :: step, ::step] for top, band in _numbered(rows.bands())]
    image = []
    high = max(step, 256 // step * step)
    for top in range(0, scene.height, high):
        window = scene.read_window(top, 0, min(high, scene.height - top), scene.width)
        image.append(window[::step, ::step].copy())
    if not labels:
        raise DataError("has no pixels")
    return np.concatenate(image), np.concatenate(labels)


def _numbered(bands: Iterator[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    top = 0
    for band in bands:
        yield top, band
        top += len(band)
