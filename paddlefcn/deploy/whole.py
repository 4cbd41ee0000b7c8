"""Images that the network sees whole: reading, network and writing at the same time, in constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from paddlefcn.data.georeference import Georeference
from paddlefcn.data.images import read_image
from paddlefcn.data.scenes import open_scene
from paddlefcn.deploy.inputs import Input
from paddlefcn.deploy.journal import failure, stamp
from paddlefcn.deploy.network import Network
from paddlefcn.deploy.options import Wanted
from paddlefcn.deploy.pictures import ImageFiles, summary
from paddlefcn.errors import DataError, OutputError
from paddlefcn.refine.map_units import MapTransform

_BATCH_PIXELS = 1 << 18  # up to this, images of one size go through the network together
_READERS, _WRITERS = 2, 2
_GEO_SUFFIXES = (".tif", ".tiff")

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass
class _Image:
    """An image on its way: read, prepared, predicted. `error` ends it."""

    item: Input
    pixels: np.ndarray = field(default_factory=lambda: np.empty(0))
    prepared: np.ndarray = field(default_factory=lambda: np.empty(0))
    georeference: Georeference | None = None
    scores: np.ndarray = field(default_factory=lambda: np.empty(0))
    error: str | None = None


class WholeImages:
    """Predicts images whole and writes their files.

    Args:
        network: what predicts.
        folder: where the files go.
        wanted: what is written beside the class ids.
    """

    def __init__(self, network: Network, folder: Path, wanted: Wanted) -> None:
        self.network, self.folder, self.wanted = network, folder, wanted

    def __call__(self, todo: Sequence[Input]) -> Iterator[dict[str, Any]]:
        """Each image's entry in shares.json, or its `error`, in their order."""
        with ThreadPoolExecutor(_READERS) as readers, ThreadPoolExecutor(_WRITERS) as writers:
            images = _ahead(readers, self._read, todo, 2 * self.network.batch)
            yield from _ahead(writers, self._write, self._predicted(images), 2 * _WRITERS)

    def _read(self, item: Input) -> _Image:
        try:
            pixels = read_image(item.file, self.network.preprocess.channels, self.network.max_pixels)
            self.network.preprocess.check_range(pixels)
            georeference = None
            if item.file.suffix.lower() in _GEO_SUFFIXES:
                with open_scene(item.file, max_pixels=self.network.max_pixels) as scene:
                    georeference = scene.georeference
            return _Image(item, pixels, self.network.preprocess(pixels), georeference)
        except (DataError, MemoryError) as error:
            return _Image(item, error=failure(item.file, error)["error"])

    def _predicted(self, images: Iterable[_Image]) -> Iterator[_Image]:
        """The images with their scores; neighbours of one size together."""
        group: list[_Image] = []
        for image in images:
            if group and (image.error or not self._fits(group, image)):
                yield from self._run(group)
                group = []
            if image.error:
                yield image
            else:
                group.append(image)
        if group:
            yield from self._run(group)

    def _fits(self, group: list[_Image], image: _Image) -> bool:
        shape, most = image.prepared.shape, self.network.batch
        pixels = (len(group) + 1) * shape[1] * shape[2]
        return len(group) < most and shape == group[0].prepared.shape and pixels <= _BATCH_PIXELS

    def _run(self, group: list[_Image]) -> list[_Image]:
        try:
            scores = self.network.run(np.stack([image.prepared for image in group]))
        except (DataError, MemoryError, RuntimeError) as error:  # an engine may not take an image of one row
            for image in group:
                image.error = failure(image.item.file, error)["error"]
            return group
        if self.network.gives == "labels":
            scores = scores.astype(np.uint8 if len(self.network.classes) <= 256 else np.int32, copy=False)
        for image, own in zip(group, scores):
            image.scores, image.prepared = own, np.empty(0)
        return group

    def _write(self, image: _Image) -> dict[str, Any]:
        item, size = image.item, image.pixels.shape[:2]
        if image.error:
            return {"file": str(item.file), "error": image.error}
        try:
            transform = MapTransform.from_georeference(image.georeference)
            refine, gives = self.network.refinement, self.network.gives
            refined = refine(image.pixels, image.scores, gives=gives, transform=transform)
            labels, chances = refined.labels, refined.probabilities
            if self.wanted.probabilities and chances is None:
                chances = refine.probabilities(image.pixels, image.scores, gives=gives)
            files = ImageFiles(self.folder / item.name, self.network.classes, self.wanted)
            files.write_labels(labels, image.georeference)
            files.write_extras(image.pixels, labels, chances)
            if refine.options.confidence and chances is not None:
                files.write_confidence(chances, image.georeference)
            files.write_polygons(item.file, labels, transform)
            counts = np.bincount(labels.ravel(), minlength=len(self.network.classes))
            entry = summary(item.name, item.file, size, counts, self.network.classes)
            return {**entry, "stamp": stamp(item.file)}
        except (DataError, OutputError, MemoryError) as error:
            return failure(item.file, error)


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Task], Result], tasks: Iterable[Task], ahead: int
) -> Iterator[Result]:
    """`work(task)` for each task in order, `ahead` of them under way."""
    pending: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            pending.append(pool.submit(work, task))
            while len(pending) > ahead or (pending and pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
