"""preview-data --sheet: each transform of a recipe alone, and all of them together."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from paddlefcn.classes import Classes, voc_palette
from paddlefcn.commands import main
from paddlefcn.data.transforms import ColorJitter, CutMix, RandomCrop
from paddlefcn.transform_sheet import draw_sheet

CLASSES = Classes(("a", "b"), voc_palette(2), 255)


def samples(count=2, size=(60, 80), channels=3):
    rng = np.random.default_rng(0)
    return [
        (f"s{number}", rng.integers(0, 256, (*size, channels)).astype(np.uint8), np.ones(size, np.uint8))
        for number in range(count)
    ]


def draw(rng, classes):
    return np.full((60, 80, 3), 255, np.uint8), np.zeros((60, 80), np.uint8)


def test_a_sheet_has_a_column_a_transform_and_a_row_a_sample():
    one = draw_sheet([], samples(1), CLASSES, draw)
    wide = draw_sheet([ColorJitter(), RandomCrop([20, 60])], samples(1), CLASSES, draw)
    assert wide.shape[1] == 5 * one.shape[1]  # as read, two alone, two of all together
    high = draw_sheet([ColorJitter(), RandomCrop([20, 60])], samples(3), CLASSES, draw)
    assert high.shape == (3 * wide.shape[0], wide.shape[1], 3)


def test_alone_a_transform_always_happens():
    never = draw_sheet([CutMix(p=0.0)], samples(1), CLASSES, draw)
    width = never.shape[1] // 4
    cells = [never[:, start : start + width] for start in range(0, 4 * width, width)]
    # below the captions: the first and the last two are the picture, the second is mixed
    pictures = [cell[30:] for cell in cells]
    assert (pictures[0] != pictures[1]).any()
    np.testing.assert_array_equal(pictures[0], pictures[2])
    np.testing.assert_array_equal(pictures[0], pictures[3])


@pytest.fixture
def recipe(tmp_path):
    tree = {
        "_base_": str(Path(__file__).parents[1] / "configs" / "quickstart.yml"),
        "data": {
            "train_images": 6,
            "train_transforms": [
                {"type": "RandomWarp", "size": [64, 64], "degrees": 20},
                {"type": "CopyPaste", "classes": [4]},
                {"type": "JPEGArtefacts"},
            ],
        },
    }

    path = tmp_path / "recipe.yml"
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def test_the_command_draws_it_and_replaces_nothing(recipe, tmp_path, capsys):
    target = tmp_path / "sheet.png"
    arguments = ["preview-data", "-c", recipe, "--sheet", str(target)]
    assert main([*arguments, "--count", "2"]) == 0
    assert f"3 transforms of the recipe, each alone and all together: {target}" in capsys.readouterr().out
    first = np.asarray(Image.open(target))
    assert main([*arguments, "--count", "2"]) == 2
    assert "choose another or --overwrite" in capsys.readouterr().err
    assert main([*arguments, "--count", "2", "--overwrite"]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(target)), first)
    assert main([*arguments, "--count", "0", "--overwrite"]) == 2
    assert "--count 0" in capsys.readouterr().err


def test_a_sheet_needs_no_room_for_the_other_output(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "preview_data.png").write_bytes(b"a picture of another day")
    assert main(["preview-data", "-c", recipe, "--sheet", "sheet.png", "--count", "1"]) == 0
    assert main(["preview-data", "-c", recipe, "--count", "1"]) == 2
    assert "--output preview_data.png: exists" in capsys.readouterr().err
    assert (tmp_path / "preview_data.png").read_bytes() == b"a picture of another day"
