"""TIFF as the world has it: read whole and by windows, written by tiles, its place on Earth carried along."""

import contextlib
import io
import resource
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from paddlefcn.data.images import read_image, read_mask
from paddlefcn.data.scenes import open_scene
from paddlefcn.data.tiff_writer import TiffWriter
from paddlefcn.errors import DataError, OutputError


def picture(shape, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.random(shape).astype(dtype)
    smooth = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % 200
    noisy = smooth[:, :, None] + rng.integers(0, 40, shape)
    return (noisy % (np.iinfo(dtype).max + 1)).astype(dtype)


def windows_of(path, image, mask=False):
    """Random windows equal the same part of the whole."""
    rng = np.random.default_rng(1)
    with open_scene(path, mask=mask) as scene:
        assert (scene.height, scene.width, scene.channels) == image.shape
        for _ in range(12):
            top, left = (int(rng.integers(0, n)) for n in image.shape[:2])
            height, width = (int(rng.integers(1, n - s + 1)) for n, s in zip(image.shape, (top, left)))
            window = scene.read_window(top, left, height, width)
            assert window.dtype == scene.dtype
            np.testing.assert_array_equal(window, image[top : top + height, left : left + width])


FORMS = [
    {"tile": (16, 32)},
    {"tile": (16, 16), "compression": "deflate", "predictor": True},
    {"tile": (32, 16), "compression": "lzw", "predictor": True, "byteorder": ">"},
    {"rowsperstrip": 5, "compression": "lzw"},
    {"rowsperstrip": 7, "compression": "packbits"},
    {"rowsperstrip": 50, "compression": "zstd", "bigtiff": True},
    {"bigtiff": True, "tile": (16, 16), "byteorder": ">"},
    {},
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(f"{k}={v}" for k, v in form.items()))
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_every_form_that_tifffile_writes_is_read_whole_by_windows_and_from_bytes(
    tmp_path, form, planar, dtype
):
    path = tmp_path / "a.tif"
    image = picture((45, 70, 5), dtype)
    file = {key: form[key] for key in ("byteorder", "bigtiff") if key in form}
    page = {key: value for key, value in form.items() if key not in file}
    stored = image.transpose(2, 0, 1) if planar == "separate" else image
    tifffile.imwrite(path, stored, photometric="minisblack", planarconfig=planar, **file, **page)
    read = read_image(path, 5)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, image)
    np.testing.assert_array_equal(read_image(path.read_bytes(), 5), image)
    windows_of(path, image)


def test_jpeg_tiles_are_read_as_the_tool_that_wrote_them_reads_them(tmp_path):
    image = picture((64, 96, 3))
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(32, 32), compression="jpeg", photometric="rgb")
    expected = tifffile.imread(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 3), expected)
    windows_of(tmp_path / "a.tif", expected)
    assert np.abs(expected.astype(int) - image).mean() < 30


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32, np.float64, np.float16])
def test_other_numbers_become_float32_or_keep_their_value(tmp_path, dtype):
    image = (np.arange(600).reshape(20, 30, 1) - (0 if np.dtype(dtype).kind == "u" else 300)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", tile=(16, 16), compression="lzw")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 1), image)
    with open_scene(tmp_path / "a.tif") as scene:
        assert scene.dtype == np.float32
        np.testing.assert_array_equal(scene.read_window(3, 4, 5, 6), image[3:8, 4:10])
    with open_scene(tmp_path / "a.tif", mask=True) as scene:
        assert scene.dtype == (image.dtype if image.dtype.kind in "iu" else np.float32)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_holds_for_windows_too(tmp_path, orientation):
    image = picture((33, 50, 3))
    tifffile.imwrite(
        tmp_path / "a.tif",
        image,
        photometric="rgb",
        tile=(16, 16),
        extratags=[(274, 3, 1, orientation, True)],
    )
    shown = image.transpose(1, 0, 2) if orientation > 4 else image
    shown = shown[::-1] if orientation in (3, 4, 7, 8) else shown
    shown = shown[:, ::-1] if orientation in (2, 3, 6, 7) else shown
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 3), shown)
    windows_of(tmp_path / "a.tif", shown)


