"""Scenes larger than memory: windows side by side for scoring, at random places in training."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile

from paddlefcn.data.checks import quick_look
from paddlefcn.data.datasets import Scenes, SegmentationDataset
from paddlefcn.data.images import Normalize
from paddlefcn.data.labels import LabelReader
from paddlefcn.data.loader import TrainLoader
from paddlefcn.data.report import check
from paddlefcn.errors import DataError


@pytest.fixture
def scene(tmp_path):
    """A scene of 100x130 whose pixels say where they are, and a mask that agrees with it."""
    rows, columns = np.indices((100, 130))
    image = np.stack([rows, columns, (rows // 10 + columns // 10) % 3], 2).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(32, 32), compression="lzw", photometric="rgb")
    tifffile.imwrite(tmp_path / "m.tif", image[:, :, 2], tile=(16, 16), compression="deflate")
    for split in ("train", "val"):
        (tmp_path / f"{split}.txt").write_text("a.tif m.tif\n")
    return tmp_path


def dataset(root, split="val", window=(48, 64)):
    return SegmentationDataset(Scenes(root, split, window=window), LabelReader(3), 3, max_pixels=5000)


def test_the_windows_of_a_split_cover_every_pixel_once(scene):
    made = dataset(scene)
    seen = np.zeros((100, 130), int)
    for index in range(len(made)):
        image, label = made.read(index)
        seen[image[:, :, 0], image[:, :, 1]] += 1
        np.testing.assert_array_equal(label, image[:, :, 2])
    assert (seen == 1).all()
    assert made.samples[4].name == "a.tif@48,64"


def test_training_draws_other_places_in_every_epoch_and_the_same_ones_again(scene):
    made = dataset(scene, "train")

    def corners(seed):
        loader = TrainLoader(made, [], Normalize(1.0, (0.0,) * 3, (1.0,) * 3), batch_size=1, seed=seed)
        batches = loader.batches()
        drawn = [next(batches) for _ in range(3 * len(made))]
        for batch in drawn:
            assert batch.label.shape == (1, 48, 64)
            np.testing.assert_array_equal(batch.label, batch.image[:, 2])
        return [tuple(batch.image[0, :2, 0, 0]) for batch in drawn]

    first = corners(0)
    assert len(set(first)) > 20
    assert corners(0) == first
    assert corners(1) != first


def test_a_scene_smaller_than_the_window_is_one_sample(scene):
    made = dataset(scene, window=(500, 70))
    assert len(made) == 2
    assert made.read(1)[0].shape == (100, 60, 3)
    image, _ = made.read(0, np.random.default_rng(0))
    assert image.shape == (100, 70, 3)


def test_checks_read_scenes_by_windows(scene):
    assert quick_look(dataset(scene), ["a", "b", "c"]) == []
    report = check({"val": dataset(scene)}, ["a", "b", "c"])
    assert report.faults == []
    assert report.splits[0].class_pixels.sum() == 100 * 130


def test_a_mask_of_another_size_is_refused_at_once(scene):
    tifffile.imwrite(scene / "m.tif", np.zeros((100, 129), np.uint8), tile=(16, 16))
    with pytest.raises(DataError, match=r"m\.tif: is 100x129, its image .*a\.tif is 100x130"):
        dataset(scene)
    (scene / "m.tif").unlink()
    with pytest.raises(DataError, match=r"m\.tif: no such file"):
        dataset(scene)


BIG = """
import resource, sys, time
import numpy as np
from paddlefcn.data.datasets import Scenes, SegmentationDataset
from paddlefcn.data.images import Normalize
from paddlefcn.data.labels import LabelReader
from paddlefcn.data.loader import TrainLoader
from paddlefcn.data.tiff_writer import TiffWriter
root, side = sys.argv[1], int(sys.argv[2])
for name, channels in (("a", 3), ("m", 1)):
    with TiffWriter(f"{root}/{name}.tif", side, side, channels=channels, tile=512) as out:
        for top in range(0, side, 512):
            rows = np.full((min(512, side - top), side, channels), top // 512 % 3, np.uint8)
            out.write_rows(rows)
open(f"{root}/train.txt", "w").write("a.tif m.tif\\n")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
dataset = SegmentationDataset(Scenes(root, "train", window=[512, 512]), LabelReader(3), 3)
loader = TrainLoader(dataset, [], Normalize(255.0, (0.5,) * 3, (0.5,) * 3), batch_size=4, seed=0)
batches = loader.batches()
start = time.perf_counter()
for _ in range(20):
    batch = next(batches)
took = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(before // 1024, peak // 1024, round(80 / took, 1), len(dataset))
"""


@pytest.mark.slow
def test_training_windows_of_a_scene_of_20000_by_20000_take_little_memory(tmp_path):
    done = subprocess.run([sys.executable, "-c", BIG, str(tmp_path), "20000"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, peak, _, windows = (float(word) for word in done.stdout.split())
    assert windows == 1600
    assert max(before, peak) < 400  # MB; the scene alone has 1,144
