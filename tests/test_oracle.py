"""The best label map at an output stride, against cases worked out by hand."""

import numpy as np
import pytest

from paddlefcn.metrics import ConfusionMatrix
from paddlefcn.oracle import best_at_stride


def random_blobs(height=61, width=83, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 4, (8, 11))
    label = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width].astype(np.uint8)
    return np.roll(label, 3, axis=1)


@pytest.mark.parametrize("method", ["area", "nearest"])
def test_stride_1_loses_nothing(method):
    label = random_blobs()
    np.testing.assert_array_equal(best_at_stride(label, 1, method=method), label)


@pytest.mark.parametrize("method", ["area", "nearest"])
def test_the_best_score_falls_with_the_stride(method):
    label = random_blobs()
    found = []
    for stride in (1, 4, 16, 100):
        matrix = ConfusionMatrix(4)
        matrix.update(best_at_stride(label, stride, method=method), label)
        found.append(matrix.scores().mean_iou)
    assert found == sorted(found, reverse=True)
    assert found[0] == 1
    assert found[-1] < 0.3


def test_a_cell_takes_its_most_frequent_class_and_a_thin_line_vanishes():
    label = np.zeros((8, 8), np.uint8)
    label[:, 3] = 1
    assert not best_at_stride(label, 8).any()
    assert not best_at_stride(label, 4).any()


def test_shares_are_enlarged_bilinearly_between_cell_centres():
    label = np.array([[5] * 4 + [9] * 4], np.uint8)
    # centres at 1.5 and 5.5: the two classes are equal at 3.5, the lower id wins there
    assert best_at_stride(label, 4).tolist() == [[5] * 4 + [9] * 4]
    label[0, 3] = 9
    # shares of 5: 3/4 and 0, so 5 wins while 3/4 (1 - t) > 1/2, t = (x - 1.5) / 4
    assert best_at_stride(label, 4).tolist() == [[5] * 3 + [9] * 5]


@pytest.mark.parametrize("method", ["area", "nearest"])
def test_void_has_no_share_and_is_never_predicted(method):
    label = np.full((6, 6), 255, np.uint8)
    label[5, 5] = 7
    assert (best_at_stride(label, 6, method=method) == 7).all()
    void = np.full((3, 3), 255, np.uint8)
    assert (best_at_stride(void, 2, method=method) == 255).all()


def test_nearest_takes_the_class_at_the_cells_centre():
    label = np.zeros((4, 4), np.uint8)
    label[2, 2] = 3
    assert (best_at_stride(label, 4, method="nearest") == 3).all()


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        best_at_stride(np.zeros((2, 2), np.uint8), 0)
    with pytest.raises(ValueError, match="area, nearest"):
        best_at_stride(np.zeros((2, 2), np.uint8), 2, method="cubic")
