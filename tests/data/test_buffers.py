"""Memory goes round, and never while somebody holds it."""

import pickle

import numpy as np

from paddlefcn.data.buffers import Buffers


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_that_nobody_holds_is_used_again():
    buffers = Buffers()
    first = buffers.empty((4, 3), np.float32)
    first[:] = 7
    place = address(first)
    second = buffers.empty((4, 3), np.float32)
    assert address(second) != place
    part = first[1:][:, ::2]
    del first
    assert address(buffers.empty((4, 3), np.float32)) != place  # a view of it is still held
    assert (part == 7).all()
    del part
    third = buffers.empty((2, 3), np.int64)  # as many bytes
    assert third.dtype == np.int64
    assert third.flags.writeable
    assert third.flags.c_contiguous
    seen = {address(third), address(buffers.empty((4, 3), np.float32))}
    assert place in seen


def test_memory_of_another_size_is_let_go():
    buffers = Buffers()
    buffers.empty((4, 3), np.float32)
    assert len(buffers._free) == 1
    held = buffers.empty((8, 3), np.float32)
    assert len(buffers._free) == 0
    assert len(pickle.loads(pickle.dumps(buffers))._free) == 0
    del held


def test_batches_that_are_held_stay_as_they_are():
    from paddlefcn.data.datasets import SegmentationDataset
    from paddlefcn.data.images import Normalize
    from paddlefcn.data.labels import LabelReader
    from paddlefcn.data.loader import TrainLoader
    from paddlefcn.data.shapes import Shapes

    dataset = SegmentationDataset(Shapes(size=[32, 32], train_images=8), LabelReader(6), 3)
    loader = TrainLoader(dataset, [], Normalize(255, (0.5,) * 3, (0.5,) * 3), batch_size=2)
    stream = loader.batches()
    held = [next(stream) for _ in range(4)]
    again = loader.batches()
    for batch in held:
        other = next(again)
        np.testing.assert_array_equal(batch.image, other.image)
        np.testing.assert_array_equal(batch.label, other.label)
        assert batch.label.dtype == np.int64
    assert len({address(batch.image) for batch in held}) == 4
