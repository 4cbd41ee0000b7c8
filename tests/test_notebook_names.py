"""`from paddlefcn import …` in a script or a notebook, before anything has imported paddle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["train", "VGG16"])
def test_a_name_that_needs_paddle_sets_its_threads_before_it_is_imported(name, tmp_path):
    (tmp_path / "paddle.py").write_text(
        "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['GLOG_minloglevel']); raise ImportError"
    )
    kept = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "PYTHONPATH")}
    paths = os.pathsep.join([str(tmp_path), str(REPO)])
    done = subprocess.run(
        [sys.executable, "-c", f"from paddlefcn import {name}"],
        capture_output=True,
        text=True,
        check=False,
        env={**kept, "PYTHONPATH": paths},
    )
    assert done.stdout == f"{len(os.sched_getaffinity(0))} 2\n", done.stderr
    assert "paddle cannot be imported" in done.stderr


def test_a_predictor_is_imported_without_paddle(tmp_path):
    (tmp_path / "paddle.py").write_text("raise SystemExit('imported')")
    paths = os.pathsep.join([str(tmp_path), str(REPO)])
    code = "from paddlefcn import Predictor, infer, load_config, show"
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
