"""Goes over images: reading, network and writing at the same time, in constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from paddlefcn.bars import bar, say_above
from paddlefcn.classes import Classes
from paddlefcn.data.georeference import Georeference
from paddlefcn.data.images import read_image
from paddlefcn.data.scenes import open_scene
from paddlefcn.deploy.inputs import Input
from paddlefcn.deploy.journal import Journal, stamp
from paddlefcn.deploy.pictures import (
    Wanted,
    summary,
    write_confidence,
    write_extras,
    write_labels,
    write_polygons,
)
from paddlefcn.deploy.scenes import predict_scene
from paddlefcn.deploy.tiling import Tiling
from paddlefcn.errors import DataError, OutputError
from paddlefcn.preprocess import Preprocess
from paddlefcn.refine.map_units import MapTransform
from paddlefcn.refine.refinement import Refinement

_BATCH_PIXELS = 1 << 18  # up to this, images of one size go through the network together
_READERS, _WRITERS = 2, 2
_GEO_SUFFIXES = (".tif", ".tiff")

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Network:
    """What predicts: a trained network, or an export.

    Args:
        run: [N, C, h, w] -> scores [N, num_classes, h, w] float32, or class ids [N, h, w].
        gives: which: "logits", "probabilities" or "labels".
        preprocess, classes, max_pixels: what belongs to it.
        tiling: how it may be run in tiles; None if it cannot.
        batch: how many images of one size it takes at a time.
        refinement: what makes class ids of its scores.
    """

    run: Callable[[np.ndarray], np.ndarray]
    gives: str
    preprocess: Preprocess
    classes: Classes
    max_pixels: int
    tiling: Tiling | None = None
    batch: int = 8
    refinement: Refinement = field(default_factory=Refinement)


@dataclass
class _Image:
    """An image on its way: read, prepared, predicted. `error` ends it."""

    item: Input
    pixels: np.ndarray = field(default_factory=lambda: np.empty(0))
    prepared: np.ndarray = field(default_factory=lambda: np.empty(0))
    georeference: Georeference | None = None
    scores: np.ndarray = field(default_factory=lambda: np.empty(0))
    error: str | None = None


def predict_all(
    network: Network,
    inputs: Sequence[Input],
    journal: Journal,
    wanted: Wanted,
    *,
    tile: int | None = None,
) -> None:
    """Predicts and writes every input; a bad one is reported on stderr and the rest go on.

    Args:
        inputs: from `find_inputs`; those that the journal holds are left out.
        journal: of the output folder; finished here, so that shares.json is there.
        wanted: what is written beside the class ids.
        tile: side of the tiles that images are predicted in; None for whole images.
    """
    todo = [item for item in inputs if not journal.done(item)]
    with closing(journal):
        with bar(len(inputs), "predict", "image", initial=len(inputs) - len(todo)) as steps:
            each = (
                _in_tiles(network, todo, journal, wanted, tile)
                if tile
                else _whole(network, todo, journal, wanted)
            )
            for entry in each:
                if "error" in entry:
                    say_above(f"error: {entry['error']}", error=True)
                journal.add(entry)
                steps.update()
        journal.finish(inputs, network.classes.names)


def _in_tiles(
    network: Network, todo: Sequence[Input], journal: Journal, wanted: Wanted, tile: int
) -> Iterator[dict[str, Any]]:
    tiling = network.tiling
    assert tiling is not None
    for item in todo:
        try:
            yield predict_scene(
                item,
                journal,
                wanted,
                run=network.run,
                preprocess=network.preprocess,
                classes=network.classes,
                tiling=tiling,
                tile=tile,
                refinement=network.refinement,
                max_pixels=network.max_pixels,
            )
        except (DataError, OutputError, MemoryError) as error:
            yield _failed(item, error)


def _whole(
    network: Network, todo: Sequence[Input], journal: Journal, wanted: Wanted
) -> Iterator[dict[str, Any]]:
    def read(item: Input) -> _Image:
        return _read(network, item)

    def write(image: _Image) -> dict[str, Any]:
        return _write(network, journal, wanted, image)

    with ThreadPoolExecutor(_READERS) as readers, ThreadPoolExecutor(_WRITERS) as writers:
        images = _ahead(readers, read, todo, 2 * network.batch)
        yield from _ahead(writers, write, _predicted(network, images), 2 * _WRITERS)


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


def _read(network: Network, item: Input) -> _Image:
    try:
        pixels = read_image(item.file, network.preprocess.channels, network.max_pixels)
        network.preprocess.check_range(pixels)
        georeference = None
        if item.file.suffix.lower() in _GEO_SUFFIXES:
            with open_scene(item.file, max_pixels=network.max_pixels) as scene:
                georeference = scene.georeference
        return _Image(item, pixels, network.preprocess(pixels), georeference)
    except (DataError, MemoryError) as error:
        return _Image(item, error=_failed(item, error)["error"])


def _predicted(network: Network, images: Iterable[_Image]) -> Iterator[_Image]:
    """The images with their scores; neighbours of one size together."""
    group: list[_Image] = []
    for image in images:
        if group and (image.error or not _fits(network, group, image)):
            yield from _run(network, group)
            group = []
        if image.error:
            yield image
        else:
            group.append(image)
    if group:
        yield from _run(network, group)


def _fits(network: Network, group: list[_Image], image: _Image) -> bool:
    shape = image.prepared.shape
    pixels = (len(group) + 1) * shape[1] * shape[2]
    return len(group) < network.batch and shape == group[0].prepared.shape and pixels <= _BATCH_PIXELS


def _run(network: Network, group: list[_Image]) -> list[_Image]:
    try:
        scores = network.run(np.stack([image.prepared for image in group]))
    except (DataError, MemoryError) as error:
        for image in group:
            image.error = _failed(image.item, error)["error"]
        return group
    if network.gives == "labels":
        scores = scores.astype(np.uint8 if len(network.classes) <= 256 else np.int32, copy=False)
    for image, own in zip(group, scores):
        image.scores, image.prepared = own, np.empty(0)
    return group


def _write(network: Network, journal: Journal, wanted: Wanted, image: _Image) -> dict[str, Any]:
    item, size = image.item, (image.pixels.shape[0], image.pixels.shape[1] if image.pixels.ndim > 1 else 0)
    if image.error:
        return {"file": str(item.file), "error": image.error}
    try:
        transform = MapTransform.from_georeference(image.georeference)
        refine, gives = network.refinement, network.gives
        refined = refine(image.pixels, image.scores, gives=gives, transform=transform)
        labels, chances = refined.labels, refined.probabilities
        if wanted.probabilities and chances is None:
            chances = refine.probabilities(image.pixels, image.scores, gives=gives)
        stem = journal.folder / item.name
        write_labels(stem, labels, network.classes, image.georeference)
        write_extras(stem, image.pixels, labels, network.classes, wanted, chances)
        write_confidence(stem, chances, wanted, image.georeference)
        write_polygons(stem, item.file, labels, network.classes, wanted, transform)
        counts = np.bincount(labels.ravel(), minlength=len(network.classes))
        return {**summary(item.name, item.file, size, counts, network.classes), "stamp": stamp(item.file)}
    except (DataError, OutputError, MemoryError) as error:
        return _failed(item, error)


def _failed(item: Input, error: BaseException) -> dict[str, Any]:
    message = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        message = "is too large for the memory; use --tile"
    if str(item.file) not in message:
        message = f"image {item.file}: {message}"
    return {"file": str(item.file), "error": message}
