"""Texts of kinds that got through once, made in numbers: explicit YAML tags, numbers, headers of HTTP.

See test_fuzz.py.
"""

from __future__ import annotations

import copy

import pytest
import yaml
from fuzzing import allowed, bounded_memory, fuzz  # noqa: F401 - a fixture
from hypothesis import given
from hypothesis import strategies as st
from raw_server import RawServer
from test_fuzz import DEPLOY, RECIPES, spots

from paddlefcn import build
from paddlefcn.config import load_config
from paddlefcn.config.recipe import parse_config
from paddlefcn.data import download as downloads
from paddlefcn.deploy.deployment import load_deployment
from paddlefcn.yaml_files import apply_options

pytestmark = pytest.mark.usefixtures("bounded_memory")


# ---- explicit YAML tags ----------------------------------------------------------------------------

NAMES = (
    *("bool", "int", "float", "str", "null", "seq", "map", "set", "omap", "pairs", "binary", "timestamp"),
    *("value", "merge", "yaml", "python/none", "python/tuple", "python/dict", "python/name:os.system"),
    *("python/object:os.x", "python/object/apply:os.system", "python/object/new:subprocess.Popen"),
    *("python/module:os", "python/complex", "python/long", "python/bytes", "python/unicode"),
)
tags = st.one_of(
    st.sampled_from(NAMES).map("!!{}".format),
    st.sampled_from(NAMES).map("!<tag:yaml.org,2002:{}>".format),
    st.sampled_from(
        ("!", "!local", "!e!x", "!<x>", "!<", "!!", "!!%", "!!é", "!!int !!str", "&a !!int", "!!int &a")
    ),
)
contents = st.one_of(
    st.sampled_from(
        ("maybe", "x", "", "''", "1:30", "=", "~", "yes", "0x", "0b2", "1_0", "2001-01-01", "²", "<<")
    ),
    st.sampled_from(
        ("[x]", "{x: y}", "{x}", "[a: 1]", "[[ls]]", "*a", "|\n   x", "? [a]", "[1, 1]", "aGk=", ".nan")
    ),
    st.text(max_size=6),
    st.integers(0, 600).map(lambda count: "9" * count),
)
HEADS = st.sampled_from(
    ("", "", "", "%YAML 1.1\n---\n", "%YAML 9.9\n---\n", "%TAG ! tag:x,1:\n---\n", "---\n")
)
MARKED = "odd-value-here"


