"""The generated data set: the same for one seed, and worth learning."""

import numpy as np

from paddlefcn.data.labels import LabelReader
from paddlefcn.data.shapes import VOID, Shapes
from paddlefcn.metrics import ConfusionMatrix


def read(source, index):
    return source.read_raw(index, 3, LabelReader(6))


def test_an_image_depends_on_seed_split_and_index_alone():
    first = read(Shapes(split="train", size=[40, 56], train_images=9), 7)
    again = read(Shapes(split="train", size=[40, 56], train_images=8), 7)
    assert first[0].shape == (40, 56, 3)
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one, other)
    for changed in ({"split": "val"}, {"split": "train", "seed": 1}):
        other = read(Shapes(size=[40, 56], **changed), 7)
        assert (other[0] != first[0]).any()


def test_all_classes_and_void_borders_are_there():
    source = Shapes(split="train")
    masks = np.stack([read(source, index)[1] for index in range(20)])
    shares = np.bincount(masks.ravel(), minlength=256) / masks.size
    assert (shares[:6] > 0.01).all()
    assert 0.02 < shares[VOID] < 0.15
    assert shares[6:VOID].sum() == 0


def test_one_class_everywhere_scores_under_a_third():
    source = Shapes(split="val")
    matrices = [ConfusionMatrix(6) for _ in range(6)]
    for index in range(20):
        label = read(source, index)[1]
        for guess, matrix in enumerate(matrices):
            matrix.update(np.full_like(label, guess), label)
    assert max(matrix.scores().mean_iou for matrix in matrices) < 0.3


def test_striped_and_checked_differ_by_texture_only():
    source = Shapes(split="train")
    sums, counts = np.zeros((6, 3)), np.zeros(6)
    for index in range(60):
        image, mask = read(source, index)
        for kind in range(6):
            sums[kind] += image[mask == kind].sum(axis=0)
            counts[kind] += (mask == kind).sum()
    means = sums / counts[:, None]
    assert np.abs(means[4] - means[5]).max() < 8
    assert np.abs(means[4] - means[2]).max() > 40
