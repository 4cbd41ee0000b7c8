"""Small components against a flood fill written out."""

import numpy as np
import pytest

from paddlefcn.refine import components as module
from paddlefcn.refine.components import components, remove_small, remove_small_by_windows


def drawn(*rows):
    return np.array([[int(char) if char != "x" else 255 for char in row] for row in rows], np.uint8)


def flood(labels):
    """The components by walking from pixel to pixel: [(class, set of pixels)]."""
    left, found = set(np.ndindex(labels.shape)), []
    while left:
        start = min(left)
        part, todo = {start}, [start]
        while todo:
            row, col = todo.pop()
            for place in ((row + 1, col), (row - 1, col), (row, col + 1), (row, col - 1)):
                if place in left and place not in part and labels[place] == labels[start]:
                    part.add(place)
                    todo.append(place)
        left -= part
        found.append((int(labels[start]), part))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_components_are_those_of_a_flood_fill(seed):
    labels = np.random.default_rng(seed).integers(0, 3, (13, 17)).astype(np.uint8)
    parts = components(labels)
    wanted = flood(labels)
    assert len(parts.areas) == len(wanted)
    for label, pixels in wanted:
        (component,) = {int(parts.index[place]) for place in pixels}
        assert (parts.classes[component], parts.areas[component]) == (label, len(pixels))


def test_a_speck_goes_and_a_hole_is_filled():
    labels = drawn("0000000", "0111110", "0101110", "0111110", "0000000", "0000020", "0000000")
    wanted = drawn("0000000", "0111110", "0111110", "0111110", "0000000", "0000000", "0000000")
    assert (remove_small(labels, 2) == wanted).all()
    assert remove_small(labels, 1) is labels


def test_a_small_component_takes_the_class_with_the_longest_common_border():
    labels = drawn("1112222", "1113222", "1112222")
    assert remove_small(labels, 2)[1, 3] == 2  # three sides of 2, one of 1


def test_a_hole_within_a_speck_goes_with_it():
    labels = np.zeros((12, 12), np.uint8)
    labels[3:8, 3:8] = 1
    labels[4:7, 4:7] = 2
    labels[5, 5] = 1
    assert (remove_small(labels, 30) == 0).all()


def test_diagonal_neighbours_are_two_components():
    assert (remove_small(drawn("0000", "0100", "0010", "0000"), 2) == 0).all()


def test_unlabelled_pixels_stay_and_give_no_class():
    labels = drawn("000000", "0xxx00", "0x1x00", "0xxx00", "000x20")
    assert (remove_small(labels, 3) == drawn("000000", "0xxx00", "0x1x00", "0xxx00", "000x00")).all()


def test_an_image_of_small_components_alone_stays():
    labels = drawn("12", "34")
    assert (remove_small(labels, 100) == labels).all()
    assert remove_small(np.zeros((0, 3), np.uint8), 9).shape == (0, 3)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_small_is_left_and_nothing_large_has_changed(seed):
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 3, (6, 6)), np.ones((8, 8), int))
    labels = np.where(rng.random(labels.shape) < 0.2, rng.integers(0, 3, labels.shape), labels).astype(
        np.int32
    )
    cleaned = remove_small(labels, 20)
    assert cleaned.dtype == labels.dtype
    assert min(len(pixels) for _, pixels in flood(cleaned)) >= 20
    for label, pixels in flood(labels):
        if len(pixels) >= 20:
            assert {int(cleaned[place]) for place in pixels} == {label}


@pytest.mark.parametrize("seed", range(3))
def test_by_windows_is_as_at_once(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 3, (8, 9)), np.ones((9, 9), int))
    labels = np.where(rng.random(labels.shape) < 0.1, rng.integers(0, 3, labels.shape), labels).astype(
        np.uint8
    )
    monkeypatch.setattr(module, "_CORE", 24)
    found = np.empty_like(labels)
    remove_small_by_windows(labels, found, 15, 255)
    assert (found == remove_small(labels, 15)).all()


def test_a_component_that_leaves_its_window_is_not_small():
    labels = np.zeros((6, 30), np.uint8)
    labels[2, 3:28] = 1
    out = remove_small(labels[:, 2:12], 20, open_sides=(False, False, True, True))
    assert (out == labels[:, 2:12]).all()
    assert (remove_small(labels[:, 2:12], 20) == 0).all()
