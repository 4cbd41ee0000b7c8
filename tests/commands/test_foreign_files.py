"""What each command writes, replaces and removes: the tree of a folder of foreign files before and after."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from conftest import TINY, files_below
from PIL import Image

from paddlefcn.commands import main
from paddlefcn.errors import OutputError
from paddlefcn.ownership import MARK, own_folder

OPTIONS = ("train.iters=1", "train.previews=1", "data.val_images=2")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A recipe, its run, an export of it, images and masks."""
    place = tmp_path_factory.mktemp("made")
    (place / "tiny.yml").write_text(TINY)
    recipe = ["-c", str(place / "tiny.yml"), "-o", f"train.save_dir={place / 'run'}", *OPTIONS]
    assert main(["train", *recipe]) == 0
    weights = ["--weights", str(place / "run")]
    assert main(["export", *recipe, *weights, "--output", str(place / "exported")]) == 0
    for folder, shape in (("in", (40, 30, 3)), ("masks", (40, 30))):
        (place / folder).mkdir()
        for name in ("a", "b"):
            Image.fromarray(np.full(shape, 1, np.uint8)).save(place / folder / f"{name}.png")
    return place


@pytest.fixture
def trained(made, tmp_path):
    """All of it in a folder of this test's own; the arguments that name the weights."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    recipe = ["-c", str(tmp_path / "tiny.yml"), "-o", f"train.save_dir={tmp_path / 'run'}", *OPTIONS]
    return [*recipe, "--weights", str(tmp_path / "run")]


FILLS = ("predict", "infer", "val", "oracle", "export", "convert", "calibrate")


def commands(trained, tmp_path):
    """(command, a file that it writes) for every command that fills a folder."""
    images = ["--input", str(tmp_path / "in")]
    recipe = trained[: trained.index("--weights")]
    masks = ["--images", str(tmp_path / "in"), "--masks", str(tmp_path / "masks")]
    return {
        "predict": (["predict", *trained, *images], "a.png"),
        "infer": (["infer", "--model", str(tmp_path / "exported"), *images], "a.png"),
        "val": (["val", *trained, "--worst", "1"], "confusion.png"),
        "oracle": (["oracle", *recipe], "oracle.png"),
        "export": (["export", *trained], "model.pdiparams"),
        "convert": (["convert", *recipe, "--to", "labelme", *masks], "a.json"),
        "calibrate": (["calibrate", *trained], "reliability.png"),
    }


FOREIGN = {"thesis.doc": b"years of work", "deep/er/notes.txt": b"mine", ".hidden": b"mine"}


@pytest.mark.parametrize("name", FILLS)
def test_overwrite_removes_its_own_files_and_no_other(name, trained, tmp_path, capsys):
    command, written = commands(trained, tmp_path)[name]
    out = tmp_path / "out"
    read = ("run", "in", "masks", "exported")
    before = {place: files_below(tmp_path / place) for place in read}
    target = ["--output", str(out)]
    assert main([*command, *target]) == 0
    first = set(files_below(out))
    assert MARK in first or name == "export"  # deploy.yaml is its mark
    assert main([*command, *target]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main([*command, *target, "--overwrite"]) == 0
    assert set(files_below(out)) == first
    for file, content in FOREIGN.items():
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        (out / file).write_bytes(content)
    code = main([*command, *target, "--overwrite"])
    after = files_below(out)
    assert {file: after[file] for file in FOREIGN} == FOREIGN
    assert (code, set(after)) == (0, first | set(FOREIGN))
    assert "thesis.doc" in capsys.readouterr().out
    (out / written).unlink()
    (out / written).symlink_to(tmp_path / "in" / "a.png")
    blocked = files_below(out)
    assert main([*command, *target, "--overwrite"]) == 2
    assert "in the way" in capsys.readouterr().err
    assert files_below(out) == blocked
    assert {place: files_below(tmp_path / place) for place in read} == before


@pytest.mark.parametrize("name", FILLS)
def test_folders_of_others_and_of_inputs_are_never_emptied(name, trained, tmp_path, capsys, monkeypatch):
    command, _ = commands(trained, tmp_path)[name]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_bytes(b"years of work")
    before = files_below(tmp_path)
    for folder in ("mine", "run", "in", "."):
        assert main([*command, "--output", str(tmp_path / folder), "--overwrite"]) == 2
        assert "choose another" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path / "mine")
    assert main([*command, "--output", ".", "--overwrite"]) == 2
    assert files_below(tmp_path) == before


def test_a_run_is_overwritten_alone(trained, tmp_path, capsys):
    options = trained[: trained.index("--weights")]
    run = tmp_path / "run"
    for file, content in {**FOREIGN, "checkpoints/my.txt": b"mine", "preview/my.png": b"mine"}.items():
        (run / file).parent.mkdir(parents=True, exist_ok=True)
        (run / file).write_bytes(content)
    foreign = {
        file: content for file, content in files_below(run).items() if content in (b"mine", b"years of work")
    }
    assert main(["train", *options, "train.seed=3", "--overwrite"]) == 0
    assert "5 files of others stay" in capsys.readouterr().out
    after = files_below(run)
    assert {file: after[file] for file in foreign} == foreign
    (run / "best" / "my.txt").write_bytes(b"mine")  # best/ is replaced as a whole
    before = files_below(run)
    assert main(["train", *options, "--overwrite"]) == 2
    assert "best/my.txt: not this library's" in capsys.readouterr().err
    assert files_below(run) == before
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.doc").write_bytes(b"x")
    assert main(["train", *options, f"train.save_dir={tmp_path / 'work'}", "--overwrite"]) == 2
    assert files_below(tmp_path / "work") == {"thesis.doc": b"x"}


def test_a_mark_reaches_nothing_outside_and_no_link(tmp_path):
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_bytes(b"mine")
    out.mkdir()
    (out / "link.png").symlink_to(victim)
    names = ["../victim", str(victim), "link.png", "sub/../../victim"]
    (out / MARK).write_text(__import__("json").dumps({"kind": "predictions", "files": names}))
    with own_folder(out, "predictions", overwrite=True):
        assert (out / "link.png").is_symlink()
    assert victim.read_bytes() == b"mine"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"kind": "run", "files": []}', "[" * 100_000, "\0"])
def test_a_mark_that_is_damaged_or_of_another_kind_covers_nothing(tmp_path, text):
    (tmp_path / MARK).write_text(text)
    (tmp_path / "a.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match="no predictions to overwrite"):
        own_folder(tmp_path, "predictions", overwrite=True)
    assert (tmp_path / "a.png").read_bytes() == b"mine"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a second process")
def test_of_two_processes_one_folder_has_one(tmp_path):
    with own_folder(tmp_path / "out", "predictions", overwrite=False, names=["a.png"]):
        child = os.fork()
        if child == 0:
            try:
                own_folder(tmp_path / "out", "predictions", overwrite=True)
            except OutputError as error:
                os._exit(7 if "another process" in str(error) else 8)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
