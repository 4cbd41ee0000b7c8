"""`plot-schedule` as a user runs it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from paddlefcn.commands import main


def _pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize(
    "schedule",
    [
        "{type: Step, learning_rate: 0.1, size: 3}",
        "{type: Cosine, learning_rate: 0.1, period: 2, factor: 2.0}",
        "{type: OneCycle, learning_rate: 0.1}",
        "{type: ReduceOnPlateau, learning_rate: 0.1}",
    ],
)
def test_a_schedule_is_drawn_and_summed_up(tiny, tmp_path, capsys, schedule):
    target = tmp_path / "rates.png"
    assert main(["plot-schedule", *tiny(f"schedule={schedule}"), "--output", str(target)]) == 0
    told = capsys.readouterr().out
    assert "8 iterations, first " in told
    assert ("follows the scores" in told) == ("Plateau" in schedule)
    assert len(np.unique(_pixels(target).reshape(-1, 3), axis=0)) > 10


def test_epochs_are_counted_on_the_data_set(tiny, tmp_path, capsys):
    options = tiny("train.iters=null", "train.epochs=3", "train.accumulate=2")
    assert main(["plot-schedule", *options, "--output", str(tmp_path / "a.png")]) == 0
    assert "6 iterations" in capsys.readouterr().out  # 8 images in batches of 2, two of them a step


def test_a_file_that_stands_there_is_not_replaced_without_being_asked(tiny, tmp_path, capsys):
    target = tmp_path / "rates.png"
    target.write_text("mine")
    assert main(["plot-schedule", *tiny(), "--output", str(target)]) == 2
    assert "exists; choose another or --overwrite" in capsys.readouterr().err
    assert target.read_text() == "mine"
    assert main(["plot-schedule", *tiny(), "--output", str(target), "--overwrite"]) == 0
    assert _pixels(target).size


def test_values_that_cannot_be_right_are_one_line_with_the_keys_path(tiny, tmp_path, capsys):
    options = tiny("schedule={type: Cosine, learning_rate: 0.1, period: 0}")
    assert main(["plot-schedule", *options, "--output", str(tmp_path / "a.png")]) == 2
    error = capsys.readouterr().err
    assert "schedule: period 0: expected 1 iteration or more" in error
    assert error.count("\n") == 1
