"""Batches that depend on the seed alone, and workers that neither hang nor stay."""

import contextlib
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from paddlefcn.data.datasets import ListFile, SegmentationDataset
from paddlefcn.data.images import Normalize, Resize
from paddlefcn.data.labels import LabelReader
from paddlefcn.data.loader import TrainLoader, read_ahead
from paddlefcn.data.shapes import Shapes
from paddlefcn.data.transforms import ClassMix, CopyPaste, CutMix, RandomCrop, RandomFlip, RandomScale
from paddlefcn.data.workers import ordered_map
from paddlefcn.errors import DataError, RunError
from paddlefcn.preprocess import Preprocess

NORMALIZE = Normalize(255, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def shapes(count=7, size=(32, 32)):
    return SegmentationDataset(Shapes(split="train", size=size, train_images=count), LabelReader(6), 3)


def loader(dataset=None, **arguments):
    transforms = [RandomScale([0.5, 2.0]), RandomCrop([24, 24]), RandomFlip()]
    arguments = {"batch_size": 3, "seed": 1, **arguments}
    return TrainLoader(shapes() if dataset is None else dataset, transforms, NORMALIZE, **arguments)


def take(made, count, start=0):
    stream = made.batches(start)
    batches = list(itertools.islice(stream, count))
    stream.close()
    return batches


def assert_equal(ones, others):
    assert len(ones) == len(others)
    for one, other in zip(ones, others):
        assert one.names == other.names
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.label, other.label)


def test_a_batch_has_the_documented_form():
    (batch,) = take(loader(), 1)
    assert batch.image.shape == (3, 3, 24, 24)
    assert batch.image.dtype == np.float32
    assert batch.label.shape == (3, 24, 24)
    assert batch.label.dtype == np.int64
    assert len(batch.names) == 3


def test_workers_and_start_change_nothing():
    expected = take(loader(), 6)
    for num_workers in (1, 2):
        assert_equal(take(loader(num_workers=num_workers), 6), expected)
    assert_equal(take(loader(num_workers=1), 2, start=4), expected[4:])


def test_mixing_changes_nothing_about_workers_and_start():
    mixing = [RandomFlip(), CutMix(p=1), CopyPaste([4, 5], p=0.7), RandomCrop([24, 24]), ClassMix(p=0.7)]

    def made(**arguments):
        return TrainLoader(shapes(), mixing, NORMALIZE, batch_size=3, seed=1, **arguments)

    expected = take(made(), 5)
    assert_equal(take(made(num_workers=2), 5), expected)
    assert_equal(take(made(), 2, start=3), expected[3:])
    parts = [take(made(rank=rank, world_size=3), 1)[0] for rank in range(3)]
    assert [part.names for part in parts] == [batch.names for batch in expected[:3]]
    plain = take(TrainLoader(shapes(), [RandomCrop([24, 24])], NORMALIZE, batch_size=3, seed=1), 1)
    assert (expected[0].label != plain[0].label).any()


def test_a_rare_class_is_pasted_from_the_few_samples_that_hold_it(tmp_path):
    dataset = files(tmp_path, 8)
    for index in range(8):
        Image.fromarray(np.full((10, 12), 0, np.uint8)).save(tmp_path / f"m{index}.png")
    rare = np.zeros((10, 12), np.uint8)
    rare[2:4, 3:6] = 1
    Image.fromarray(rare).save(tmp_path / "m6.png")
    (batch,) = take(TrainLoader(dataset, [CopyPaste([1], p=1)], NORMALIZE, batch_size=8), 1)
    for label in batch.label:
        np.testing.assert_array_equal(label, rare)
    Image.fromarray(np.full((10, 12), 1, np.uint8)).save(tmp_path / "m0.png")
    (tmp_path / "train.txt").write_text("0.png m0.png\n1.png m0.png\n")
    dataset = SegmentationDataset(ListFile(tmp_path, "train"), LabelReader(4), 3)
    with pytest.raises(DataError, match=r"none of the 2 masks holds one of classes \[0, 3\]"):
        TrainLoader(dataset, [CopyPaste([0, 3])], NORMALIZE, batch_size=1).prepare()


