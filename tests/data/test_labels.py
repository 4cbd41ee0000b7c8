"""Masks become class ids, or one line that says what to change."""

import numpy as np
import pytest
from PIL import Image

from paddlefcn.data.labels import LabelReader
from paddlefcn.errors import DataError


def test_ids_and_ignore_index_pass():
    mask = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
    out = LabelReader(3)(mask, "m.png")
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, mask)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_a_value_out_of_range_names_the_file_the_value_and_the_fix(dtype):
    mask = np.array([[0, 38, 38]], dtype)
    with pytest.raises(DataError) as caught:
        LabelReader(21)(mask, "somewhere/m.png")
    for part in ("somewhere/m.png", "38 (2 px)", "outside 0..20", "ignore_index 255", "data.label_map"):
        assert part in str(caught.value)


def test_the_suggested_label_map_is_the_one_that_works():
    mask = np.array([[10, 20, 30]], np.uint8)
    with pytest.raises(DataError, match=r"\{10: 0, 20: 1, 30: 2\}"):
        LabelReader(3)(mask, "m.png")
    out = LabelReader(3, label_map={10: 0, 20: 1, 30: 2})(mask, "m.png")
    np.testing.assert_array_equal(out, [[0, 1, 2]])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_label_map_turns_0_255_masks_into_classes(dtype):
    mask = np.array([[0, 255], [255, 0]], dtype)
    np.testing.assert_array_equal(LabelReader(2, label_map={0: 0, 255: 1})(mask, "m"), [[0, 1], [1, 0]])
    with pytest.raises(DataError, match=r"add them to data.label_map"):
        LabelReader(2, label_map={0: 0, 255: 1})(np.array([[7]], dtype), "m")


def test_many_classes_and_a_far_ignore_index_get_a_wider_type():
    out = LabelReader(300, ignore_index=65535)(np.array([[299, 65535]], np.uint16), "m")
    np.testing.assert_array_equal(out, [[299, 65535]])


def test_colours_without_a_table_are_refused_with_the_colours_found():
    mask = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)
    with pytest.raises(DataError, match=r"\[0, 0, 255\].*data.color_table"):
        LabelReader(3)(mask, "m.png")


def test_a_grey_mask_saved_as_rgb_is_read_as_grey():
    ids = np.array([[0, 1, 2]], np.uint8)
    np.testing.assert_array_equal(LabelReader(3)(np.stack([ids] * 3, 2), "m"), ids)


@pytest.mark.parametrize("form", ["list", "mapping"])
def test_a_colour_table_gives_ids(form):
    rng = np.random.default_rng(0)
    colors = np.unique(rng.integers(0, 256, (40, 3)), axis=0)
    table = colors.tolist()
    if form == "mapping":
        table = {",".join(map(str, color)): index for index, color in enumerate(table)}
    ids = rng.integers(0, len(colors), (30, 50))
    out = LabelReader(len(colors), color_table=table)(colors[ids].astype(np.uint8), "m")
    np.testing.assert_array_equal(out, ids)


def test_an_unknown_colour_is_named_and_void_can_stand_in_the_table():
    reader = LabelReader(2, color_table={"0,0,0": 0, "255,0,0": 1, "224,224,192": 255})
    mask = np.array([[[0, 0, 0], [224, 224, 192], [255, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(reader(mask, "m"), [[0, 255, 1]])
    mask[0, 0] = [9, 8, 7]
    with pytest.raises(DataError, match=r"m: colours \[9, 8, 7\] are not among the 3"):
        reader(mask, "m")


def test_a_palette_mask_is_read_by_its_colours_where_there_is_a_table(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 0, 0])  # renumbered by an editor: index 0 is red
    image.save(tmp_path / "m.png")
    reader = LabelReader(2, color_table=[[0, 0, 0], [255, 0, 0]])
    np.testing.assert_array_equal(reader.read(tmp_path / "m.png"), [[1, 0]])


@pytest.mark.parametrize(
    "arguments",
    [
        {"ignore_index": 1},
        {"label_map": {0: 5}},
        {"label_map": {}},
        {"label_map": {"0": 0}},
        {"color_table": [[1, 2]]},
        {"color_table": [[1, 2, 3], [1, 2, 3]]},
        {"color_table": [[0, 0, 0], [1, 1, 1], [2, 2, 2]]},
        {"color_table": "red"},
        {"color_table": {"1,2,3": 9}},
        {"color_table": [[0, 0, 0]], "label_map": {0: 0}},
    ],
)
def test_maps_and_tables_that_cannot_be_right_are_refused(arguments):
    with pytest.raises(ValueError) as caught:
        LabelReader(2, **arguments)
    assert "\n" not in str(caught.value)
