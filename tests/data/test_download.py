"""Downloads against a local server: broken, resumed, changed, wrong, hostile."""

import contextlib
import hashlib
import http.server
import io
import os
import random
import tarfile
import threading

import pytest

from paddlefcn.data import download as module
from paddlefcn.data.download import download, download_voc2012, unpack
from paddlefcn.errors import DataError, RunError

CONTENT = random.Random(0).randbytes(300_000)
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves `content`; what it does wrong is set by the attributes."""

    def __init__(self):
        self.content, self.etag = CONTENT, '"one"'
        self.break_after = None  # bytes after which a connection is cut
        self.breaks = 0  # how many more connections are cut
        self.ranges = True
        self.status = None
        self.requests = []


@pytest.fixture
def server():
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests.append(dict(self.headers))
            if state.status:
                self.send_error(state.status)
                return
            start, end = 0, len(state.content)
            wanted = self.headers.get("Range")
            fresh = self.headers.get("If-Range") in (None, state.etag)
            if wanted and state.ranges and fresh:
                start = int(wanted.split("=")[1].rstrip("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(end - start))
            if state.etag:
                self.send_header("ETag", state.etag)
            self.end_headers()
            body = state.content[start:end]
            if state.breaks:
                state.breaks -= 1
                body = body[: state.break_after]
                self.close_connection = True
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_address[1]}/file.tar"
    yield state
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)


@pytest.mark.parametrize("checksum", [MD5, SHA256, None])
def test_a_file_is_fetched_whole_with_progress(server, tmp_path, checksum):
    seen = []
    path = download(
        server.url, tmp_path / "new/a.tar", checksum=checksum, progress=lambda *step: seen.append(step)
    )
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [p.name for p in path.parent.iterdir()] == ["a.tar"]
    assert download(server.url, path, checksum=checksum) == path
    assert len(server.requests) == 1  # it was there


def test_a_broken_connection_is_resumed_where_it_broke(server, tmp_path):
    server.break_after, server.breaks = 100_000, 2
    path = download(server.url, tmp_path / "a.tar", checksum=MD5)
    assert path.read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [None, "bytes=100000-", "bytes=200000-"]
    assert server.requests[1]["If-Range"] == '"one"'


def test_a_later_call_goes_on_from_the_partial_file(server, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        download(server.url, tmp_path / "a.tar", checksum=MD5, progress=interrupt_after(60_000))
    assert not (tmp_path / "a.tar").exists()
    kept = (tmp_path / "a.tar.partial").stat().st_size
    assert kept > 0
    assert download(server.url, tmp_path / "a.tar", checksum=MD5).read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == f"bytes={kept}-"


def interrupt_after(limit):
    def progress(done, total):
        if done >= limit:
            raise KeyboardInterrupt

    return progress


def test_a_file_that_changed_on_the_server_is_fetched_anew(server, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        download(server.url, tmp_path / "a.tar", checksum=MD5, progress=interrupt_after(1))
    server.content, server.etag = CONTENT[::-1], '"two"'
    path = download(server.url, tmp_path / "a.tar", checksum=None)
    assert path.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("change", ["no ranges", "no mark", "weak mark"])
def test_a_server_that_cannot_resume_still_gives_the_file(server, tmp_path, change):
    if change == "no ranges":
        server.ranges = False
    else:
        server.etag = None if change == "no mark" else 'W/"one"'
    server.break_after, server.breaks = 100_000, 1
    assert download(server.url, tmp_path / "a.tar", checksum=MD5).read_bytes() == CONTENT


def test_a_partial_file_longer_than_the_servers_is_dropped(server, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        download(server.url, tmp_path / "a.tar", checksum=MD5, progress=interrupt_after(1))
    with open(tmp_path / "a.tar.partial", "ab") as file:
        file.write(b"x" * 400_000)
    assert download(server.url, tmp_path / "a.tar", checksum=MD5).read_bytes() == CONTENT


def test_a_wrong_checksum_is_said_and_the_file_dropped(server, tmp_path):
    with pytest.raises(DataError, match=r"md5 [0-9a-f]{32}, expected 0{32}"):
        download(server.url, tmp_path / "a.tar", checksum="md5:" + "0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_keeps_breaking_ends_with_what_to_do(server, tmp_path):
    server.break_after, server.breaks = 0, 100
    with pytest.raises(RunError, match=r"broke 5 times.*start again"):
        download(server.url, tmp_path / "a.tar", checksum=MD5)


def test_a_missing_file_and_a_server_error_are_told_apart(server, tmp_path):
    server.status = 404
    with pytest.raises(DataError, match="404"):
        download(server.url, tmp_path / "a.tar", checksum=None)
    assert len(server.requests) == 1
    server.status = 503
    with pytest.raises(RunError, match="503"):
        download(server.url, tmp_path / "a.tar", checksum=None)


def test_too_large_a_file_is_refused(server, tmp_path):
    with pytest.raises(DataError, match="more than the 1000"):
        download(server.url, tmp_path / "a.tar", checksum=None, max_bytes=1000)


def test_odd_addresses_and_checksums_are_refused(tmp_path):
    with pytest.raises(DataError, match="expected an http"):
        download("ftp://nowhere/x", tmp_path / "a", checksum=None)
    with pytest.raises(ValueError, match="checksum"):
        download("http://nowhere/x", tmp_path / "a", checksum="crc:12")


def make_tar(path, *members):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(value)
                tar.addfile(info, io.BytesIO(value))
            else:
                info.linkname = value
                tar.addfile(info)
    return path


FILE = tarfile.REGTYPE
GOOD = ("VOCdevkit/VOC2012/a.txt", FILE, b"good")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
@pytest.mark.parametrize(
    ("member", "words"),
    [
        (("../evil.txt", FILE, b"x"), "leave the target"),
        (("a/../../evil.txt", FILE, b"x"), "leave the target"),
        (("/tmp/evil.txt", FILE, b"x"), "leave the target"),
        (("C:/evil.txt", FILE, b"x"), "leave the target"),
        (("..\\evil.txt", FILE, b"x"), "leave the target"),
        (("link", tarfile.SYMTYPE, "/etc"), "a link"),
        (("hard", tarfile.LNKTYPE, "/etc/passwd"), "a link"),
        (("device", tarfile.CHRTYPE, ""), "a device"),
        (("pipe", tarfile.FIFOTYPE, ""), "a device"),
        (("big", FILE, b"x" * 2000), "more than 1000 bytes"),
    ],
)
def test_a_hostile_archive_is_refused_and_nothing_of_it_unpacked(tmp_path, member, words, name):
    archive = make_tar(tmp_path / name, GOOD, member)
    with pytest.raises(DataError, match=words):
        unpack(archive, tmp_path / "deep/out", max_bytes=1000)
    assert list((tmp_path / "deep/out").iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == [name, "deep"]


def test_too_many_files_and_damaged_archives_are_refused(tmp_path):
    many = make_tar(tmp_path / "many.tar", *[(f"f{i}", FILE, b"") for i in range(20)])
    with pytest.raises(DataError, match="10 files"):
        unpack(many, tmp_path / "out", max_files=10)
    whole = make_tar(tmp_path / "whole.tar", ("f", FILE, b"x" * 50_000)).read_bytes()
    (tmp_path / "short.tar").write_bytes(whole[:20_000])
    (tmp_path / "text.tar").write_bytes(b"hello")
    packed = make_tar(tmp_path / "whole.tar.gz", ("f", FILE, os.urandom(50_000))).read_bytes()
    (tmp_path / "short.gz").write_bytes(packed[:20_000])
    (tmp_path / "spoilt.gz").write_bytes(packed[:20_000] + b"\0" * 3000 + packed[23_000:])
    (tmp_path / "head.gz").write_bytes(packed[:4])
    for name in ("short.tar", "text.tar", "short.gz", "spoilt.gz", "head.gz"):
        with pytest.raises(DataError, match=f"{name}: is no tar file, or damaged"):
            unpack(tmp_path / name, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_link_that_stands_in_the_target_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/VOCdevkit").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="a link stands there"):
        unpack(make_tar(tmp_path / "a.tar", GOOD), tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_good_archive_is_unpacked_beside_what_is_there(tmp_path):
    (tmp_path / "out/VOCdevkit").mkdir(parents=True)
    (tmp_path / "out/VOCdevkit/mine.txt").write_text("kept")
    unpack(make_tar(tmp_path / "a.tar", GOOD), tmp_path / "out")
    assert (tmp_path / "out/VOCdevkit/VOC2012/a.txt").read_bytes() == b"good"
    assert (tmp_path / "out/VOCdevkit/mine.txt").read_text() == "kept"
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["VOCdevkit"]


def test_voc_is_downloaded_once(server, tmp_path, monkeypatch):
    base = "VOCdevkit/VOC2012"
    files = [(f"{base}/ImageSets/x.txt", FILE, b"1"), (f"{base}/JPEGImages/x.jpg", FILE, b"2")]
    server.content = make_tar(tmp_path / "served.tar", *files).read_bytes()
    monkeypatch.setattr(module, "VOC2012_CHECKSUM", "md5:" + hashlib.md5(server.content).hexdigest())
    for _ in range(2):
        folder = download_voc2012(tmp_path / "data", url=server.url)
        assert (folder / "JPEGImages/x.jpg").read_bytes() == b"2"
    assert len(server.requests) == 1
