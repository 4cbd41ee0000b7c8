"""Servers that lie, stall and send without end; archives and links that aim at a user's files."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import time

import pytest
from raw_server import RawServer

from paddlefcn.data import download as module
from paddlefcn.data.download import download, unpack
from paddlefcn.errors import DataError, RunError, WeightsError
from paddlefcn.weights.pretrained import fetch

ENDED = (DataError, RunError)
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)


def part(start: int, body: bytes, total: int, *headers: bytes) -> bytes:
    """A 206 answer."""
    head = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n"
    lines = b"".join(header + b"\r\n" for header in headers)
    return head % (start, start + len(body) - 1, total, len(body)) + lines + b"\r\n" + body


def whole(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    """A 200 answer; `length` is what it says if not the truth."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return OK + b"Content-Length: %d\r\n" % (length or len(body)) + lines + b"\r\n" + body


OLD, NEW = b"o" * 300, b"n" * 300


@pytest.mark.parametrize(
    "spliced",
    [
        part(100, NEW[100:], 300, b'ETag: "new"'),
        part(100, NEW[100:], 300),  # an ETag must come again
        part(100, NEW[100:250], 250, b'ETag: "old"'),  # another length than before
        part(100, NEW[100:250], 300, b'ETag: "old"'),  # not to the end
        part(99, NEW[99:], 300, b'ETag: "old"'),
        b"HTTP/1.1 206 X\r\nContent-Range: bytes 100-\xb2/300\r\nContent-Length: 200\r\n\r\n" + NEW[100:],
    ],
    ids=["another ETag", "no ETag", "another length", "a shorter part", "another start", "no range"],
)
def test_an_answer_of_another_file_is_never_put_behind_the_part_that_is_here(tmp_path, spliced):
    broken = whole(OLD[:100], b'ETag: "old"', length=300)
    with RawServer(broken, spliced, whole(NEW, b'ETag: "new"')) as server:
        assert download(server.url, tmp_path / "a.tar", checksum=None).read_bytes() == NEW
    assert b"Range" not in server.requests[2]


def test_a_date_that_is_left_out_of_the_rest_is_no_other_file(tmp_path):
    date = b"Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT"
    with RawServer(whole(OLD[:100], date, length=300), part(100, OLD[100:], 300)) as server:
        assert download(server.url, tmp_path / "a.tar", checksum=None).read_bytes() == OLD


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (OK + b"\r\n" + OLD, "does not say how long"),
        (whole(OLD, length=301), "300 of 301 bytes"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + OLD[:100] + b"\r\n", "IncompleteRead"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 5000, "LineTooLong|Incomplete|ValueError"),
        (OK + b"Content-Length: 0\r\n\r\n", "does not say|empty"),
        (OK + b"Content-Length: \xc2\xb2\r\n\r\nxx", "says a length"),
        (OK + b"Content-Length: -5\r\n\r\n" + OLD, "says a length"),
        (OK + b"Content-Length: 10, 300\r\n\r\n" + OLD, "says a length"),
        (OK + b"Content-Length: 10\r\nContent-Length: 300\r\n\r\n" + OLD, "says a length"),
        (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + OLD, "says a length|Exceeds|ValueError"),
        (whole(OLD, b"Content-Encoding: gzip"), "compresses"),
        (part(0, OLD, 300), "a part where all"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n", "more than 100 headers"),
        (b"HTTP/1.1 \x1b]0;owned\x07\r\n\r\n", "BadStatusLine|broke"),
        (b"\xff\xfe\x00" * 100, "broke"),
        (b"", "broke"),
        (b"HTTP/1.1 302 X\r\nLocation: file:///etc/passwd\r\n\r\n", "not allowed"),
        (b"HTTP/1.1 302 X\r\nLocation: ftp://h/x\r\n\r\n", "refused"),
        (b"HTTP/1.1 302 X\r\nLocation: http://[::1\r\n\r\n", "broke|302"),
        (b"HTTP/1.1 302 X\r\nLocation: /a.tar\r\n\r\n", "redirect"),
    ],
)
def test_a_lying_answer_is_one_line_and_never_a_file(tmp_path, answer, words):
    with RawServer(answer) as server, pytest.raises((DataError, RunError), match=words) as caught:
        download(server.url, tmp_path / "a.tar", checksum=None)
    assert not (tmp_path / "a.tar").exists()
    assert len(str(caught.value)) < 2000
    assert "\n" not in str(caught.value)