def test_palette_bits_and_white_is_zero_are_read_as_pillow_reads_them(tmp_path):
    ids = (np.arange(400).reshape(20, 20) % 5).astype(np.uint8)
    palette = Image.fromarray(ids, "P")
    palette.putpalette(picture((256, 3, 1)).tobytes())
    palette.save(tmp_path / "p.tif")
    np.testing.assert_array_equal(read_mask(tmp_path / "p.tif"), ids)
    np.testing.assert_array_equal(read_image(tmp_path / "p.tif", 3), np.asarray(palette.convert("RGB")))
    windows_of(tmp_path / "p.tif", ids[:, :, None], mask=True)
    bits = Image.fromarray((ids > 2).astype(np.uint8) * 255).convert("1")
    bits.save(tmp_path / "b.tif", compression="group4")
    np.testing.assert_array_equal(read_mask(tmp_path / "b.tif"), ids > 2)
    assert set(np.unique(read_image(tmp_path / "b.tif", 1))) == {0, 255}
    tifffile.imwrite(tmp_path / "w.tif", 255 - ids, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "w.tif", 1)[:, :, 0], ids)
    cmyk = Image.fromarray(picture((20, 30, 3))).convert("CMYK")
    cmyk.save(tmp_path / "c.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "c.tif", 3), np.asarray(cmyk.convert("RGB")))
    with open_scene(tmp_path / "c.tif") as scene:
        assert scene.read_window(2, 3, 4, 5).shape == (4, 5, 3)


def test_overviews_are_no_pages_but_a_stack_is(tmp_path):
    image = picture((64, 64, 3))
    with tifffile.TiffWriter(tmp_path / "o.tif") as out:
        out.write(image, tile=(16, 16), photometric="rgb")
        out.write(image[::2, ::2], tile=(16, 16), photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "o.tif", 3), image)
    tifffile.imwrite(tmp_path / "s.tif", picture((64, 64, 4)).transpose(2, 0, 1), photometric="minisblack")
    with pytest.raises(DataError, match="holds 4 pages"):
        read_image(tmp_path / "s.tif", 1)


def test_windows_need_no_more_than_max_pixels_at_once_whatever_the_picture_has(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture((300, 400, 1))[:, :, 0], tile=(64, 64), compression="lzw")
    with pytest.raises(DataError, match=r"a\.tif: 300x400 are 120000 pixels, more than data.max_pixels 5000"):
        read_image(tmp_path / "a.tif", 1, max_pixels=5000)
    with open_scene(tmp_path / "a.tif", max_pixels=5000) as scene:
        assert scene.read_window(200, 300, 50, 50).shape == (50, 50, 1)
    tifffile.imwrite(tmp_path / "b.tif", picture((300, 400, 1))[:, :, 0], rowsperstrip=300, compression="lzw")
    with (
        pytest.raises(DataError, match=r"b\.tif: strips or tiles of 300x400 pixels are more than"),
        open_scene(tmp_path / "b.tif", max_pixels=5000),
    ):
        pass


