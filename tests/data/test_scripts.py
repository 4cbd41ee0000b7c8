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
    import numpy as np
    from paddlefcn.data.datasets import Sample, SegmentationDataset
    from paddlefcn.data.images import Normalize
    from paddlefcn.data.labels import LabelReader
    from paddlefcn.data.loader import TrainLoader

    class Mine:
        samples = [Sample("a", None, None)]

        def read_raw(self, index, channels, labels):
            return np.full((2, 2, 1), 3, np.uint8), np.ones((2, 2), np.uint8)

    class Brighter:
        def __call__(self, image, label, rng):
            return image * 2, label

    if __name__ == "__main__":
        dataset, normalize = SegmentationDataset(Mine(), LabelReader(2), 1), Normalize(1, (0,), (1,))
        batch = next(TrainLoader(dataset, [Brighter()], normalize, batch_size=1, num_workers=1).batches())
        print("once", batch.image.ravel(), batch.label.ravel())
"""


def start(tmp_path, code, *words):
    (tmp_path / "mine.py").write_text(textwrap.dedent(code))
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("code", "words", "found"),
    [
        (PLAIN, ("mine.py",), "[0, -1, -2]"),
        (OWN, ("mine.py",), "[6. 6. 6. 6.] [1 1 1 1]"),
        (OWN, ("-m", "mine"), "[6. 6. 6. 6.] [1 1 1 1]"),
    ],
    ids=["without a guard", "with a data set and a transform of its own", "as a module"],
)
def test_a_script_uses_workers(code, words, found, tmp_path):
    assert start(tmp_path, code, *words) == (0, f"once {found}\n", "")


@pytest.mark.parametrize(
    ("code", "words", "message"),
    [
        (
            OWN.replace('__name__ == "__main__"', "True"),
            ("mine.py",),
            'needs `if __name__ == "__main__":` around',
        ),
        (OWN, ("-c", "exec(open('mine.py').read())"), "put its classes at the top of a .py file"),
    ],
    ids=["a script without a guard", "no file, as in a notebook"],
)
def test_classes_that_do_not_reach_the_workers_are_one_line_with_the_way_out(code, words, message, tmp_path):
    returned, out, err = start(tmp_path, code, *words)
    assert (returned, out) == (1, "")
    assert err.count("Traceback") == 1  # of the script itself; its last line:
    assert message in err.splitlines()[-1]
