"""How two recipes differ."""

from __future__ import annotations

from paddlefcn.config.compare import differences


def test_recipes_differ_in_the_keys_that_stand_in_one_or_hold_something_else():
    one = {"train": {"iters": 8, "seed": 0}, "loss": [{"type": "CrossEntropy"}], "data": {"palette": None}}
    other = {"train": {"iters": 9, "seed": 0}, "loss": [{"type": "Dice"}], "data": {"root": "x"}}
    found = differences(one, other)
    assert [each.key for each in found] == ["train.iters", "loss", "data.root"]
    assert found[0].describe() == "train.iters: 8, here 9"
    assert found[2].describe() == "data.root: not given, here 'x'"
    assert [each.key for each in differences(one, other, ["train.iters", "data"])] == ["loss"]
    assert differences(one, one) == []