def directory_of(*tags, start=8):
    """A classic little-endian TIFF with one directory."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", start, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (directory_of(*[(40000 + i, 1, 900, 8) for i in range(40)]) + bytes(1000), "tags hold 36000 bytes"),
        (b"II*\0\x08\0\0\0\0\0", "directory of 0 tags"),
        (b"II*\0\x08\0\0\0\x01\0" + bytes(12) + b"\x08\0\0\0", "in a circle"),
        (b"II*\0", "truncated"),
        (directory_of((256, 4, 1, 0), (257, 4, 1, 0)), "broken.tif"),
    ],
)
def test_directories_that_lie_are_refused_in_one_line(tmp_path, content, part):
    (tmp_path / "broken.tif").write_bytes(content)
    for read in (read_three_channels, read_one_window):
        with pytest.raises(DataError, match=part) as caught:
            read(tmp_path / "broken.tif")
        assert "\n" not in str(caught.value)


def read_three_channels(source):
    return read_image(source, 3)


def read_one_window(path):
    with open_scene(path) as scene:
        scene.read_window(0, 0, 1, 1)


def test_every_cut_and_flipped_file_is_a_data_error_or_an_image(tmp_path):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, picture((40, 40, 3)), tile=(16, 16), compression="lzw", predictor=True)
    whole = buffer.getvalue()
    rng = np.random.default_rng(0)
    for case in range(150):
        content = bytearray(whole[: int(rng.integers(1, len(whole)))] if case % 3 == 0 else whole)
        for _ in range(case % 5):
            content[int(rng.integers(0, min(len(content), 400)))] = int(rng.integers(0, 256))
        with contextlib.suppress(DataError):  # whatever else is raised fails the test
            read_image(bytes(content), 3)


def test_a_tile_that_inflates_beyond_its_size_takes_no_more_memory_than_it_says(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture((16, 16, 1)), tile=(16, 16), compression="deflate")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offsets, counts = (file.pages[0].tags[tag].offset for tag in (324, 325))
    bomb = zlib.compress(bytes(1 << 28))
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[offsets + 8 : offsets + 12] = struct.pack("<I", len(content))
    content[counts + 2 : counts + 12] = struct.pack("<HII", 4, 1, len(bomb))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(DataError):
        read_image(bytes(content) + bomb, 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # kilobytes


# ---- writing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_what_is_written_in_pieces_is_read_by_tifffile_and_by_us(tmp_path, dtype, channels):
    image = picture((70, 90, channels), dtype)
    with TiffWriter(tmp_path / "rows.tif", 70, 90, channels=channels, dtype=dtype, tile=32) as out:
        for top in (0, 11, 40, 68):
            out.write_rows(image[top : {0: 11, 11: 40, 40: 68, 68: 70}[top]])
    with TiffWriter(tmp_path / "tiles.tif", 70, 90, channels=channels, dtype=dtype, tile=32) as out:
        for top, left in ((64, 64), (0, 0), (0, 64), (64, 0), (32, 0), (32, 64)):
            out.write_window(top, left, image[top : top + 32, left : left + (64 if left == 0 else 32)])
    for name in ("rows.tif", "tiles.tif"):
        np.testing.assert_array_equal(tifffile.imread(tmp_path / name).reshape(image.shape), image)
        np.testing.assert_array_equal(read_image(tmp_path / name, channels), image)
        windows_of(tmp_path / name, image)
    if dtype == np.uint8 and channels < 4:
        shown = np.asarray(Image.open(tmp_path / "rows.tif"))
        np.testing.assert_array_equal(shown.reshape(image.shape), image)


GEO = {
    33550: (0.5, 0.5, 0.0),
    33922: (0.0, 0.0, 0.0, 399960.0, 5700000.0, 0.0),
    34735: (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32631),
    34736: (6378137.0, 298.257223563),
    34737: "WGS 84 / UTM zone 31N|",
}


def write_georeferenced(path, image):
    kinds = {33550: 12, 33922: 12, 34735: 3, 34736: 12, 34737: 2}
    tags = [(tag, kinds[tag], 0 if tag == 34737 else len(value), value, True) for tag, value in GEO.items()]
    tifffile.imwrite(path, image, tile=(16, 16), extratags=tags, photometric="rgb")


@pytest.mark.parametrize("big", [False, True])
def test_the_place_on_earth_and_the_palette_are_carried_to_the_mask(tmp_path, monkeypatch, big):
    from paddlefcn.data import tiff_writer

    monkeypatch.setattr(tiff_writer, "_CLASSIC_LIMIT", 0 if big else 1 << 30)
    image = picture((40, 50, 3))
    write_georeferenced(tmp_path / "scene.tif", image)
    ids = (image[:, :, 0] % 3).astype(np.uint8)
    with (
        open_scene(tmp_path / "scene.tif") as scene,
        TiffWriter(
            tmp_path / "mask.tif",
            *(scene.height, scene.width),
            tile=16,
            palette=[[0, 0, 0], [255, 0, 7], [9, 255, 0]],
            georeference=scene.georeference,
        ) as out,
    ):
        out.write_rows(ids)
    with tifffile.TiffFile(tmp_path / "mask.tif") as file:
        assert file.is_bigtiff == big
        tags = file.pages[0].tags
        assert {tag: tags[tag].value for tag in GEO} == GEO
        np.testing.assert_array_equal(file.pages[0].asarray(), ids)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif"), ids)
    colors = np.array([[0, 0, 0], [255, 0, 7], [9, 255, 0]], np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "mask.tif", 3), colors[ids])
    with open_scene(tmp_path / "mask.tif") as scene:
        moved = scene.georeference.shifted(10, 4)
        assert struct.unpack("<6d", moved.tags[33922][2])[:2] == (-4, -10)


def test_a_writer_that_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"mine")

    def write(error):
        with TiffWriter(tmp_path / "a.tif", 64, 64, tile=32) as out:
            out.write_rows(np.zeros((40, 64), np.uint8))
            if error:
                raise error

    with pytest.raises(RuntimeError, match="stopped"):
        write(RuntimeError("stopped"))
    with pytest.raises(ValueError, match="2 of 4 tiles were not written"):
        write(None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    assert (tmp_path / "a.tif").read_bytes() == b"mine"
    with pytest.raises(OutputError, match="cannot write"), TiffWriter(tmp_path / "a.tif" / "b.tif", 9, 9):
        pass


def test_arrays_are_mapped_and_other_files_read_once(tmp_path):
    image = picture((30, 40, 4), np.uint16)
    np.save(tmp_path / "a.npy", image)
    windows_of(tmp_path / "a.npy", image)
    Image.fromarray(picture((30, 40, 3))).save(tmp_path / "a.png")
    windows_of(tmp_path / "a.png", picture((30, 40, 3)))
    with pytest.raises(DataError, match=r"none\.tif: no such file"), open_scene(tmp_path / "none.tif"):
        pass
