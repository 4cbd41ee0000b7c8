"""Data workers of a script, as users write scripts."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PLAIN = """
    from operator import neg
    from paddlefcn.data.workers import ordered_map

    print("once", list(ordered_map(neg, range(3), 1)))
"""
OWN = """
    from paddlefcn.data.workers import ordered_map

    class Twice:
        def __call__(self, task):
            return 2 * task

    if __name__ == "__main__":
        print("once", list(ordered_map(Twice(), range(3), 1)))
"""


def start(tmp_path, code, *words):
    (tmp_path / "mine.py").write_text(textwrap.dedent(code))
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("code", "words", "found"),
    [
        (PLAIN, ("mine.py",), "[0, -1, -2]"),
        (OWN, ("mine.py",), "[0, 2, 4]"),
        (OWN, ("-m", "mine"), "[0, 2, 4]"),
    ],
    ids=["without a guard", "with a class of its own", "as a module"],
)
def test_a_script_uses_workers(code, words, found, tmp_path):
    assert start(tmp_path, code, *words) == (0, f"once {found}\n", "")


def test_a_script_without_a_guard_whose_class_the_workers_need_is_told_so(tmp_path):
    code, out, err = start(tmp_path, OWN.replace('__name__ == "__main__"', "True"), "mine.py")
    assert code == 1
    assert out == ""
    assert 'needs `if __name__ == "__main__":` around its calls' in err