def test_without_a_length_a_checksum_tells_that_all_came(tmp_path):
    checksum = "sha256:" + hashlib.sha256(OLD).hexdigest()[:8]  # as torchvision shortens them
    with RawServer(OK + b"\r\n" + OLD) as server:
        assert download(server.url, tmp_path / "a.tar", checksum=checksum).read_bytes() == OLD
        with pytest.raises(DataError, match="expected 00000000"):
            download(server.url, tmp_path / "b.tar", checksum="sha256:00000000")


def test_a_truncated_answer_is_not_kept_as_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("PADDLEFCN_CACHE", str(tmp_path / "cache"))
    with RawServer(OK + b"\r\n" + OLD) as server, pytest.raises(WeightsError, match="does not say how long"):
        fetch(None, server.url, what="--input")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.endswith("a.tar")]


@pytest.mark.parametrize(
    "answer",
    [
        [OK + b"Transfer-Encoding: chunked\r\n\r\n", b"3e8\r\n" + b"x" * 1000 + b"\r\n", ...],
        [OK + b"Content-Length: 1000000000000\r\n\r\n", b"x" * 1000, ...],
        [whole(OLD), b"x" * 1000, ...],
    ],
)
def test_an_endless_answer_is_not_read_beyond_its_limit(tmp_path, answer):
    with RawServer(answer) as server:
        if answer[0] == whole(OLD):  # http.client leaves the rest
            download(server.url, tmp_path / "a.tar", checksum=None, max_bytes=10_000)
        else:
            with pytest.raises(DataError, match="more than the 10000"):
                download(server.url, tmp_path / "a.tar", checksum=None, max_bytes=10_000)
    assert max(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000


@pytest.mark.parametrize(
    "answer",
    [
        [OK + b"Content-Length: 300\r\n\r\n", 30],
        [b"HTTP/1.1 ", 30],
        [OK, *[b"X: y\r\n", 0.03] * 1000],
        [b"HTTP/1.1 100 Continue\r\n\r\n", ...],
        [b"HTTP/1.1 302 X\r\nLocation: /x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", ...],
        [OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n", ...],
        [OK + b"Content-Length: 300000\r\n\r\n", *[b"x", 0.05] * 1000],
    ],
    ids=["no body", "no status", "drip of headers", "100 Continue", "redirection", "trailer", "drip"],
)
def test_a_server_that_stalls_holds_nobody_up(tmp_path, monkeypatch, answer):
    monkeypatch.setattr(module, "_ATTEMPTS", 1)
    start = time.monotonic()
    with (
        RawServer(answer) as server,
        pytest.raises((DataError, RunError), match=r"broke|time is up|redirect"),
    ):
        download(server.url, tmp_path / "a.tar", checksum=None, timeout=0.1, max_seconds=0.5)
    assert time.monotonic() - start < 10


def test_a_slow_server_counts_as_broken(tmp_path, monkeypatch):
    monkeypatch.setattr("paddlefcn.data.stream._WINDOW", 0.1)
    monkeypatch.setattr(module, "_ATTEMPTS", 2)
    answer = [OK + b"Content-Length: 300000\r\n\r\n", *[b"x", 0.05] * 1000]
    with RawServer(answer) as server, pytest.raises(RunError, match="broke 2 times"):
        download(server.url, tmp_path / "a.tar", checksum=None, timeout=5)


# ---- the user's own files --------------------------------------------------------------------------


def test_another_file_that_stands_there_is_neither_used_nor_replaced(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"mine")
    with RawServer(whole(OLD)) as server, pytest.raises(DataError, match=r"expected 0{32}.*move it away"):
        download(server.url, tmp_path / "a.tar", checksum="md5:" + "0" * 32)
    assert (tmp_path / "a.tar").read_bytes() == b"mine"
    assert server.requests == []


@pytest.mark.parametrize("name", ["a.tar", "a.tar.partial", "a.tar.partial.json"])
def test_a_download_follows_no_planted_link(tmp_path, name):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / name).symlink_to(victim)
    with RawServer(whole(OLD)) as server:
        try:
            download(server.url, tmp_path / "d/a.tar", checksum=None)
        except DataError:
            assert (tmp_path / "d" / name).is_symlink()
    assert victim.read_bytes() == b"mine"


def tar_of(path, **files: bytes):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_unpacking_replaces_no_file_of_the_same_name(tmp_path):
    archive = tar_of(tmp_path / "a.tar", new=b"1", set__notes=b"theirs")
    (tmp_path / "out/set").mkdir(parents=True)
    (tmp_path / "out/set/notes").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"another file of this name.*nothing was unpacked"):
        unpack(archive, tmp_path / "out")
    assert (tmp_path / "out/set/notes").read_bytes() == b"mine"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["set"]
    (tmp_path / "out/set/notes").write_bytes(b"theirs")  # as an unpacking that was cut short leaves it
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out/new").read_bytes() == b"1"