def test_a_partner_that_cannot_be_read_is_skipped_or_stops_the_run(tmp_path):
    dataset = files(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"1\.png: is no image"):
        take(TrainLoader(dataset, [CutMix(p=1)], NORMALIZE, batch_size=1), 4)
    made = TrainLoader(dataset, [CutMix(p=1)], NORMALIZE, batch_size=1, on_bad_image="skip")
    assert all("1.png" not in batch.names for batch in take(made, 12))
    assert list(made.bad) == ["1.png"]


def test_another_seed_gives_other_batches():
    assert take(loader(), 1)[0].names != take(loader(seed=2), 1)[0].names


def test_every_epoch_uses_every_sample_once_in_a_new_order_and_augments_anew():
    batches = take(loader(), 7)  # 21 samples: three epochs of 7
    names = [name for batch in batches for name in batch.names]
    epochs = [names[i : i + 7] for i in (0, 7, 14)]
    assert all(len(set(epoch)) == 7 for epoch in epochs)
    assert epochs[0] != epochs[1]
    images = {}
    for batch in batches:
        for name, image in zip(batch.names, batch.image):
            images.setdefault(name, []).append(image)
    assert all((seen[0] != seen[1]).any() for seen in images.values())


def test_a_batch_larger_than_the_data_set_works():
    made = loader(shapes(2), batch_size=5)
    assert made.batches_per_epoch == 1
    assert take(made, 1)[0].image.shape[0] == 5


def test_ranks_share_the_batch_of_one_device():
    whole = take(loader(batch_size=4), 3)
    parts = [take(loader(batch_size=2, rank=rank, world_size=2), 3) for rank in range(2)]
    for number, batch in enumerate(whole):
        assert batch.names == parts[0][number].names + parts[1][number].names
        joined = np.concatenate([part[number].image for part in parts])
        np.testing.assert_array_equal(batch.image, joined)


def files(folder, count=5):
    """A list-file data set of constant pictures 0, 1, …"""
    for index in range(count):
        Image.fromarray(np.full((10, 12, 3), index, np.uint8)).save(folder / f"{index}.png")
        Image.fromarray(np.full((10, 12), index % 2, np.uint8)).save(folder / f"m{index}.png")
    (folder / "train.txt").write_text("".join(f"{i}.png m{i}.png\n" for i in range(count)))
    return SegmentationDataset(ListFile(folder, "train"), LabelReader(2), 3)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_image_stops_with_its_name(tmp_path, num_workers):
    dataset = files(tmp_path)
    (tmp_path / "3.png").write_bytes(b"broken")
    made = TrainLoader(dataset, [], NORMALIZE, batch_size=5, num_workers=num_workers)
    with pytest.raises(DataError, match=r"3\.png: is no image"):
        take(made, 1)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_image_can_be_skipped_and_is_remembered(tmp_path, num_workers):
    dataset = files(tmp_path)
    (tmp_path / "3.png").write_bytes(b"broken")
    made = TrainLoader(dataset, [], NORMALIZE, batch_size=5, num_workers=num_workers, on_bad_image="skip")
    batches = take(made, 3)
    assert all(len(batch.names) == 5 and "3.png" not in batch.names for batch in batches)
    assert list(made.bad) == ["3.png"]
    assert "is no image" in made.bad["3.png"]


def test_skipping_ends_when_nothing_can_be_read(tmp_path):
    dataset = files(tmp_path, 2)
    for path in tmp_path.glob("[0-9].png"):
        path.unlink()
    made = TrainLoader(dataset, [], NORMALIZE, batch_size=1, on_bad_image="skip")
    with pytest.raises(DataError, match="none of the 2 samples"):
        take(made, 1)


def test_samples_of_two_sizes_are_refused_with_the_fix(tmp_path):
    dataset = files(tmp_path, 2)
    for name, mode in (("1.png", "RGB"), ("m1.png", "L")):
        Image.new(mode, (9, 9)).save(tmp_path / name)
    with pytest.raises(DataError, match="add RandomCrop or Resize"):
        take(TrainLoader(dataset, [], NORMALIZE, batch_size=2), 1)


