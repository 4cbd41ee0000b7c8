"""Files that commands write are new ones: no file, input, link or device is replaced."""

from __future__ import annotations

import os
import stat
import threading

import numpy as np
import pytest
from conftest import TINY
from PIL import Image

from paddlefcn.commands import main
from paddlefcn.errors import OutputError
from paddlefcn.ownership import check_file

DEVICES = pytest.mark.skipif(os.name == "nt", reason="no pipes as files")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A recipe, a run of it, label maps, and two records of their scores."""
    place = tmp_path_factory.mktemp("made")
    (place / "tiny.yml").write_text(TINY)
    quick = ["data.train_images=2", "data.val_images=2", "train.iters=1", "train.previews=0"]
    recipe = ["-c", str(place / "tiny.yml"), "-o", f"train.save_dir={place / 'run'}", *quick]
    assert main(["train", *recipe]) == 0
    for folder in ("pred", "labels"):
        (place / folder).mkdir()
        for name in "ab":
            Image.fromarray(np.eye(8, dtype=np.uint8)).save(place / folder / f"{name}.png")
    scored = ["score", "--pred", str(place / "pred"), "--labels", str(place / "labels")]
    for name in ("one", "other"):
        assert main([*scored, "--json", str(place / f"{name}.json")]) == 0
    return place, recipe, scored


@pytest.fixture
def commands(made):
    """(command, option, a file that it reads) for every option that names a file to write."""
    place, recipe, scored = made
    trained = [*recipe, "--weights", str(place / "run")]
    timed = ["benchmark", *recipe, "--iters", "1", "--warmup", "0", "--size", "32", "32"]
    pairs = [str(place / f"{name}.json") for name in ("one", "other")]
    found = {
        "check-data": ["check-data", *recipe],
        "benchmark": timed,
        "oracle": ["oracle", *recipe],
        "preview-data": ["preview-data", *recipe, "--count", "1"],
        "plot-schedule": ["plot-schedule", *recipe],
        "summary": ["summary", *recipe, "--size", "32", "32"],
        "score": scored,
        "compare": ["compare", *pairs, "--permutations", "100"],
        "val": ["val", *trained],
        "tune-crf": ["tune-crf", *trained, "--images", "2"],
    }
    sources = {"score": place / "pred" / "a.png", "compare": place / "one.json"}
    split = {name: name.split() for name in NAMES}
    return {
        name: (found[command], option, sources.get(command, place / "tiny.yml"))
        for name, (command, option) in split.items()
    }


# `preview-data --sheet` stands in the place of --output; `import-weights --output` has tests below
NAMES = (
    *("check-data --json", "check-data --figure", "benchmark --json", "oracle --json", "summary --json"),
    *("preview-data --output", "preview-data --sheet", "plot-schedule --output"),
    *("score --json", "score --per-image", "compare --json", "val --json", "val --per-image"),
    "tune-crf --json",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_stands_there_is_replaced_with_overwrite_alone(name, commands, tmp_path, capsys):
    command, option, _ = commands[name]
    target = tmp_path / "mine.out"
    target.write_bytes(b"mine")
    assert main([*command, option, str(target)]) == 2
    assert f"{option} {target}: exists; choose another or --overwrite" in capsys.readouterr().err
    assert target.read_bytes() == b"mine"
    assert main([*command, option, str(target), "--overwrite"]) == 0
    assert target.read_bytes() != b"mine"


@pytest.mark.parametrize("name", NAMES)
def test_neither_an_input_nor_a_links_target_is_ever_replaced(name, commands, tmp_path, capsys):
    command, option, source = commands[name]
    before = source.read_bytes()
    link, folder = tmp_path / "link", tmp_path / "folder"
    link.symlink_to(source)
    folder.mkdir()
    for target, words in ((source, "reads"), (link, "a link"), (folder, "folder"), ("", "empty")):
        assert main([*command, option, str(target), "--overwrite"]) == 2
        assert words in capsys.readouterr().err
    assert source.read_bytes() == before
    assert link.is_symlink()


@DEVICES
@pytest.mark.parametrize("name", NAMES)
def test_a_pipe_is_written_to_and_stays_a_pipe(name, commands, tmp_path):
    command, option, _ = commands[name]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    came: list[bytes] = []
    reader = threading.Thread(target=lambda: came.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert main([*command, option, str(pipe)]) == 0
    reader.join(20)
    assert came[0]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


def test_files_of_what_is_read_are_no_results(tmp_path):
    run, data = tmp_path / "run", tmp_path / "data"
    for file in (
        run / "best/model.safetensors",
        run / "environment.json",
        run / "scores.json",
        data / "a.png",
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    check_file("--json", run / "scores.json", overwrite=True, inputs=[run])
    check_file("--json", data / "new.json", overwrite=False, inputs=[data])
    for file in (run / "best/model.safetensors", run / "environment.json", data / "a.png"):
        with pytest.raises(OutputError, match="is what this command reads"):
            check_file("--json", file, overwrite=True, inputs=[run, data])


def test_imported_weights_replace_neither_a_file_nor_the_input(tmp_path, repo, capsys):
    source = repo / "tests/weights/fixtures/timm_vgg11_bn.safetensors"
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(source.read_bytes())
    command = ["import-weights", "--input", str(mine), "--output"]
    assert main([*command, str(mine)]) == 2
    assert main([*command, str(mine), "--overwrite"]) == 2
    assert "is what this command reads" in capsys.readouterr().err
    (tmp_path / "link.safetensors").symlink_to(mine)
    assert main([*command, str(tmp_path / "link.safetensors"), "--overwrite"]) == 2
    assert mine.read_bytes() == source.read_bytes()
    assert main([*command, str(tmp_path / "mine.safetensors/x.safetensors")]) == 2
    if os.name != "nt":
        os.mkfifo(tmp_path / "pipe.safetensors")
        assert main([*command, str(tmp_path / "pipe.safetensors")]) == 2
