"""Pickles that would hash, print, copy or multiply for ever end as one line, soon and in little memory."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import numpy as np
import pytest
from bombs import BOMBS

# in a process of its own: a bomb that goes off must not take the tests with it
_READ = """
import resource, sys
from pathlib import Path
from paddlefcn.errors import WeightsError
from paddlefcn.weights.foreign import read_foreign
from paddlefcn.weights.state import read_state
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (600 << 20),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for read, path in ((read_state, "x.pdparams"), (read_foreign, "x.pth")):
    for file in sorted(Path(sys.argv[1]).glob("*/" + path)):
        print("at", file, file=sys.stderr, flush=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        try:
            read(file)
            print("read", file.parent.name)
        except WeightsError as error:
            assert len(str(error)) < 1000 and "memory" not in str(error), error
        seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
        if seconds > 5:
            print("slow", file.parent.name, seconds)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited the Linux way")
def test_pickle_bombs_are_refused_soon_and_in_little_memory(tmp_path):
    for name, code in BOMBS.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "x.pdparams").write_bytes(code)
        with zipfile.ZipFile(folder / "x.pth", "w") as archive:
            archive.writestr("archive/data.pkl", code)
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == ""


def test_one_array_under_many_names_is_widened_once(tmp_path):
    import pickle

    from paddlefcn.weights.state import read_state

    array = np.ones(1000, np.uint16)
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps({f"w{i}": array for i in range(50)}, 4))
    state = read_state(tmp_path / "x.pdparams")
    assert len({id(value.base if value.base is not None else value) for value in state.values()}) == 1
