"""Every option of a training together with every other: tiny runs that cover all pairs of values."""

from __future__ import annotations

import itertools
import json
import math

import pytest

from paddlefcn.commands import main
from paddlefcn.losses import LOSSES

CHOICES = {
    "loss": [
        *(f"[{{type: {name}}}]" for name in sorted(LOSSES)),
        "[{type: CrossEntropy, label_smoothing: 0.1, weights: [0.5]}, {type: Dice, weights: [0.5]}]",
        "[{type: CrossEntropy, class_weights: {from: data, rule: effective}}]",
        "[{type: CrossEntropy, reduction: sum, weights: [0.001]}, {type: Dice, per_image: false}]",
    ],
    "schedule": [
        "{type: Poly, learning_rate: 0.05}",
        "{type: Step, learning_rate: 0.05, size: 1, warmup_iters: 1}",
        "{type: Cosine, learning_rate: 0.05, period: 2}",
        "{type: OneCycle, learning_rate: 0.05}",
        "{type: ReduceOnPlateau, learning_rate: 0.05, patience: 0}",
    ],
    "optimizer": [
        "{type: Momentum, clip_norm: 1.0}",
        "{type: AdamW, clip_norm: 1.0}",
        "{type: Adam}",
        "{type: SGD}",
    ],
    "average": ["train.keep=3", "train.ema_decay=0.9", "train.swa_start=2"],
    "train.accumulate": ["1", "2"],
    "train.recompute": ["false", "true"],
    "train.precision": ["fp32", "fp16"],
    "train.freeze": ["[]", "[backbone.conv1_1]"],
    "train.freeze_batch_norm": ["false", "true"],
    "train.early_stop": ["null", "1"],
    "train.sizes": ["[]", "[{until: 1, scale: 0.5}]"],
    "train.on_nan": ["stop", "skip 1"],
    "data.num_workers": ["0", "1"],
    "distillation": ["null", "TEACHER"],
}


def covering(choices):
    """Rows of one value a key that hold every pair of values of two keys, found greedily."""
    keys = list(choices)
    left = {
        (a, x, b, y)
        for a, b in itertools.combinations(keys, 2)
        for x, y in itertools.product(choices[a], choices[b])
    }
    rows = []
    while left:
        row = {}
        a, x, b, y = min(left)
        row[a], row[b] = x, y
        for key in keys:
            if key not in row:
                row[key] = max(choices[key], key=lambda v: len(_pairs({**row, key: v}, keys) & left))
        left -= _pairs(row, keys)
        rows.append(row)
    return rows


def _pairs(row, keys):
    known = [key for key in keys if key in row]
    return {(a, row[a], b, row[b]) for a, b in itertools.combinations(known, 2)}


ROWS = covering(CHOICES)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    from conftest import TINY

    folder = tmp_path_factory.mktemp("teacher")
    recipe = folder / "tiny.yml"
    recipe.write_text(TINY)
    options = ["train.iters=1", f"train.save_dir={folder / 'run'}"]
    assert main(["train", "-c", str(recipe), "-o", *options]) == 0
    return f"{{config: {recipe}, weights: {folder / 'run'}, features: 1.0}}"


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(ROWS)))
def test_every_pair_of_options_trains(tiny, tmp_path, teacher, number):
    row = {key: value.replace("TEACHER", teacher) for key, value in ROWS[number].items()}
    average = row.pop("average")
    options = [*(f"{key}={value}" for key, value in row.items()), average]
    options += ["train.iters=3", "train.eval_iters=1", "train.save_iters=1", "train.swa_batches=2"]
    assert main(["train", *tiny(*options)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["iter"] == 3 or row["train.early_stop"] == "1"
    assert all(math.isfinite(line["loss"]) for line in lines if "loss" in line)


def test_the_rows_cover_every_pair():
    wanted = sum(len(a) * len(b) for a, b in itertools.combinations(CHOICES.values(), 2))
    assert len(set().union(*(_pairs(row, list(CHOICES)) for row in ROWS))) == wanted
    assert len(ROWS) < 80
