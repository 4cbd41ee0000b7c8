"""Reading, resizing and normalising, the room that training and deployment share."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from paddlefcn.data.images import Normalize, Resize, image_files, read_image, read_mask
from paddlefcn.errors import DataError


def picture(shape, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.random(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


def save_cv2(path, image):
    order = [2, 1, 0, 3][: image.shape[2]] if image.shape[2] > 1 else [0]
    path.write_bytes(cv2.imencode(path.suffix, image[:, :, order])[1].tobytes())


def save_tiff(path, image):
    """A baseline TIFF with any number of interleaved samples."""
    height, width, samples = image.shape
    depth = [image.dtype.itemsize * 8] * samples
    kind = [3 if image.dtype.kind == "f" else 1] * samples
    short = {258: depth, 339: kind, 259: [1], 262: [1], 277: [samples], 284: [1]}
    long = {256: width, 257: height, 273: None, 278: height, 279: image.nbytes}
    tags, blobs = sorted({**short, **long}), b""
    start = 8 + 2 + 12 * len(tags) + 4
    lists = {}
    for tag in tags:
        if tag in short and 2 * len(short[tag]) > 4:
            lists[tag] = start + len(blobs)
            blobs += struct.pack(f"<{len(short[tag])}H", *short[tag])
    out = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag in tags:
        if tag in lists:
            out += struct.pack("<HHII", tag, 3, len(short[tag]), lists[tag])
        elif tag in short:
            values = struct.pack(f"<{len(short[tag])}H", *short[tag]).ljust(4, b"\0")
            out += struct.pack("<HHI", tag, 3, len(short[tag])) + values
        else:
            out += struct.pack("<HHII", tag, 4, 1, start + len(blobs) if tag == 273 else long[tag])
    path.write_bytes(out + struct.pack("<I", 0) + blobs + image.tobytes())


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_depth_and_channels_of_a_file_are_kept(tmp_path, suffix, dtype, channels):
    image = picture((9, 7, channels), dtype)
    save_cv2(tmp_path / f"a{suffix}", image)
    read = read_image(tmp_path / f"a{suffix}", channels)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [2, 5, 7])
def test_a_tiff_with_any_number_of_channels_is_read(tmp_path, dtype, channels):
    image = picture((5, 6, channels), dtype)
    save_tiff(tmp_path / "a.tif", image)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", channels), image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 9])
def test_npy_files_are_read_as_they_are(tmp_path, dtype, channels):
    image = picture((5, 6, channels), dtype)
    np.save(tmp_path / "a.npy", image[:, :, 0] if channels == 1 else image)
    read = read_image(tmp_path / "a.npy", channels)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied_to_8_and_16_bit(tmp_path, orientation):
    image = Image.fromarray(picture((6, 9, 3)))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 3), expected)


def test_file_names_outside_ascii_work(tmp_path):
    for name, dtype in (("картинка.png", np.uint8), ("图像.png", np.uint16)):
        image = picture((4, 5, 3), dtype)
        save_cv2(tmp_path / name, image)
        np.testing.assert_array_equal(read_image(tmp_path / name, 3), image)


def test_grey_becomes_three_channels_colour_becomes_luminance_and_alpha_is_dropped(tmp_path):
    grey, color, clear = picture((4, 5)), picture((4, 5, 3)), picture((4, 5, 4))
    for name, image in (("grey", grey), ("color", color), ("clear", clear)):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png", 3), np.stack([grey] * 3, 2))
    luma = np.asarray(Image.fromarray(color).convert("L"))
    np.testing.assert_array_equal(read_image(tmp_path / "color.png", 1)[:, :, 0], luma)
    np.testing.assert_array_equal(read_image(tmp_path / "clear.png", 3), clear[:, :, :3])
    with pytest.raises(DataError, match=r"has 3 channels, expected 5; give data.normalize"):
        read_image(tmp_path / "color.png", 5)


def test_a_palette_mask_keeps_its_indices_and_can_give_its_colours(tmp_path):
    ids = np.array([[0, 1, 2], [2, 1, 255]], np.uint8)
    image = Image.fromarray(ids, "P")
    palette = picture((256, 3))
    image.putpalette(palette.tobytes())
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), ids)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", colors=True), palette[ids])


def test_a_16_bit_mask_keeps_its_ids_and_a_1_bit_one_holds_0_and_1(tmp_path):
    ids = np.array([[0, 300, 65535]], np.uint16)
    Image.fromarray(ids).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), ids)
    Image.fromarray(np.array([[0, 255, 0]], np.uint8)).convert("1").save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png"), [[0, 1, 0]])


def broken_files(folder):
    """Name -> part of the line that reading it must give."""
    buffer = io.BytesIO()
    Image.fromarray(picture((64, 64, 3))).save(buffer, "JPEG")
    (folder / "short.jpg").write_bytes(buffer.getvalue()[:-400])
    Image.fromarray(picture((64, 64, 3))).save(folder / "whole.png")
    (folder / "short.png").write_bytes((folder / "whole.png").read_bytes()[:-4000])
    save_cv2(folder / "deep.png", picture((64, 64, 3), np.uint16))
    (folder / "shortdeep.png").write_bytes((folder / "deep.png").read_bytes()[:-9000])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("not an image")
    (folder / "text.npy").write_text("not an array")
    (folder / "folder.png").mkdir()
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(folder / "line.npy", np.zeros(5))
    np.save(folder / "nan.npy", np.full((2, 2, 3), np.nan, np.float32))
    np.save(folder / "none.npy", np.zeros((0, 4, 3), np.uint8))
    (folder / "lie.tif").write_bytes(b"II*\0\xff\xff\xff\xff")
    return {
        "missing.png": "no such file",
        "short.jpg": "damaged or truncated",
        "short.png": "damaged or truncated",
        "shortdeep.png": "damaged or truncated",
        "empty.png": "is empty",
        "text.png": "is no image",
        "text.npy": "cannot be read",
        "folder.png": "is a folder",
        "objects.npy": "cannot be read",
        "line.npy": "expected HxW",
        "nan.npy": "not finite",
        "none.npy": "no pixels",
        "lie.tif": "truncated TIFF",
    }


def test_every_broken_file_gives_one_line_with_its_name(tmp_path):
    for name, part in broken_files(tmp_path).items():
        for read in (lambda path: read_image(path, 3), read_mask):
            with pytest.raises(DataError) as caught:
                read(tmp_path / name)
            if not (name == "nan.npy" and read is read_mask):
                assert part in str(caught.value), (name, str(caught.value))
            assert name in str(caught.value)
            assert "\n" not in str(caught.value)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    head = struct.pack(">II5B", 30000, 20000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")]
    png = b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    with pytest.raises(DataError, match=r"bomb.png: .*max_pixels"):
        read_image(tmp_path / "bomb.png", 3)
    Image.new("L", (30, 20)).save(tmp_path / "small.png")
    with pytest.raises(DataError, match=r"20x30 are 600 pixels, more than data.max_pixels 599"):
        read_image(tmp_path / "small.png", 1, max_pixels=599)
    assert read_image(tmp_path / "small.png", 1, max_pixels=600).shape == (20, 30, 1)


def test_the_pages_of_a_stack_are_not_dropped_silently(tmp_path):
    pages = [Image.fromarray(picture((4, 4), seed=i)) for i in range(3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="holds 3 pages"):
        read_image(tmp_path / "stack.tif", 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_normalize_is_the_written_formula_and_can_be_undone(dtype):
    image = picture((4, 5, 3), dtype)
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.3, 0.4])
    for order in ("RGB", "BGR"):
        normalize = Normalize(255.0, tuple(mean), tuple(std), order)
        channels = image if order == "RGB" else image[:, :, ::-1]
        expected = ((channels / 255.0 - mean) / std).transpose(2, 0, 1)
        out = normalize(image)
        assert out.dtype == np.float32
        assert out.flags.c_contiguous
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(normalize.undo(out), image, rtol=1e-5, atol=1e-2)
        assert Normalize.from_dict(normalize.to_dict()) == normalize
    filled = Normalize(255.0, tuple(mean), tuple(std), "BGR")
    ground = np.array(filled.fill, np.float32).reshape(1, 1, 3)
    np.testing.assert_allclose(filled(ground), 0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"size": [10, 20]}, (10, 20)),
        ({"short": 50}, (50, 67)),
        ({"long": 50}, (38, 50)),
        ({"scale": 0.5}, (150, 200)),
        ({"multiple_of": 32}, (320, 416)),
    ],
)
def test_resize_gives_the_size_it_names(arguments, expected):
    resize = Resize(**arguments)
    assert resize.output_size(300, 400) == expected
    image, label = resize(picture((300, 400, 3)), picture((300, 400)))
    assert image.shape == (*expected, 3)
    assert label.shape == expected
    assert Resize(**resize.to_dict()) == resize


@pytest.mark.parametrize(
    "arguments", [{}, {"short": 5, "long": 5}, {"size": [5]}, {"size": [0, 5]}, {"scale": 0}]
)
def test_resize_refuses_what_it_cannot_do(arguments):
    with pytest.raises(ValueError, match="Resize"):
        Resize(**arguments)


def test_resizing_keeps_image_and_label_on_each_other():
    label = np.zeros((40, 40), np.uint8)
    label[13:27, 9:30] = 1
    image = (label * 200)[:, :, None]
    for size in ([80, 120], [17, 23]):
        small, ids = Resize(size=size)(image, label)
        agree = ((small[:, :, 0] > 100) == (ids == 1)).mean()
        assert agree > 0.93
        rows = np.flatnonzero(ids.any(axis=1))
        # the middle of the square stays the middle: nearest takes pixel centres
        assert abs((rows[0] + rows[-1] + 1) / 2 / size[0] - 0.5) < 0.5 / size[0] + 1e-9


def test_image_files_are_found_below_a_folder_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("z.PNG", "b/a.jpg", "a.npy", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [p.relative_to(tmp_path).as_posix() for p in image_files(tmp_path)] == [
        "a.npy",
        "b/a.jpg",
        "z.PNG",
    ]
    with pytest.raises(DataError, match="no such folder"):
        image_files(tmp_path / "none")
