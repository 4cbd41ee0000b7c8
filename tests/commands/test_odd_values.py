"""Values and names that ended in a traceback, or ended the process, once: each by name is one line."""

from __future__ import annotations

import json
import os
import shutil
import struct

import numpy as np
import pytest
import yaml
from conftest import TINY
from PIL import Image

from paddlefcn import build
from paddlefcn.commands import main
from paddlefcn.config import load_config
from paddlefcn.data.download import download
from paddlefcn.errors import ConfigError, DataError

NO_SUCH_NAMES = pytest.mark.skipif(os.name == "nt", reason="no such names on Windows")
ODD_NAME = os.fsdecode(b"caf\xe9\xff")


def one_line(capsys) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A recipe, its run, an export of it, and an image."""
    place = tmp_path_factory.mktemp("made")
    tree = yaml.safe_load(TINY)
    # classes that matplotlib would read as formulas
    tree["data"]["classes"] = ["$\\frac{$", "$", "\\", "$x^{$", "_{", "天"]
    (place / "tiny.yml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    options = ["train.iters=1", "train.previews=1", "data.train_images=2", "data.val_images=2"]
    recipe = ["-c", str(place / "tiny.yml"), "-o", f"train.save_dir={place / 'run'}", *options]
    assert main(["train", *recipe]) == 0
    assert (
        main(["export", *recipe, "--weights", str(place / "run"), "--output", str(place / "exported")]) == 0
    )
    (place / "in").mkdir()
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(place / "in" / "a.png")
    return place, recipe


# ---- numbers ---------------------------------------------------------------------------------------

SCHEDULES = {
    "Constant": ("learning_rate", "warmup_iters", "warmup_ratio"),
    "Poly": ("power", "end"),
    "Step": ("milestones", "size", "gamma"),
    "Cosine": ("period", "factor", "end"),
    "OneCycle": ("warmup_iters", "warmup_ratio", "end_ratio"),
    "ReduceOnPlateau": ("factor", "patience", "threshold", "cooldown", "end"),
}


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "[.nan]", "1" * 500, "'²'", "1e309"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_no_schedule_takes_what_is_no_number(tmp_path, name, value):
    tree = yaml.safe_load(TINY)
    (tmp_path / "s.yml").write_text(yaml.safe_dump(tree))
    for key in SCHEDULES[name]:
        base = f"schedule={{type: {name}, learning_rate: 0.1{', size: 3' if key == 'gamma' else ''}}}"
        with pytest.raises(ConfigError) as caught:
            build.validate(load_config(tmp_path / "s.yml", [base, f"schedule.{key}={value}"]))
        assert "\n" not in str(caught.value)


def test_a_learning_rate_that_no_axis_can_show_is_refused(made, tmp_path, capsys):
    _, recipe = made
    output = ["--output", str(tmp_path / "x.png")]
    assert main(["plot-schedule", *recipe, "schedule.learning_rate=1e308", *output]) == 2
    assert "learning_rate" in one_line(capsys)


@pytest.mark.parametrize("value", ["inf", "nan", "1e400", "0", "-1", "1e300", "1e-300"])
def test_scales_that_no_image_can_have_are_refused_by_val_and_by_infer(made, tmp_path, capsys, value):
    place, recipe = made
    assert main(["val", *recipe, "--weights", str(place / "run"), "--multi-scale", value]) == 2
    assert "0.001 to 100" in one_line(capsys)
    paths = ["--input", str(place / "in"), "--output", str(tmp_path / "out")]
    assert main(["infer", "--model", str(place / "exported"), *paths, "--multi-scale", value]) == 2
    assert "0.001 to 100" in one_line(capsys)


@pytest.mark.parametrize("value", ["-1", "100000", "9" * 30])
def test_workers_and_threads_beyond_reason_are_refused_before_anything_starts(made, tmp_path, capsys, value):
    place, recipe = made
    assert main(["benchmark", *recipe, "--workers", value]) == 2
    assert "expected 0 to 256" in one_line(capsys)
    paths = ["--input", str(place / "in"), "--output", str(tmp_path / "out")]
    assert main(["infer", "--model", str(place / "exported"), *paths, "--threads", value]) == 2
    assert "expected 1 to 256" in one_line(capsys)


@pytest.mark.parametrize("value", ["0", "-3", "100000", "9" * 30])
def test_strides_that_would_take_hours_are_refused(made, capsys, value):
    assert main(["oracle", *made[1], "--strides", "4", value]) == 2
    assert "expected 1 to 1024" in one_line(capsys)


@pytest.mark.parametrize("device", ["gpu:²", "gpu:99999999999999999999", "gpu:-1", "gpu:", "²"])
def test_odd_devices_are_one_line(made, capsys, device):
    assert main(["val", *made[1], "--weights", str(made[0] / "run"), "--device", device]) == 2
    assert "--device" in one_line(capsys)


# ---- places ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/", ".", "..", "''", '"\\0"', "x" * 5000])
def test_places_where_no_run_can_be_are_one_line_and_stay_as_they_are(
    made, tmp_path, capsys, monkeypatch, place
):
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--overwrite"]):
        assert main(["train", *made[1], f"train.save_dir={place}", *more]) == 2
        one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_folders_named_with_digits_of_other_scripts_are_neither_runs_nor_checkpoints(made, tmp_path, capsys):
    _, recipe = made
    shutil.copytree(made[0] / "run", tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "iter_²").mkdir()
    (tmp_path / "run-²").mkdir()
    options = [f"train.save_dir={tmp_path / 'run'}", "train.iters=2"]
    assert main(["train", *recipe, *options, "--resume"]) == 0
    assert (tmp_path / "run" / "checkpoints" / "iter_²").is_dir()


@NO_SUCH_NAMES
def test_names_that_are_not_utf8_are_read_and_written(made, tmp_path, capsys):
    place, recipe = made
    (tmp_path / "in").mkdir()
    shutil.copy(place / "in" / "a.png", tmp_path / "in" / f"{ODD_NAME}.png")
    shutil.copy(place / "in" / "a.png", tmp_path / "in" / "b.png")
    paths = ["--input", str(tmp_path / "in")]
    trained = [*recipe, "--weights", str(place / "run")]
    for number, command in enumerate((["predict", *trained], ["infer", "--model", str(place / "exported")])):
        out = tmp_path / f"{ODD_NAME}{number}"
        assert main([*command, *paths, "--output", str(out)]) == 0
        assert (out / f"{ODD_NAME}.png").is_file()
        assert len(json.loads((out / "shares.json").read_text(encoding="utf-8"))["images"]) == 2
        assert main([*command, *paths, "--output", str(out), "--overwrite"]) == 0
        assert main([*command, *paths, "--output", str(out), "--resume"]) == 0
    assert main(["val", *trained, "--json", str(tmp_path / f"{ODD_NAME}.json")]) == 0
    capsys.readouterr()
    gone = str(tmp_path / f"{ODD_NAME}-gone")
    for command in (
        ["train", "-c", gone],
        ["train", *recipe, "--resume", gone],
        ["val", *recipe, "--weights", gone],
        ["predict", *trained, "--input", gone, "--output", str(tmp_path / "x")],
        ["infer", "--model", gone, *paths, "--output", str(tmp_path / "x")],
        ["import-weights", "--input", gone, "--output", str(tmp_path / "x.safetensors")],
        ["compare", gone, gone],
        ["score", "--pred", gone, "--labels", gone],
    ):
        assert main(command) == 2
        one_line(capsys)


def test_classes_that_look_like_formulas_are_drawn_as_they_are_written(made, tmp_path):
    """`$\\frac{$` in a figure; the run's curves and previews were drawn by the fixture."""
    place, recipe = made
    trained = [*recipe, "--weights", str(place / "run")]
    paths = ["--input", str(place / "in")]
    assert main(["val", *trained, "--worst", "1", "--output", str(tmp_path / "val")]) == 0
    assert main(["check-data", *recipe, "--figure", str(tmp_path / "check.png")]) in (0, 1)
    assert main(["predict", *trained, *paths, "--figure", "--output", str(tmp_path / "predict")]) == 0
    assert main(["oracle", *recipe, "--output", str(tmp_path / "oracle")]) == 0
    assert main(["calibrate", *trained, "--output", str(tmp_path / "calibrate")]) == 0
    assert (tmp_path / "check.png").is_file()
    assert (tmp_path / "oracle" / "oracle.png").is_file()