def broken_transform(image, label, rng):
    raise KeyError("oops")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bug_in_a_transform_names_the_picture(num_workers):
    made = TrainLoader(shapes(), [broken_transform], NORMALIZE, batch_size=1, num_workers=num_workers)
    with pytest.raises(RunError, match=r"augmenting train_0000\d failed: KeyError: 'oops'"):
        take(made, 1)


def die(task):
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.zeros(2_000_000, np.uint8)


def test_a_killed_worker_is_an_error_and_not_a_hang():
    with pytest.raises(RunError, match=r"a data worker died \(by signal 9\).*num_workers"):
        for _ in ordered_map(die, range(100), 2):
            pass


def big(task):
    return np.full(8_000_000, task, np.uint8)


def test_closing_early_ends_workers_that_are_in_the_middle_of_a_result():
    for _ in range(2):
        stream = ordered_map(big, itertools.count(), 2)
        assert next(stream)[0] == 0
        assert len(multiprocessing.active_children()) == 2
        stream.close()
        assert multiprocessing.active_children() == []


PARENT = """
import itertools, signal, sys
from paddlefcn.data.workers import ordered_map
from paddlefcn.data.loader import TrainLoader
from paddlefcn.data.datasets import SegmentationDataset
from paddlefcn.data.images import Normalize
from paddlefcn.data.labels import LabelReader
from paddlefcn.data.shapes import Shapes

def main():
    dataset = SegmentationDataset(Shapes(), LabelReader(6), 3)
    made = TrainLoader(dataset, [], Normalize(255, (0, 0, 0), (1, 1, 1)), batch_size=2, num_workers=2)
    stream = made.batches()
    next(stream)
    print("ready", flush=True)
    if sys.argv[1] == "exit":
        return  # with the stream open
    for _ in stream:
        pass

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
    main()
"""


@pytest.fixture
def start_parent(tmp_path):
    """Starts a loading process in a group of its own; what a failed test leaves of it is killed."""
    started = []

    def start(how):
        started.append(_start_parent(tmp_path, how))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()


def _start_parent(tmp_path, how):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    process = subprocess.Popen(
        [sys.executable, str(script), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def group_is_gone(group, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(os.name == "nt", reason="process groups")
def test_a_killed_parent_leaves_no_workers(start_parent):
    process = start_parent("run")
    process.kill()
    process.wait(20)
    assert group_is_gone(process.pid)


@pytest.mark.skipif(os.name == "nt", reason="process groups")
def test_ctrl_c_ends_everything_with_one_traceback(start_parent):
    process = start_parent("run")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to the workers too
    _, err = process.communicate(timeout=30)
    assert err.count("Traceback") == 1
    assert "KeyboardInterrupt" in err
    assert group_is_gone(process.pid)


@pytest.mark.skipif(os.name == "nt", reason="process groups")
def test_an_open_stream_does_not_keep_the_program_from_ending(start_parent):
    process = start_parent("exit")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert err == ""
    assert group_is_gone(process.pid)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_read_ahead_keeps_order_and_the_labels_own_size(num_workers):
    dataset = shapes(5, (20, 30))
    prepare = Preprocess((Resize(short=40),), NORMALIZE)
    items = list(read_ahead(dataset, prepare, num_workers, indices=[4, 0, 2]))
    assert [index for index, *_ in items] == [4, 0, 2]
    for index, image, label, sample in items:
        assert image.shape == (3, 40, 60)
        assert label.shape == (20, 30)
        assert sample == dataset.samples[index]


def test_read_ahead_leaves_out_and_notes_what_cannot_be_read(tmp_path):
    dataset = files(tmp_path, 3)
    (tmp_path / "m1.png").unlink()
    bad = {}
    assert [item[0] for item in read_ahead(dataset, Preprocess((), NORMALIZE), bad=bad)] == [0, 2]
    assert "m1.png: no such file" in bad["1.png"]
    with pytest.raises(DataError, match=r"m1\.png"):
        list(read_ahead(dataset, Preprocess((), NORMALIZE)))


def test_an_empty_split_is_refused():
    dataset = shapes()
    dataset.source.samples = []
    with pytest.raises(DataError, match="no samples"):
        loader(dataset)
