"""Class weights from data: each rule by hand, and how they reach a run."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from paddlefcn import build
from paddlefcn.class_weights import count_classes, read_counts
from paddlefcn.commands import main
from paddlefcn.config import load_config
from paddlefcn.losses.class_weights import ClassCounts, class_weights

COUNTS = ClassCounts(pixels=(600, 300, 0, 100), together=(1000, 800, 0, 400))


def test_inverse_makes_every_class_weigh_the_same():
    assert class_weights(COUNTS, "inverse") == pytest.approx([1000 / 1800, 1000 / 900, 0, 1000 / 300])


def test_log_is_enets():
    expected = [1 / math.log(1.02 + share) if share else 0 for share in (0.6, 0.3, 0, 0.1)]
    assert class_weights(COUNTS, "log") == pytest.approx(expected)


def test_median_divides_by_the_frequency_in_the_images_that_hold_the_class():
    # frequencies 0.6, 0.375, 0.25: the median is 0.375
    assert class_weights(COUNTS, "median") == pytest.approx([0.375 / 0.6, 1, 0, 1.5])


def test_effective_counts_overlapping_samples_once():
    raw = np.array([(1 - 0.99) / (1 - 0.99**n) for n in (600, 300, 100)])
    expected = raw / raw.mean()
    found = class_weights(COUNTS, "effective", 0.99)
    assert found == pytest.approx([expected[0], expected[1], 0, expected[2]])
    assert class_weights(COUNTS, "effective", 0.0) == [1, 1, 0, 1]
    assert class_weights(ClassCounts((10**12, 1), (1, 1)), "effective")[1] == pytest.approx(2)


def test_a_split_without_labels_has_no_weights():
    with pytest.raises(ValueError, match="no pixel of the training split is labelled"):
        class_weights(ClassCounts((0, 0), (0, 0)), "inverse")


RULE = "loss=[{type: CrossEntropy, class_weights: {from: data, rule: median}}]"


@pytest.mark.parametrize("workers", [0, 1])
def test_masks_are_counted_without_void(tiny, workers):
    config = load_config(tiny()[1], tiny()[3:])
    dataset = build.build_dataset(config, "train")
    counts = count_classes(dataset, num_workers=workers)
    labels = [dataset.read(index)[1] for index in range(len(dataset))]
    for c in range(6):
        assert counts.pixels[c] == sum((label == c).sum() for label in labels)
        assert counts.together[c] == sum((label != 255).sum() for label in labels if (label == c).any())


def test_a_run_keeps_the_counts_and_takes_their_weights(tiny, tmp_path, capsys):
    assert main(["train", *tiny(RULE)]) == 0
    told = capsys.readouterr().out
    counts = read_counts(tmp_path / "run")
    weights = class_weights(counts, "median")
    kept = json.loads((tmp_path / "run" / "class_weights.json").read_text())
    assert kept["weights"] == {"loss.0.class_weights": weights}
    assert f"class weights by median: background {weights[0]:.3g}, disk" in told
    given = tmp_path / "given"
    options = tiny(f"loss=[{{type: CrossEntropy, class_weights: {weights}}}]", f"train.save_dir={given}")
    assert main(["train", *options]) == 0
    lines = [(folder / "metrics.jsonl").read_text() for folder in (tmp_path / "run", given)]
    assert lines[0] == lines[1]


def test_a_resumed_run_keeps_the_counts_it_started_with(tiny, tmp_path):
    options = tiny(RULE)
    assert main(["train", *options, "train.iters=4"]) == 0
    file = tmp_path / "run" / "class_weights.json"
    kept = json.loads(file.read_text())
    kept["counts"]["pixels"][0] *= 100
    file.write_text(json.dumps(kept))
    assert main(["train", *options, "--resume"]) == 0
    assert json.loads(file.read_text())["counts"] == kept["counts"]


def test_without_counts_a_rule_gives_no_weights(tiny):
    config = load_config(tiny()[1], [*tiny()[3:], RULE])
    assert build.build_losses(config, build.build_model(config)).entries[0].loss.class_weights is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{from: data, rule: medain}", "loss.0.class_weights.rule: expected one of inverse, log"),
        ("{from: data}", "loss.0.class_weights.rule: expected one of inverse, log"),
        ("{from: masks, rule: log}", "loss.0.class_weights.from: expected data, got text 'masks'"),
        ("[0, 0, 0, 0, 0, 0]", "expected one factor of 0 or more a class, not all of them 0"),
        ("{from: data, role: log}", "loss.0.class_weights: unknown key 'role'; did you mean 'rule'?"),
        ("{from: data, rule: log, beta: 0.9}", "loss.0.class_weights.beta: 0 or more and less than 1, of"),
        ("{from: data, rule: effective, beta: 1.5}", "loss.0.class_weights.beta: 0 or more and less"),
    ],
)
def test_wrong_rules_are_one_line(tiny, tmp_path, capsys, value, message):
    assert main(["train", *tiny(f"loss=[{{type: CrossEntropy, class_weights: {value}}}]")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
