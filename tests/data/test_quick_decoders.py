"""The quick ways into a file give Pillow's pixels, and leave to Pillow whatever is odd or damaged."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from paddlefcn.data.images import read_image, read_mask
from paddlefcn.data.jpeg import decode_jpeg, plain_size
from paddlefcn.data.jpeg_scans import check_scans
from paddlefcn.data.png import SIGNATURE, decode_plain_png
from paddlefcn.errors import DataError

pytest.importorskip("imagecodecs")


def picture(mode="RGB", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    return Image.fromarray(np.kron(pixels, np.ones((9, 8, 1), np.uint8))).convert(mode)


def jpeg(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 30}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_is_what_pillow_reads(mode, options):
    content = jpeg(picture(mode), **options)
    expected = np.asarray(Image.open(io.BytesIO(content)))
    decoded = decode_jpeg(content, *expected.shape[:2])
    np.testing.assert_array_equal(decoded.reshape(expected.shape), expected)


def test_damaged_jpegs_are_what_pillow_makes_of_them(tmp_path):
    content = jpeg(picture())
    assert decode_jpeg(content[:-40], 45, 56) is None
    assert decode_jpeg(content, 45, 57) is None
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read, damaged or truncated"):
        read_image(tmp_path / "a.jpg", 3)
    rng = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(content)
        for place in rng.integers(200, len(content) - 2, 2):
            broken[place] = rng.integers(256)
        decoded = decode_jpeg(bytes(broken), 45, 56)
        if decoded is not None:
            np.testing.assert_array_equal(decoded, np.asarray(Image.open(io.BytesIO(bytes(broken)))))


def test_the_size_is_read_of_plain_jpegs_alone(tmp_path):
    for options in ({}, {"progressive": True}, {"subsampling": 0}):
        assert plain_size(jpeg(picture(), **options)) == (45, 56)
        assert plain_size(jpeg(picture("L"), **options)) == (45, 56)
    turned = Image.Exif()
    turned[0x0112] = 6
    content = jpeg(picture(), exif=turned)
    assert plain_size(content) is None
    (tmp_path / "a.jpg").write_bytes(content)
    assert read_image(tmp_path / "a.jpg", 3).shape == (56, 45, 3)
    assert plain_size(jpeg(picture("CMYK"))) is None
    for length in range(60):
        assert plain_size(jpeg(picture())[:length]) is None
    (tmp_path / "a.jpg").write_bytes(jpeg(picture()))
    with pytest.raises(DataError, match=r"more than data\.max_pixels 100"):
        read_image(tmp_path / "a.jpg", 3, 100)
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.jpg", 3), np.asarray(Image.open(tmp_path / "a.jpg"))
    )


def test_a_picture_is_complete_after_its_one_scan(tmp_path):
    """So the scans of a file whose first one holds all components need no counting: no decoder reads more."""
    content = jpeg(picture())
    expected = np.asarray(Image.open(io.BytesIO(content)))
    start = content.rindex(b"\xff\xda")
    for again in (content[start:-2], content[2:-2]):
        (tmp_path / "a.jpg").write_bytes(content[:-2] + again * 2000 + b"\xff\xd9")
        try:
            np.testing.assert_array_equal(read_image(tmp_path / "a.jpg", 3), expected)
        except DataError as error:
            assert "damaged" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content,
        lambda content: content[:2] + b"\xff" + content[2:],  # a fill byte
        lambda content: content[:2] + b"\xff\xd0" + content[2:],  # a restart out of place
        lambda content: content[:2] + b"\xff\xfe\x00\x00" + content[2:],  # an impossible length
        lambda content: content.replace(b"\xff\xc2", b"\xff\xc9"),  # arithmetic codes
    ],
)
def test_scans_are_counted_whatever_stands_before_them(change):
    content = change(jpeg(picture(), progressive=True))
    start = content.rindex(b"\xff\xda")
    bomb = content[:start] + content[start:-2] * 120 + b"\xff\xd9"
    with pytest.raises(DataError, match="more than 100 scans"):
        check_scans(bomb)
    sizes = struct.pack(">HBHHB", 17, 8, 45, 56, 3) + bytes(9)
    with pytest.raises(DataError, match="more than 100 scans"):  # a second frame that is sequential
        check_scans(content[:2] + b"\xff\xc2" + sizes + bomb[2:])


def plain_png(rows, *, color=3, filters=0, extra=b""):
    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    lines = b"".join(bytes([filters]) + bytes(row) for row in rows)
    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, color, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(range(30))) if color == 3 else b""
    middle = (
        palette + extra + chunk(b"IDAT", zlib.compress(lines)[:9]) + chunk(b"IDAT", zlib.compress(lines)[9:])
    )
    return SIGNATURE + chunk(b"IHDR", head) + middle + chunk(b"IEND", b"")


@pytest.mark.parametrize("color", [0, 3])
def test_a_plain_mask_is_what_pillow_reads(tmp_path, color):
    rows = np.random.default_rng(1).integers(0, 9, (13, 17)).astype(np.uint8)
    content = plain_png(rows, color=color)
    np.testing.assert_array_equal(decode_plain_png(content, 1000)[:, :, 0], rows)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), rows)
    (tmp_path / "a.png").write_bytes(content)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), rows)


def test_other_pngs_are_left_to_pillow(tmp_path):
    rows = [[1, 2, 3]] * 4
    assert decode_plain_png(plain_png(rows, filters=1), 1000) is None
    assert decode_plain_png(plain_png(rows), 11) is None
    exif = struct.pack(">I", 0) + b"eXIf" + struct.pack(">I", zlib.crc32(b"eXIf"))
    assert decode_plain_png(plain_png(rows, extra=exif), 1000) is None
    (tmp_path / "a.png").write_bytes(plain_png(rows, filters=1))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), [[1, 3, 6]] * 4)
    (tmp_path / "a.png").write_bytes(plain_png(rows))
    with pytest.raises(DataError, match=r"more than data\.max_pixels 11"):
        read_mask(tmp_path / "a.png", 11)


def test_a_damaged_plain_png_is_never_read_as_something_else():
    rows = np.random.default_rng(1).integers(0, 9, (13, 17)).astype(np.uint8)
    content = plain_png(rows)
    rng = np.random.default_rng(0)
    for number in range(400):
        broken = bytearray(content)
        broken[rng.integers(8, len(content))] ^= 1 << rng.integers(8)
        broken = broken[: rng.integers(9, len(content))] if number % 4 == 0 else broken
        decoded = decode_plain_png(bytes(broken), 1000)
        assert decoded is None
