"""Annotation files that are cut, flipped and rewritten at random: a mask or one readable line, never more."""

import copy
import json
import re

import numpy as np
import pytest

from paddlefcn.data import DATASETS
from paddlefcn.data.datasets import SegmentationDataset
from paddlefcn.data.labels import LabelReader
from paddlefcn.errors import DataError

from . import writers

JUNK = [
    *(None, True, 0, -1, 3, 1.5, 1e308, -1e308, float("nan"), float("inf"), 10**30, 1 << 40, 999999),
    *("", "x", "\0", "../../../../etc/passwd", "a" * 5000, "5", "é\u202e\x1b[31m", [], {}, [[]], [None] * 3),
    *([1, 2], [[1, 2]] * 3, {"size": [1, 1], "counts": "0"}, [[0, 0], [1e9, 0], [0, 1e9]], {"id": 1}),
    *([[0, 0, 64, 0, 64, 48]], {"counts": [1 << 60, 1], "size": [48, 64]}, {"exterior": [], "interior": 3}),
]
FILES = {
    "LabelMe": ("a.json", "b.json"),
    "COCO": ("annotations.json",),
    "CVAT": ("annotations.xml",),
    "CVATMasks": ("labelmap.txt",),
    "YOLOSeg": ("labels/train/a.txt", "data.yaml"),
    "Supervisely": ("ds/ann/a.jpg.json", "meta.json"),
}


def nodes(tree, found=None):
    """(container, key) of every value of a JSON tree."""
    found = [] if found is None else found
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        found.append((tree, key))
        nodes(value, found)
    return found


def rewritten(text, rng):
    """JSON with one to three values replaced, taken out or doubled."""
    tree = copy.deepcopy(json.loads(text))
    for _ in range(int(rng.integers(1, 4))):
        places = nodes(tree)
        container, key = places[int(rng.integers(len(places)))] if places else ([0], 0)
        action = int(rng.integers(4))
        if action == 0:
            del container[key]
        elif action == 1 and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            container[key] = JUNK[int(rng.integers(len(JUNK)))]
    return json.dumps(tree).encode()


def with_junk(text, rng):
    """Some numbers or words of a text replaced."""

    def replace(match):
        return str(JUNK[int(rng.integers(len(JUNK)))]) if rng.random() < 0.05 else match[0]

    return re.sub(r"[\d.]+|\w+", replace, text).encode("utf-8", "replace")


def mutated(content, name, rng):
    kind = int(rng.integers(4))
    data = bytearray(content)
    if kind == 0:
        return bytes(data[: int(rng.integers(0, len(data)))])
    if kind == 1:
        for _ in range(int(rng.integers(1, 12))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        return bytes(data)
    if name.endswith(".json") and kind == 2:
        return rewritten(content.decode(), rng)
    return with_junk(content.decode(), rng)


def read_everything(root, kind):
    for classes in (writers.CLASSES, None):
        for split in ("train", "val"):
            source = DATASETS[kind](root, split, classes=classes)
            dataset = SegmentationDataset(
                source, LabelReader(max(2, len(source.classes)), max_pixels=1 << 22)
            )
            for index in range(len(dataset)):
                dataset.read_mask(index)
                dataset.read(index)


def fuzz(root, cases, seed):
    """How many of the cases were refused."""
    rng = np.random.default_rng(seed)
    for kind, write in writers.WRITERS.items():
        write(root / kind)
    refused = 0
    for case in range(cases):
        kind = list(FILES)[case % len(FILES)]
        name = FILES[kind][int(rng.integers(len(FILES[kind])))]
        path = root / kind / name
        content = path.read_bytes()
        path.write_bytes(mutated(content, name, rng))
        try:
            read_everything(root / kind, kind)
        except DataError as error:
            line = str(error)
            assert "\n" not in line, (kind, case, line)
            assert len(line) < 1500, (kind, case, line)
            refused += 1
        except Exception as error:
            raise AssertionError(
                f"{kind} case {case} of seed {seed}: {type(error).__name__}: {error}"
            ) from error
        finally:
            path.write_bytes(content)
    return refused


def test_fuzzed_annotation_files_are_masks_or_one_line(tmp_path):
    assert 60 < fuzz(tmp_path, 150, 0) <= 150


@pytest.mark.slow
def test_two_thousand_fuzzed_annotation_files_are_masks_or_one_line(tmp_path):
    assert 800 < fuzz(tmp_path, 2000, 1) <= 2000
