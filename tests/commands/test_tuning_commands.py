"""calibrate and tune-crf as a user runs them, on a tiny network."""

import json

import pytest
from test_predict_commands import arguments
from test_refine_commands import made  # noqa: F401  (a fixture)

from paddlefcn import tuning
from paddlefcn.commands import main


def run(command, folder, *more):
    return main(arguments(command, folder, *more))


def test_calibrate_prints_a_temperature_and_writes_table_and_picture(made, tmp_path, capsys):  # noqa: F811
    assert run("calibrate", made, "--output", tmp_path / "out") == 0
    out = capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "calibration.json").read_text(encoding="utf-8"))
    assert f"-o refine.temperature={found['temperature']:.4f}" in out
    assert (found["fitted_on"], found["measured_on"]) == (3, 3)
    assert found["before"]["pixels"] == found["after"]["pixels"] <= 3 * 40 * 56
    assert found["after"]["nll"] < found["before"]["nll"]  # random weights are overconfident on any image
    assert (tmp_path / "out" / "reliability.png").read_bytes()[:4] == b"\x89PNG"


def test_tune_crf_prints_every_trial_and_the_lines_for_the_recipe(made, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(tuning, "GRID", {"bilateral_weight": (1, 6), "smooth_weight": (0, 3)})
    assert run("tune-crf", made, "--images", 4, "--json", tmp_path / "t.json") == 0
    out = capsys.readouterr().out
    found = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert len(found["trials"]) >= 4
    assert (found["searched_on"], found["measured_on"]) == (2, 2)
    best = max(found["trials"], key=lambda trial: trial[1])
    assert best[1] == max(score for _, score in found["trials"])
    assert found["settings"] in [settings for settings, score in found["trials"] if score == best[1]]
    assert "in the recipe:   refine: {crf: {" in out
    line = out[out.index("refine: {crf") :].splitlines()[0]
    from paddlefcn.yaml_files import parse_yaml

    assert parse_yaml(line, "the line")["refine"]["crf"] == pytest.approx(found["settings"])


@pytest.mark.parametrize(
    ("command", "words", "expected"),
    [
        ("calibrate", ["--pixels", "0"], "--pixels 0: expected 1 or more"),
        ("calibrate", ["--seed", "-1"], "--seed -1: expected 0 or more"),
        ("calibrate", ["--split", "nowhere"], "split"),
        ("tune-crf", ["--images", "1"], "--images 1: expected 2 or more"),
        ("tune-crf", ["--json", "."], "is a folder; give a file"),
    ],
)
def test_wrong_values_give_one_line(made, capsys, command, words, expected):  # noqa: F811
    assert run(command, made, *words) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
