"""A cache changes how often files are decoded, and nothing else."""

import itertools
import os

import numpy as np
import pytest
from PIL import Image

from paddlefcn.data import cache
from paddlefcn.data.cache import CachedDataset
from paddlefcn.data.datasets import ListFile, SegmentationDataset
from paddlefcn.data.images import Normalize
from paddlefcn.data.labels import LabelReader
from paddlefcn.data.loader import TrainLoader
from paddlefcn.data.shapes import Shapes
from paddlefcn.data.transforms import CutMix, RandomCrop, RandomFlip, RandomWarp
from paddlefcn.errors import DataError

KINDS = ["disk", *(["memory"] if hasattr(os, "memfd_create") else [])]
NORMALIZE = Normalize(255, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def files(folder, count=6):
    """Pictures of several sizes."""
    rng = np.random.default_rng(0)
    for index in range(count):
        size = (20 + index, 30 - index)
        Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).save(folder / f"{index}.png")
        Image.fromarray(rng.integers(0, 2, size).astype(np.uint8)).save(folder / f"m{index}.png")
    (folder / "train.txt").write_text("".join(f"{i}.png m{i}.png\n" for i in range(count)))
    return SegmentationDataset(ListFile(folder, "train"), LabelReader(2), 3)


def take(dataset, count=4, **arguments):
    transforms = [RandomWarp([24, 24], degrees=10), CutMix(p=1)]
    stream = TrainLoader(dataset, transforms, NORMALIZE, batch_size=2, seed=3, **arguments).batches()
    batches = list(itertools.islice(stream, count))
    stream.close()
    return batches


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_the_same_from_a_cache(tmp_path, kind, num_workers):
    plain = take(files(tmp_path))
    cached = CachedDataset(files(tmp_path), kind)
    for _ in range(2):
        for one, other in zip(plain, take(cached, num_workers=num_workers)):
            assert one.names == other.names
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.label, other.label)
        for path in tmp_path.glob("*.png"):
            path.unlink()  # the second round cannot read them again


def test_its_size_is_told_once():
    cached = CachedDataset(
        SegmentationDataset(Shapes(size=[64, 64], train_images=8), LabelReader(6), 3), "disk"
    )
    loader = TrainLoader(cached, [RandomFlip()], NORMALIZE, batch_size=2)
    (line,) = loader.prepare()
    assert line.startswith(f"cache: 8 pairs, {8 * 64 * 64 * 4 / 2**20:.1f} MiB on disk in ")
    assert loader.prepare() == []
    assert TrainLoader(cached, [RandomFlip()], NORMALIZE, batch_size=2).prepare() == []


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_behind(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    cached = CachedDataset(
        SegmentationDataset(Shapes(size=[32, 32], train_images=4), LabelReader(6), 3), kind
    )
    cached.fill()
    cached.read(1)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_pair_stops_or_is_skipped_as_without_a_cache(tmp_path):
    dataset = files(tmp_path)
    (tmp_path / "3.png").write_bytes(b"broken")
    cached = CachedDataset(dataset, "disk")
    cached.fill()
    with pytest.raises(DataError, match=r"3\.png: is no image"):
        cached.read(3)
    loader = TrainLoader(cached, [RandomCrop([8, 8])], NORMALIZE, batch_size=6, on_bad_image="skip")
    next(loader.batches())
    assert list(loader.bad) == ["3.png"]


def test_what_does_not_fit_is_refused_before_it_is_tried(monkeypatch):
    dataset = SegmentationDataset(Shapes(size=[64, 64], train_images=400), LabelReader(6), 3)
    if "memory" in KINDS:
        monkeypatch.setattr(cache, "_free_memory", lambda: 2.0**20)
        with pytest.raises(
            DataError, match=r"memory: all 400 pairs take about 6\.0 MiB more, and 1\.0 MiB are free"
        ):
            CachedDataset(dataset, "memory").fill()
    with pytest.raises(ValueError, match="expected memory or disk, got 'ram'"):
        CachedDataset(dataset, "ram")


def test_samples_of_a_cache_cannot_be_overwritten():
    cached = CachedDataset(
        SegmentationDataset(Shapes(size=[32, 32], train_images=4), LabelReader(6), 3), "disk"
    )
    cached.fill()
    image, label = cached.read(2)
    assert not image.flags.writeable
    assert not label.flags.writeable