@fuzz
@given(
    data=st.data(),
    tag=tags,
    content=contents,
    head=HEADS,
    end=st.sampled_from(("", "", "...\n", "---\na: 1\n")),
)
def test_explicit_yaml_tags(data, tag, content, head, end, place):
    tree = copy.deepcopy(data.draw(st.sampled_from([*RECIPES, DEPLOY])))
    path = data.draw(st.sampled_from(spots(tree)))
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = MARKED
    text = yaml.safe_dump(tree, default_flow_style=data.draw(st.sampled_from((None, True))), width=10**6)
    text = head + text.replace(MARKED, f"{tag} {content}") + end
    if "files" in tree:
        folder = place / "export"
        folder.mkdir(exist_ok=True)
        for name in ("model.json", "model.pdiparams"):
            (folder / name).touch()
        (folder / "deploy.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
        allowed("explicit YAML tags", lambda: load_deployment(folder))
    else:
        (place / "tags.yml").write_text(text, encoding="utf-8", errors="surrogatepass")
        allowed("explicit YAML tags", lambda: build.validate(load_config(place / "tags.yml")))


# ---- numbers as text -------------------------------------------------------------------------------

DIGITS = st.sampled_from("0123456789٣１²Ⅷ_")
numbers = st.one_of(
    st.text(DIGITS, min_size=1, max_size=6),
    st.tuples(
        st.sampled_from(("", "-", "+", "0x", "0b", "0o", "0")), st.text("0123456789abcdef_", max_size=30)
    ).map("".join),
    st.tuples(st.integers(-5, 5), st.sampled_from(("e", "E", "e+", "e-", ".e")), st.integers(0, 500)).map(
        lambda parts: "".join(map(str, parts))
    ),
    st.sampled_from(
        (
            ".nan",
            ".NaN",
            "nan",
            ".inf",
            "-.inf",
            "inf",
            "Infinity",
            "1:30",
            "1:30.5",
            "1,000",
            "½",
            "-0",
            "0.0",
        )
    ),
    st.integers(1, 600).map(lambda count: "9" * count),
    st.integers(1, 600).map(lambda count: "0." + "0" * count + "1"),
    st.sampled_from((2**31, 2**31 - 1, 2**32, 2**53 + 1, 2**63, 2**64, 10**30, 10**39)).map(str),
    st.integers(-(10**6), 10**6).map("'{}'".format),
)


def number_places() -> list[tuple[dict, str]]:
    """Every place of a recipe where a number stands."""
    found = []
    for tree in RECIPES:
        for path in spots(tree):
            node = tree
            for key in path:
                node = node[key]
            if isinstance(node, (int, float)) and not isinstance(node, bool):
                found.append((tree, ".".join(map(str, path))))
    return found


PLACES = [
    *number_places(),
    *(
        (RECIPES[-1], key)
        for key in ("train.on_nan", "data.label_map.7", "data.train_transforms.²", "loss.٣.type")
    ),
    *((RECIPES[-1], f"schedule.{key}") for key in ("end", "warmup_ratio", "learning_rate", "power")),
    *((RECIPES[-1], f"optimizer.{key}") for key in ("clip_norm", "head_lr_factor", "bias_lr_factor")),
    *((RECIPES[-1], f"train.{key}") for key in ("early_stop", "swa_every", "swa_batches", "accumulate")),
]


@fuzz
@given(
    case=st.sampled_from(PLACES), text=numbers, wrapped=st.sampled_from(("{}", "{}", "{}", "[{}]", "skip {}"))
)
def test_numbers_as_text(case, text, wrapped):
    tree, key = case
    option = f"{key}={wrapped.format(text)}"

    def read():
        build.validate(parse_config(apply_options(copy.deepcopy(tree), [option]), "fuzz.yml"))

    allowed("numbers as text", read)


# ---- headers of HTTP -------------------------------------------------------------------------------

BODY = b"0123456789" * 30
FIELDS = (
    *(b"Content-Length", b"Content-Range", b"ETag", b"Last-Modified", b"Transfer-Encoding", b"Location"),
    *(
        b"Content-Encoding",
        b"Connection",
        b"Accept-Ranges",
        b"Content-Type",
        b"X",
        b"",
        b" x",
        b"Retry-After",
    ),
)
ENTRIES = (
    *(
        b"300",
        b"0",
        b"-1",
        b"299",
        b"301",
        b"+300",
        b"3e2",
        b"0300",
        b" 300 ",
        b"300, 300",
        b"\xc2\xb2",
        b"\xb2",
    ),
    *(b"bytes 0-299/300", b"bytes 100-299/300", b"bytes 100-99/300", b"bytes */300", b"bytes 0-/300", b"x"),
    *(
        b'"a"',
        b'W/"a"',
        b'""',
        b"chunked",
        b"gzip",
        b"identity",
        b"chunked, gzip",
        b"/a.tar",
        b"//127.0.0.1:9/x",
        b"",
    ),
    *(
        b"http://[::1",
        b"file:///etc/passwd",
        b"http://127.0.0.1:99999/",
        b"http://\xff/",
        b"9" * 5000,
        b"a" * 70_000,
    ),
    *(
        b"Wed, 21 Oct 2015 07:28:00 GMT",
        b"\x1b[2J",
        b"\0",
        b"bytes \xd9\xa3-5/9",
        b"bytes 0-299/" + b"9" * 400,
    ),
)
STATUS = (
    *(
        b"200 OK",
        b"206 Partial Content",
        b"301 X",
        b"302 X",
        b"304 X",
        b"307 X",
        b"404 X",
        b"416 X",
        b"500 X",
        b"503 X",
    ),
    *(b"", b"99 X", b"1000 X", b"\xb2\xb2\xb2 X", b"200", b"-200 X", b"100 Continue", b"\x1b]0;x\x07"),
)
headers = st.lists(st.tuples(st.sampled_from(FIELDS), st.sampled_from(ENTRIES)), max_size=5)


@st.composite
def answers(draw):
    """An answer of any status, headers and body, well-formed but for one thing, or cut anywhere."""
    status = draw(st.one_of(st.just(b"200 OK"), st.just(b"206 Partial Content"), st.sampled_from(STATUS)))
    lines = [field + b": " + value for field, value in draw(headers)]
    if draw(st.booleans()):
        lines.insert(0, b"Content-Length: 300")
    if draw(st.booleans()):
        lines.append(b"X: y" if draw(st.booleans()) else b"no colon")
    lines *= draw(st.sampled_from((1, 1, 1, 150)))
    end = draw(st.sampled_from((b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r")))
    version = draw(st.sampled_from((b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9", b"FTP")))
    body = draw(
        st.sampled_from((BODY, BODY, BODY[:100], b"", b"12c\r\n" + BODY + b"\r\n0\r\n\r\n", b"zz\r\n"))
    )
    content = version + b" " + status + end + end.join([*lines, b"", b""]) + body
    return content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 5)) == 0 else content


@pytest.fixture
def quick_network(monkeypatch):
    """Nobody waits between attempts."""
    monkeypatch.setattr(downloads.time, "sleep", lambda seconds: None)


@fuzz
@given(first=answers(), then=answers())
def test_headers_of_http(first, then, place, quick_network):
    target = place / "a.tar"
    for path in place.glob("*a.tar*"):
        path.unlink()

    def fetch():
        with RawServer(first, then) as server:
            got = downloads.download(server.url, target, checksum=None, timeout=2)
            whole = BODY, BODY[:100], b""
            assert got.read_bytes() in (
                *whole,
                *(content[: got.stat().st_size] for content in whole),
            ) or _is_raw(got)

    allowed("headers of HTTP", fetch)
    if not target.exists():
        assert not [path for path in place.glob("a.tar") if path.is_file()]


def _is_raw(path) -> bool:
    """Bytes of an answer that said nothing about them."""
    return path.stat().st_size <= 400
