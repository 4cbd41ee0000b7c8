"""Splits by group, stratified, in folds; and a split that is taken up again as it was."""

import collections

import numpy as np
import pytest
from PIL import Image

from paddlefcn.data.datasets import Folder, Sample
from paddlefcn.data.splits import HeldOut, restore_split
from paddlefcn.errors import DataError

NAMES = [
    f"site{site}/patient{patient}_{image}" for site in range(4) for patient in range(5) for image in range(3)
]
SAMPLES = [Sample(name, None, None) for name in NAMES]


def parts(held_out, samples=SAMPLES, values=None):
    train, val = (held_out.take(samples, split, values) for split in ("train", "val"))
    names = [{s.name for s in part} for part in (train, val)]
    assert not names[0] & names[1]
    assert names[0] | names[1] == {s.name for s in samples}
    return names


@pytest.mark.parametrize(
    ("group_by", "key"),
    [
        ("folder", lambda name: name.split("/")[0]),
        ("prefix", lambda name: name.split("/")[1].split("_")[0]),
        (r"(patient\d)_", lambda name: name.split("/")[1].split("_")[0]),
        (r"site\d/patient\d", lambda name: name.split("_")[0]),
    ],
)
@pytest.mark.parametrize("more", [{}, {"folds": 4, "fold": 2}, {"seed": 7}])
def test_no_group_stands_on_both_sides(group_by, key, more):
    train, val = parts(HeldOut(0.25, group_by=group_by, **more))
    assert val
    assert not {key(name) for name in train} & {key(name) for name in val}


def test_folds_are_disjoint_and_cover_everything():
    folds = [parts(HeldOut(folds=5, fold=fold))[1] for fold in range(5)]
    assert [len(fold) for fold in folds] == [12] * 5
    assert len(set().union(*folds)) == len(NAMES)


def test_a_rare_class_stands_in_every_part():
    rng = np.random.default_rng(0)
    classes = [{0, *(1 + rng.choice(3, 1))} if i % 12 else {0, 9} for i in range(60)]  # 9 in five images
    for seed in range(10):
        held = [
            parts(HeldOut(folds=5, fold=f, seed=seed, stratify=True), values=classes.__getitem__)[1]
            for f in range(5)
        ]
        counts = [
            collections.Counter(v for name in fold for v in classes[NAMES.index(name)]) for fold in held
        ]
        assert [count[9] for count in counts] == [1] * 5
        for value in (1, 2, 3):
            assert max(c[value] for c in counts) - min(c[value] for c in counts) <= 2


def test_a_folder_is_split_by_what_its_masks_hold(tmp_path):
    for index in range(20):
        for kind in ("images", "labels"):
            (tmp_path / kind).mkdir(exist_ok=True)
            value = 1 if kind == "labels" and index < 4 else 0
            Image.new("L", (4, 4), value).save(tmp_path / kind / f"{index:02}.png")
    for seed in range(5):
        val = Folder(tmp_path, "val", val_fraction=0.25, seed=seed, stratify=True).samples
        assert len(val) == 5
        assert sum(int(sample.name) < 4 for sample in val) == 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"folds": 1}, "folds: expected 2"),
        ({"folds": 5, "fold": 5}, "fold: expected 0 to 4 .*counts from 0"),
        ({"fold": 1}, "fold: expected 0 to 0"),
        ({"group_by": "("}, "no regular expression"),
        ({"val_fraction": 1}, "val_fraction"),
    ],
)
def test_arguments_that_make_no_split_are_refused(arguments, part):
    with pytest.raises(ValueError, match=part):
        HeldOut(**arguments)


def test_too_few_groups_and_names_without_one_are_refused():
    with pytest.raises(DataError, match="4 groups by 'folder'; 5 are needed"):
        HeldOut(folds=5, group_by="folder").take(SAMPLES, "val")
    with pytest.raises(DataError, match=r"patient0_0: data\.group_by 'x' matches nothing"):
        HeldOut(group_by="x").take(SAMPLES, "val")


def test_a_split_stays_what_it_was_when_images_are_added_and_refuses_when_one_is_gone(tmp_path):
    def add(name):
        for kind in ("images", "labels"):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.new("L", (4, 4)).save(tmp_path / kind / f"{name}.png")

    def both():
        return {split: Folder(tmp_path, split) for split in ("train", "val")}

    for index in range(12):
        add(f"b{index}")
    lists = {split: [s.name for s in source.samples] for split, source in both().items()}
    add("a")
    add("c")
    grown = both()
    assert {split: [s.name for s in source.samples] for split, source in grown.items()} != lists
    assert restore_split(grown, lists) == ["a", "c"]
    assert {split: [s.name for s in source.samples] for split, source in grown.items()} == lists
    (tmp_path / "images/b3.png").unlink()
    with pytest.raises(DataError, match="b3: was in this run's split and is gone"):
        restore_split(both(), lists)
