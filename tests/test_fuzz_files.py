"""Files of kinds that got through once, made in numbers: pickle graphs, tables of TIFF tags, JPEG scans.

See test_fuzz.py.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
from fuzzing import allowed, bounded_memory, fuzz, mutated  # noqa: F401 - a fixture
from hypothesis import given
from hypothesis import strategies as st
from image_bombs import sizes, tiff
from PIL import Image

from paddlefcn.data.images import read_image, read_mask
from paddlefcn.data.scenes import open_scene
from paddlefcn.weights import read_state_and_metadata
from paddlefcn.weights.foreign import read_foreign

pytestmark = pytest.mark.usefixtures("bounded_memory")


# ---- pickle graphs ---------------------------------------------------------------------------------

GLOBALS = (
    *(b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n"),
    *(b"cnumpy._core.multiarray\n_reconstruct\n", b"ccollections\nOrderedDict\n", b"cbuiltins\ntuple\n"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"c_codecs\nencode\n"),
    *(b"ctorch._utils\n_rebuild_parameter\n", b"cnumpy.core.numeric\n_frombuffer\n", b"cbuiltins\neval\n"),
    *(b"cos\nsystem\n", b"cbuiltins\ngetattr\n", b"c__builtin__\ntuple\n", b"cpaddle.base.core\neager\n"),
)
ATOMS = (
    *(b"N", b"\x88", b"\x89", b"K\x00", b"K\x07", b"M\xff\xff", b"J\xff\xff\xff\x7f", b"]", b"}", b")"),
    *(b"U\x02f4", b"U\x01x", b"X\x03\0\0\0abc", b"C\x04abcd", b"G\x7f\xf0\0\0\0\0\0\0", b"I12\n", b"F1.5\n"),
    *(b"L9999999999999999999999L\n", b"\x8a\x09" + b"\x7f" * 9, b"V\\u00e9\n", b"S'x'\n", b"cnumpy\ndtype\n"),
    *(
        b"B\xff\xff\xff\x7f",
        b"\x8e" + b"\xff" * 8,
        b"\x8d" + b"\xff" * 8,
        b"\x8b\xff\xff\xff\x7f",
        b"I\xb2\n",
    ),
)
MACHINE = (*b"(0123.abdeilopqrstu\x80\x81\x82\x83\x84\x85\x86\x87\x90\x91\x92\x93\x94\x95QPRT",)
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
DTYPE = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR"
FILLED = ARRAY + b"(K\x01K\x02K\x03\x86" + DTYPE + b"\x89C\x18" + bytes(24) + b"tb"


@st.composite
def doubling(draw):
    """A container that holds the one before several times, some levels deep; used as a value or a key."""
    close = draw(st.sampled_from((b"t", b"l", b"\x86", b"d")))
    depth = draw(st.integers(1, 70))
    code = draw(st.sampled_from(ATOMS[:12])) + b"q\x00"
    for level in range(depth):
        again = b"h" + bytes([level % 250])
        code += b"(" * (close != b"\x86") + again + again + close + b"q" + bytes([(level + 1) % 250]) + b"0"
    code += b"h" + bytes([depth % 250])
    return draw(st.sampled_from((code, b"}" + code + b"Ns", b"(" + code + b"N" + b"d", ARRAY + code + b"b")))


@st.composite
def colliding(draw):
    """Many keys of one hash."""
    count, modulus = draw(st.sampled_from((3, 200, 5000))), 2**61 - 1
    kind = draw(st.sampled_from(("int", "tuple", "float", "negative")))
    rows = []
    for index in range(1, count):
        number = index * modulus * (-1 if kind == "negative" else 1)
        raw = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
        key = b"\x8a" + bytes([len(raw)]) + raw
        key = b"G" + struct.pack(">d", float(index << 61)) if kind == "float" else key
        rows.append(key + b"\x85" * (kind == "tuple") + b"N")
    return b"}(" + b"".join(rows) + b"u"


REAL = [
    pickle.dumps({"fc6.conv.weight": np.ones((2, 3), "float32"), "n": [1, (2, "x")]}, protocol=protocol)
    for protocol in (0, 1, 2, 4)
]
pieces = st.one_of(
    st.sampled_from(ATOMS),
    st.sampled_from(GLOBALS),
    st.sampled_from(MACHINE).map(lambda code: bytes([code])),
    st.tuples(st.sampled_from((b"q", b"h", b"r\0\0\0", b"j\0\0\0")), st.integers(0, 5)).map(
        lambda pair: pair[0] + (bytes([pair[1]]) + b"\0\0\0" if len(pair[0]) > 1 else bytes([pair[1]]))
    ),
    st.just(FILLED),
    st.just(b"U\x06weight" + FILLED + b"s"),
    doubling(),
    colliding(),
)
graphs = st.one_of(
    st.lists(pieces, max_size=25).map(lambda parts: b"\x80\x02" + b"".join(parts) + b"."),
    st.lists(pieces, max_size=6).map(lambda parts: b"}" + b"U\x01w".join([b"", *parts]) + b"."),
    doubling().map(lambda code: code + b"."),
    colliding().map(lambda code: code + b"."),
    mutated(REAL),
)


@fuzz
@given(code=graphs, kind=st.sampled_from((".pdparams", ".pdparams", ".pth", "old.pth", ".npz")))
def test_pickle_graphs(code, kind, place):
    path = place / f"graph{kind}"
    if kind == ".pth":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", code)
            archive.writestr("archive/version", "3")
            archive.writestr("archive/data/0", bytes(24))
    elif kind == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(
                "w.npy", b"\x93NUMPY\x01\0v\0" + b"{'descr': '|O', 'shape': (1,)}".ljust(118) + code
            )
    else:
        path.write_bytes(code)
    read = read_foreign if kind.endswith("pth") else read_state_and_metadata
    allowed("pickle graphs", lambda: read(path))


# ---- tables of TIFF tags ---------------------------------------------------------------------------

TAGS = (
    *(254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 282, 284, 317, 320, 322, 323, 324, 325),
    *(330, 338, 339, 347, 530, 700, 33432, 33550, 33922, 34377, 34665, 34675, 34735, 42113, 50838, 65000),
)
VALUES = (0, 1, 2, 3, 5, 7, 8, 9, 16, 32, 255, 65535, 2**16, 2**20, 2**31 - 1, 2**31, 2**32 - 1)


@st.composite
def tag_tables(draw):
    """A small image with tags changed, doubled, aimed at one block, or at each other; in both byte orders."""
    side = draw(st.sampled_from((1, 4, 9, 1000)))
    samples = draw(st.sampled_from((1, 3, 4, 9)))
    compression = draw(st.sampled_from((1, 5, 7, 8, 32773, 34712, 50000)))
    entries = dict.fromkeys(range(0))
    for entry in sizes(side, side, bits=draw(st.sampled_from((1, 8, 16, 32))), samples=samples):
        entries[entry[0]] = entry
    entries |= {259: (259, 3, 1, compression), 273: (273, 4, 1, 8), 279: (279, 4, 1, side * side * samples)}
    tag = st.tuples(
        st.one_of(st.sampled_from(TAGS), st.integers(0, 65535)),
        st.one_of(st.integers(0, 18), st.sampled_from((3, 4, 7))),
        st.sampled_from((0, 1, 1, 2, 3, 100, 65535, 2**20, 2**32 - 1)),
        st.one_of(st.sampled_from(VALUES), st.integers(0, 300)),
    )
    for row in draw(st.lists(tag, max_size=12)):
        entries[row[0]] = row
    for index in range(draw(st.sampled_from((0, 0, 0, 30, 400)))):  # so many tags on one block
        entries[40000 + index] = (40000 + index, draw(st.sampled_from((1, 7, 4))), 2000, 8)
    body = draw(st.sampled_from((bytes(3000), b"\x78\x9c" + bytes(2000), bytes(range(256)) * 8)))
    order = draw(st.sampled_from("<>"))
    rows = [(a, b, c, v & 0xFFFF if b == 3 else v) for a, b, c, v in entries.values()]
    content = bytearray(tiff(rows, body, order))
    if draw(st.booleans()):  # the next page is this one, or anywhere
        content[-4:] = struct.pack(order + "I", draw(st.sampled_from((8 + len(body), 0, 8, 2**31, 12))))
    return bytes(content)


READERS = (
    lambda path: read_image(path, 3, max_pixels=10**6),
    lambda path: read_image(path, 9, max_pixels=10**6),
    lambda path: read_mask(path, 10**6),
    lambda path: _first_rows(path),
)


@fuzz
@given(
    content=st.one_of(tag_tables(), tag_tables().flatmap(lambda table: mutated([table]))),
    read=st.sampled_from(READERS),
)
def test_tables_of_tiff_tags(content, read, place):
    path = place / "table.tif"
    path.write_bytes(content)
    allowed("tables of TIFF tags", lambda: read(path))


def _first_rows(path):
    with open_scene(path, max_pixels=10**6) as scene:
        scene.read_window(0, 0, min(4, scene.height), min(4, scene.width))


# ---- JPEG scans ------------------------------------------------------------------------------------


def _segments(content: bytes) -> list[bytes]:
    """A JPEG cut before every marker that has a length, its scans with their data."""
    found, place = [content[:2]], 2
    while place < len(content) - 1 and content[place] == 0xFF:
        length = int.from_bytes(content[place + 2 : place + 4], "big") if content[place + 1] != 0xD9 else 0
        end = place + 2 + length
        if content[place + 1] == 0xDA:
            while end < len(content) - 1 and not (
                content[end] == 0xFF and content[end + 1] not in (0, *range(0xD0, 0xD8))
            ):
                end += 1
        found.append(content[place:end])
        place = end
    return found


def _pictures() -> list[list[bytes]]:
    rng = np.random.default_rng(0)
    found = []
    for mode, size in (("RGB", (33, 20)), ("L", (64, 64)), ("CMYK", (9, 9))):
        pixels = rng.integers(0, 256, (*size[::-1], len(mode) if mode != "L" else 1), np.uint8).squeeze()
        for options in ({"progressive": True}, {}, {"progressive": True, "subsampling": 2}):
            stream = io.BytesIO()
            Image.fromarray(pixels, mode).save(stream, "JPEG", quality=30, **options)
            found.append(_segments(stream.getvalue()))
    return found


PICTURES = _pictures()
EMPTY = b"\xff\xfe\x00\x02"


@st.composite
def scans(draw):
    """The segments of a JPEG repeated, dropped, moved and put in; its size and components changed."""
    parts = list(draw(st.sampled_from(PICTURES)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(parts) - 1))
        how = draw(st.sampled_from(("repeat", "scans", "drop", "swap", "byte", "comments", "size", "bare")))
        if how == "repeat":
            parts[at:at] = [parts[at]] * draw(st.sampled_from((1, 5, 90, 101, 3000)))
        elif how == "scans":
            last = max((i for i, part in enumerate(parts) if part[1:2] == b"\xda"), default=0)
            head = parts[last][: 2 + int.from_bytes(parts[last][2:4], "big")]
            parts[last:last] = [head] * draw(st.sampled_from((1, 98, 99, 100, 101, 3000)))
        elif how == "drop" and len(parts) > 2:
            del parts[at]
        elif how == "swap":
            other = draw(st.integers(0, len(parts) - 1))
            parts[at], parts[other] = parts[other], parts[at]
        elif how == "byte" and len(parts[at]) > 4:
            spot = draw(st.integers(1, len(parts[at]) - 1))
            value = bytes([draw(st.sampled_from((0, 1, 0x7F, 0xC2, 0xD9, 0xDA, 0xFF)))])
            parts[at] = parts[at][:spot] + value + parts[at][spot + 1 :]
        elif how == "comments":
            parts[1:1] = [EMPTY * draw(st.sampled_from((1, 1000, 60_000)))]
        elif how == "size":
            for index, part in enumerate(parts):
                if part[1:2] in (b"\xc0", b"\xc2"):
                    new = struct.pack(">HH", *(draw(st.sampled_from((0, 1, 33, 1000, 65535))) for _ in "hw"))
                    parts[index] = part[:5] + new + part[9:]
        elif how == "bare":
            parts[at:at] = [bytes([0xFF, draw(st.integers(0, 255))])]
    return b"".join(parts)


@fuzz
@given(content=scans(), inside=st.sampled_from((False, False, False, True)))
def test_scans_of_a_jpeg(content, inside, place):
    path = place / ("scans.tif" if inside else "scans.jpg")
    if inside:
        entries = [(273, 4, 1, 8), (278, 4, 1, 64), (279, 4, 1, len(content))]
        content = tiff([*sizes(64, 64, compression=7), *entries], content)
    path.write_bytes(content)
    allowed("scans of a JPEG", lambda: read_image(path, 3, max_pixels=10**6))