def test_unpacking_follows_no_planted_link(tmp_path):
    archive = tar_of(tmp_path / "a.tar", x=b"theirs", deep__x=b"theirs")
    home, out = tmp_path / "home", tmp_path / "out"
    for name in ("home", "out"):
        (tmp_path / name).mkdir()
    (home / "x").write_bytes(b"mine")
    (out / f".{archive.name}.unpacking").symlink_to(home)  # where the folder between used to stand
    unpack(archive, out)
    for link in ("x", "deep"):
        planted = tmp_path / f"out-{link}"
        planted.mkdir()
        (planted / link).symlink_to(home / "nothing" if link == "x" else home)
        with pytest.raises(DataError, match="a link stands there"):
            unpack(archive, planted)
    assert sorted(path.name for path in home.iterdir()) == ["x"]
    assert (home / "x").read_bytes() == b"mine"


def test_what_a_killed_unpacking_left_is_removed_by_the_next(tmp_path):
    archive = tar_of(tmp_path / "a.tar", x=b"1")
    child = os.fork() if hasattr(os, "fork") else None
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    left = tmp_path / "out" / f".a.tar.unpacking-{child}-abc"
    left.mkdir(parents=True)
    own = tmp_path / "out" / f".a.tar.unpacking-{os.getpid()}-abc"
    own.mkdir()
    unpack(archive, tmp_path / "out")
    assert not left.exists()
    assert own.exists()


@pytest.mark.parametrize("name", ["n" * 5000, "/".join("d" * 2 for _ in range(3000)), ".", "", "x" * 256])
def test_names_that_no_disk_takes_are_one_line(tmp_path, name):
    with tarfile.open(tmp_path / "a.tar", "w", errors="surrogateescape") as tar:
        info = tarfile.TarInfo(name)
        tar.addfile(info, io.BytesIO())
    with pytest.raises(DataError) as caught:
        unpack(tmp_path / "a.tar", tmp_path / "out")
    assert len(str(caught.value)) < 1000
    assert list((tmp_path / "out").iterdir()) == []


def test_a_header_without_measure_is_not_read_into_memory(tmp_path):
    import tracemalloc

    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 100 << 20
    with open(tmp_path / "a.tar", "wb") as file:
        file.write(header.tobuf())
        file.truncate(120 << 20)
    tracemalloc.start()
    with pytest.raises(DataError, match="no tar file, or damaged"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()
