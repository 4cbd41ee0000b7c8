"""Of many inputs one that cannot be read, named or written stops itself alone; a full disk is named."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest
from PIL import Image
from test_prediction import Threshold, predict

from paddlefcn.deploy import whole
from paddlefcn.errors import RunError
from paddlefcn.files import naming_errors


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(np.full((20, 30), 200, np.uint8)).save(tmp_path / "in" / f"{name}.png")
    return tmp_path / "in"


def test_an_image_beside_a_folder_with_the_name_of_its_result(pictures, tmp_path):
    """`x.jpg` gives x.png; what is in the folder `x.png` is to stand in a folder of this name."""
    Image.fromarray(np.full((20, 30), 200, np.uint8)).save(pictures / "x.jpg")
    (pictures / "x.png").mkdir()
    Image.fromarray(np.full((20, 30), 200, np.uint8)).save(pictures / "x.png" / "inner.jpg")
    shares = predict(Threshold(), pictures, tmp_path / "out")
    names = {entry["file"] for entry in shares["images"]}
    assert {str(pictures / f"{name}.png") for name in "abc"} <= names
    assert len(shares["images"]) == 4
    (failed,) = shares["unreadable"]
    assert failed["file"] in failed["error"]
    assert failed["file"] in (str(pictures / "x.jpg"), str(pictures / "x.png" / "inner.jpg"))


@pytest.mark.parametrize("length", [242, 250])
def test_a_name_to_which_nothing_can_be_added(pictures, tmp_path, length):
    path = pictures / ("x" * (length - 4) + ".png")
    Image.fromarray(np.full((20, 30), 200, np.uint8)).save(path)
    shares = predict(Threshold(), pictures, tmp_path / "out")
    assert len(shares["images"]) + len(shares["unreadable"]) == 4
    assert len(shares["images"]) >= 3
    assert all(entry["file"] == str(path) for entry in shares["unreadable"])


def test_an_image_whose_pixels_do_not_fit_is_named_and_the_others_go_on(pictures, tmp_path, monkeypatch):
    real = whole.read_image

    def read(path, *rest):
        if path.name == "b.png":
            raise MemoryError
        return real(path, *rest)

    monkeypatch.setattr(whole, "read_image", read)
    shares = predict(Threshold(), pictures, tmp_path / "out")
    assert len(shares["images"]) == 2
    (failed,) = shares["unreadable"]
    assert failed["file"] == str(pictures / "b.png")
    assert "b.png: is too large for the memory" in failed["error"]
    assert json.loads((tmp_path / "out" / "shares.json").read_text(encoding="utf-8")) == shares


@pytest.mark.parametrize("kilobytes", [16, 120, 250])
def test_a_full_disk_while_an_export_is_written_is_said_to_be_full(disk, kilobytes):
    """Paddle writes the program and its parameters itself, and says nothing: half a program is no JSON."""
    from test_export import ABOUT, tiny

    from paddlefcn.deploy.writer import write_export

    folder = disk(kilobytes)
    with pytest.raises(RunError, match=r"writing .* failed: No space left on device"):
        write_export(tiny(), ABOUT, folder / "out")
    assert list(folder.iterdir()) == []


def test_naming_errors_names_the_disk(tmp_path):
    with pytest.raises(RunError, match=r"writing .*x failed: No space left"), naming_errors(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
