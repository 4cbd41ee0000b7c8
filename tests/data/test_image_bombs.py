"""Images whose decoding would explode are refused soon, in little memory, here and in workers."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from image_bombs import BOMBS, sizes, tiff
from PIL import Image

from paddlefcn.data.images import read_image
from paddlefcn.data.workers import ordered_map
from paddlefcn.errors import DataError

_READ = """
import resource, sys
from pathlib import Path
from paddlefcn.data.images import read_image
from paddlefcn.errors import DataError
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20),) * 2)
for path in sorted(Path(sys.argv[1]).iterdir()):
    print("at", path, file=sys.stderr, flush=True)
    before = resource.getrusage(resource.RUSAGE_SELF)
    try:
        read_image(path, 1)
        print("read", path.name)
    except DataError as error:
        assert "memory" not in str(error).lower(), error
    after = resource.getrusage(resource.RUSAGE_SELF)
    if after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime > 3:
        print("slow", path.name)
    if after.ru_maxrss - before.ru_maxrss > 200 << 10:
        print("large", path.name, after.ru_maxrss - before.ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited the Linux way")
def test_image_bombs_are_refused_soon_and_in_little_memory(tmp_path):
    for name, make in BOMBS.items():
        (tmp_path / name).write_bytes(make())
    command = [sys.executable, "-c", _READ, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == ""


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB


class _Read:
    def __call__(self, path):
        before = _peak()
        try:
            return read_image(path, 3)
        finally:
            path.with_suffix(".grown").write_text(str(_peak() - before))


def test_a_worker_refuses_a_bomb_and_names_it(tmp_path):
    path = tmp_path / "scans.jpg"
    path.write_bytes(BOMBS["thousands of scans.jpg"]())
    with pytest.raises(DataError, match=r"scans\.jpg: a JPEG of more than 100 scans"):
        list(ordered_map(_Read(), [path], 1))
    assert int(path.with_suffix(".grown").read_text()) < 200 << 10


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_cameras_and_maps_hold_is_still_read(tmp_path, order):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    image = Image.fromarray(noise)
    files = {"progressive.jpg": {"progressive": True}, "plain.jpg": {}, "big.tif": {"big_tiff": True}}
    files |= {"lzw.tif": {"compression": "tiff_lzw"}, "jpeg.tif": {"compression": "jpeg"}}
    for name, options in files.items():
        image.save(tmp_path / name, **options)
        assert read_image(tmp_path / name, 3).shape == (60, 80, 3)
    # a film behind the picture, as telephones write it, may hold anything
    film = np.random.default_rng(1).bytes(20_000) + b"\xff\xda" * 500
    (tmp_path / "film.jpg").write_bytes((tmp_path / "plain.jpg").read_bytes() + film)
    assert read_image(tmp_path / "film.jpg", 3).shape == (60, 80, 3)
    nine = sizes(1, 1, samples=9)
    content = tiff([*nine, (273, 4, 1, 8), (279, 4, 1, 9)], bytes(range(9)) + b"\0", order)
    (tmp_path / "nine.tif").write_bytes(content)
    assert read_image(tmp_path / "nine.tif", 9).ravel().tolist() == list(range(9))


def test_a_large_profile_is_no_bomb(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "TIFF", icc_profile=bytes(10 << 20))
    (tmp_path / "profile.tif").write_bytes(stream.getvalue())
    assert read_image(tmp_path / "profile.tif", 3).shape == (4, 4, 3)


@pytest.mark.skipif(os.name == "nt", reason="no pipes as files")
def test_pipes_and_devices_are_no_images_lists_or_weights(tmp_path):
    from paddlefcn.data.datasets import read_lines
    from paddlefcn.errors import WeightsError
    from paddlefcn.weights import read_state, resolve_weights

    os.mkfifo(tmp_path / "x.png")
    for path in (tmp_path / "x.png", "/dev/zero", "/dev/null"):
        with pytest.raises(DataError, match="pipe or device"):
            read_image(path, 3)
        with pytest.raises(DataError, match="pipe or device"):
            read_lines(path)
        for read in (read_state, resolve_weights):
            with pytest.raises(WeightsError, match="pipe or device"):
                read(path)