# ---- files -----------------------------------------------------------------------------------------


def safetensors(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


@pytest.mark.parametrize(
    "content",
    [
        safetensors(b"[" * 50_000),
        safetensors(b'{"__metadata__":' + b'{"a":' * 50_000),
        safetensors(b'{"__metadata__": {"paddlefcn.normalize": "' + b"[" * 50_000 + b'"}}'),
        safetensors(b'{"w": {"dtype": "F32", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 4]}}'),
    ],
    ids=["a list", "a tree", "in a text", "a number"],
)
def test_metadata_that_is_deep_or_of_many_digits_is_one_line(made, tmp_path, capsys, content):
    path = tmp_path / "deep.safetensors"
    path.write_bytes(content)
    assert main(["val", *made[1], "--weights", str(path)]) == 2
    one_line(capsys)


def test_deep_or_endless_records_are_one_line(tmp_path, capsys):
    for name, text in {"deep": "[" * 50_000, "long": '{"images": ' + "9" * 5000 + "}", "nan": "NaN"}.items():
        (tmp_path / f"{name}.json").write_text(text)
        assert main(["compare", *[str(tmp_path / f"{name}.json")] * 2]) == 2
        one_line(capsys)


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://",
        "http://h:99999/x",
        "http://\0/x",
        "https:///x",
        "http://²:²/x",
        "http://h/a b",
    ],
)
def test_an_address_that_is_none_is_one_line(url, tmp_path):
    with pytest.raises(DataError) as caught:
        download(url, tmp_path / "x", checksum=None, timeout=1)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.glob("x")) == []
