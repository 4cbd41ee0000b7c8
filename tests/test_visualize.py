"""Palettes, palette PNG, overlays, legends, previews and plots: what is in the files."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from paddlefcn import visualize
from paddlefcn.classes import Classes
from paddlefcn.errors import RunError
from paddlefcn.files import write_bytes
from paddlefcn.metrics import ConfusionMatrix
from paddlefcn.plots import figure, plot_confusion, plot_curves, plot_oracle
from paddlefcn.visualize import (
    VOID,
    colourize,
    displayable,
    gallery,
    legend,
    overlay,
    palette_png,
    preview,
    show,
    tint,
    write_palette_png,
    write_picture,
)

CLASSES = Classes(("ground", "red", "blue"), ((0, 0, 0), (200, 10, 20), (30, 40, 250)))
LABELS = np.array([[0, 1, 1], [2, 2, 255]], np.uint8)


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image


def test_a_palette_png_holds_class_ids_and_shows_their_colours(tmp_path):
    path = tmp_path / "new" / "folder" / "map.png"
    write_palette_png(path, LABELS, CLASSES)
    image = opened(path)
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), LABELS)
    shown = np.asarray(image.convert("RGB"))
    assert shown[0, 1].tolist() == [200, 10, 20]
    assert shown[1, 2].tolist() == list(VOID)
    assert [file.name for file in path.parent.iterdir()] == ["map.png"]


def test_class_ids_beyond_255_are_written_as_16_bit_grey():
    image = Image.open(io.BytesIO(palette_png(np.array([[0, 300]], np.int32), Classes(("thing",) * 301))))
    assert image.mode in ("I;16", "I")  # as Pillow's version calls it
    assert np.asarray(image).tolist() == [[0, 300]]


def test_a_class_with_id_255_keeps_its_own_colour():
    classes = Classes(("thing",) * 256, ((1, 2, 3),) * 256)
    assert colourize(np.array([[255]]), classes)[0, 0].tolist() == [1, 2, 3]


def test_8_bit_images_are_shown_as_they_are_whatever_their_channels():
    image = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    np.testing.assert_array_equal(displayable(image), image[:, :, :3])
    np.testing.assert_array_equal(displayable(image[:, :, :1]), image[:, :, [0, 0, 0]])
    two = displayable(image[:, :, :2])
    np.testing.assert_array_equal(two[:, :, :2], image[:, :, :2])
    assert not two[:, :, 2].any()
    assert displayable(image[:, :, 0]).shape == (3, 4, 3)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int32])
def test_deep_images_are_stretched_to_their_own_range(dtype):
    image = np.linspace(900, 1100, 500).reshape(20, 25, 1).astype(dtype)
    shown = displayable(image)
    assert shown.dtype == np.uint8
    assert (shown.min(), shown.max()) == (0, 255)
    assert 120 < shown[10, 0, 0] < 136


def test_constant_and_not_finite_images_can_be_shown():
    assert displayable(np.full((2, 2, 1), 7, np.uint16)).shape == (2, 2, 3)
    strange = np.array([[[np.nan], [np.inf], [1.0]]], np.float32)
    assert displayable(strange).shape == (1, 3, 3)


def test_tinting_leaves_black_classes_alone_and_mixes_the_others():
    image = np.full((2, 3, 3), 100, np.uint8)
    mixed = tint(image, LABELS, CLASSES)
    assert mixed[0, 0].tolist() == [100, 100, 100]
    assert mixed[0, 1].tolist() == [155, 50, 56]
    assert (image == 100).all()


def test_tinting_in_bands_equals_tinting_at_once():
    labels = np.random.default_rng(0).integers(0, 3, (520, 2)).astype(np.uint8)
    image = np.random.default_rng(1).integers(0, 255, (520, 2, 3)).astype(np.uint8)
    parts = [tint(image[i : i + 1], labels[i : i + 1], CLASSES) for i in range(500, 520)]
    np.testing.assert_array_equal(tint(image, labels, CLASSES)[500:], np.concatenate(parts))


def test_the_overlay_has_the_image_on_the_left_and_colours_in_its_legend():
    image = np.full((200, 90, 3), 100, np.uint8)
    labels = np.repeat(np.array([[0, 1, 1]], np.uint8), 200, axis=0).repeat(30, axis=1)
    picture = overlay(image, labels, CLASSES)
    assert picture.shape[0] == 200
    inside = np.arange(90) != 30  # but for the border between the two classes
    np.testing.assert_array_equal(picture[:, :90][:, inside], tint(image, labels, CLASSES)[:, inside])
    assert (picture[:, 30] == CLASSES.palette[1]).all()
    panel = picture[:, 90:].reshape(-1, 3).tolist()
    assert [200, 10, 20] in panel
    assert [30, 40, 250] not in panel  # a class that is not in the map is not in its legend


def test_the_legend_of_a_tiny_image_is_not_cut_off():
    picture = overlay(np.zeros((2, 3, 3), np.uint8), LABELS, CLASSES)
    assert picture.shape[0] >= 4 * 20


def test_a_legend_grows_with_its_longest_name():
    short = legend([("a", 0, 1.0)], CLASSES)
    long = legend([("a name of many characters", 0, 1.0)], CLASSES)
    assert long.shape[1] > short.shape[1] + 100


def test_names_no_font_can_draw_are_replaced_by_their_number(monkeypatch):
    monkeypatch.setattr(visualize, "font_path", lambda text: None if "背" in text else "some.ttf")
    assert visualize.drawable("背景", 3) == "class 3"
    assert visualize.drawable("road", 3) == "road"


def test_latin_greek_and_cyrillic_names_are_drawn_with_the_bundled_font():
    for name in ("road", "Straße", "δρόμος", "дорога"):
        assert visualize.font_path(name).endswith("DejaVuSans.ttf")


def test_a_chinese_legend_differs_from_boxes_or_falls_back():
    # whatever fonts this machine has: the legend is drawn, and never with empty boxes
    panel = legend([("背景", 0, 0.5), ("道路", 1, 0.5)], CLASSES)
    assert panel.std() > 0
    if visualize.font_path("背景") is None:
        expected = legend([("class 0", 0, 0.5), ("class 1", 1, 0.5)], CLASSES)
        np.testing.assert_array_equal(panel, expected)


def test_a_preview_holds_image_truth_and_prediction_side_by_side_below_their_titles():
    image = np.full((2, 3, 3), 9, np.uint8)
    picture = preview(image, LABELS, np.zeros((2, 3), np.uint8), CLASSES)
    title = len(picture) - 2
    assert 10 < title < 40
    assert picture.shape[1] == 3 * 3 + 2 * 4
    np.testing.assert_array_equal(picture[title:, :3], image)
    np.testing.assert_array_equal(picture[title:, 7:10], colourize(LABELS, CLASSES))
    assert not picture[title:, 14:].any()
    assert preview(image, None, LABELS, CLASSES).shape == (title + 2, 2 * 3 + 4, 3)
    assert preview(np.zeros((4, 6, 1), np.uint16), LABELS, LABELS, CLASSES).shape == (title + 2, 17, 3)


def test_a_preview_of_a_large_image_has_a_viewable_size_and_no_mixed_colours():
    labels = (np.indices((900, 1300)).sum(axis=0) % 7 > 3).astype(np.uint8)
    picture = preview(np.zeros((900, 1300, 3), np.uint8), None, labels, CLASSES)
    assert picture.shape[1] == 2 * 640 + 4
    colours = {tuple(colour) for colour in picture[30:, 644:].reshape(-1, 3).tolist()}
    assert colours <= {tuple(colour) for colour in CLASSES.palette}


def test_an_overlay_shows_a_class_on_an_image_of_its_own_colour():
    colour = CLASSES.palette[1]
    image = np.broadcast_to(np.array(colour, np.uint8), (9, 9, 3))
    labels = np.zeros((9, 9), np.uint8)
    labels[2:7, 2:7] = 1
    image = (image // 2).astype(np.uint8)
    picture = overlay(image, labels, CLASSES)
    assert tuple(picture[2, 2].tolist()) == colour
    assert tuple(picture[4, 4].tolist()) != colour


def test_a_gallery_stacks_captioned_pictures_of_any_width():
    rows = [("first", np.zeros((5, 30, 3), np.uint8)), ("二", np.zeros((5, 400, 3), np.uint8))]
    picture = gallery(rows, max_width=200)
    assert picture.shape[1] == 200
    assert (picture[0:22, 60:] == 255).all()


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    write_bytes(path, b"old")

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(RunError, match="No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def scores(num_classes=3):
    matrix = ConfusionMatrix(num_classes)
    matrix.update(np.zeros((2, 3), np.uint8), np.minimum(LABELS, 2))
    return matrix.scores([f"klass {i}" for i in range(num_classes - 1)] + ["背景"])


def test_confusion_matrices_of_few_and_of_many_classes_are_drawn(tmp_path):
    for count in (3, 40):
        plot_confusion(scores(count), tmp_path / f"{count}.png")
        assert opened(tmp_path / f"{count}.png").width > 300


def test_curves_are_drawn_from_records_with_gaps_nulls_and_stages(tmp_path):
    records = [{"iter": i, "loss": 1 / i, "learning_rate": 0.1, "stage": "FCN32s"} for i in range(1, 9)]
    records += [{"iter": 8, "val_loss": 0.5, "mean_iou": 0.4, "pixel_accuracy": None, "stage": "FCN32s"}]
    records += [{"iter": i, "loss": None, "learning_rate": 0.1, "stage": "FCN16s"} for i in range(1, 5)]
    plot_curves(records, tmp_path / "curves.png")
    assert opened(tmp_path / "curves.png").width > 600
    for few in ([], [{"iter": 1, "loss": 2.0}], [{"iter": 3, "mean_iou": 0.5}]):
        plot_curves(few, tmp_path / "few.png")
        assert (tmp_path / "few.png").stat().st_size > 0


def test_stages_whose_iterations_start_again_are_put_one_behind_the_other():
    from paddlefcn.plots import _behind_each_other

    again = [{"iter": 1, "stage": "a"}, {"iter": 5, "stage": "a"}, {"iter": 1, "stage": "b"}]
    rows, borders = _behind_each_other([*again, {"iter": 2, "stage": "b"}])
    assert [row["iter"] for row in rows] == [1, 5, 6, 7]
    assert borders == [(0, "a"), (5, "b")]
    onwards, borders = _behind_each_other([{"iter": 5, "stage": "a"}, {"iter": 6, "stage": "b"}])
    assert [row["iter"] for row in onwards] == [5, 6]
    assert borders[1] == (5, "b")


def test_a_prediction_is_drawn_as_one_picture_and_oracle_curves_too(tmp_path):
    image = np.zeros((20, 30, 4), np.uint16)
    map_picture = np.zeros((20, 30, 3), np.uint8)
    shares = [("背景", 0, 0.75), ("b", 2, 0.25)]
    figure(image, map_picture, map_picture, shares, CLASSES, tmp_path / "f.png")
    plot_oracle({8: scores(), 32: scores()}, tmp_path / "o.png")
    assert opened(tmp_path / "f.png").width > 600
    assert opened(tmp_path / "o.png").width > 600


def test_pictures_are_drawn_without_pyplot():
    code = (
        "import sys, json, paddlefcn.visualize, paddlefcn.plots;"
        "print(json.dumps('matplotlib.pyplot' in sys.modules or 'paddle' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False


def test_a_written_picture_reads_back(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (4, 5, 3)).astype(np.uint8)
    write_picture(tmp_path / "p.png", picture)
    np.testing.assert_array_equal(np.asarray(opened(tmp_path / "p.png")), picture)


def test_show_gives_the_overlay_as_a_picture_and_says_what_came_instead():
    image, labels = np.full((9, 9, 3), 100, np.uint8), np.zeros((9, 9), np.uint8)
    picture = show(image, labels, CLASSES)
    np.testing.assert_array_equal(np.asarray(picture), overlay(image, labels, CLASSES))
    with pytest.raises(TypeError, match="image is str; expected a numpy array"):
        show("image.png", labels, CLASSES)
    with pytest.raises(TypeError, match="classes is list; expected Classes"):
        show(image, labels, ["a", "b"])
    with pytest.raises(ValueError, match=r"image \[9, 9, 3\] and labels \[9\]"):
        show(image, labels[0], CLASSES)
