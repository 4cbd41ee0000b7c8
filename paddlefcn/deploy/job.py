"""Goes over the images of a prediction, and writes down which are done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

from paddlefcn.bars import bar, say_above
from paddlefcn.deploy.inputs import Input
from paddlefcn.deploy.journal import SHARES_FILE, Journal

# predicts images and writes their files; gives an entry of shares.json, or an `error`, for each
Images = Callable[[Sequence[Input]], Iterator[dict[str, Any]]]


def predict_all(images: Images, inputs: Sequence[Input], journal: Journal) -> dict[str, Any]:
    """Predicts and writes every input; a bad one is reported on stderr and the rest go on.

    Args:
        images: `WholeImages` or `TiledImages`.
        inputs: from `find_inputs`; those that the journal holds are left out.
        journal: of the output folder; finished here, so that shares.json is there.

    Returns:
        What shares.json holds.
    """
    todo = [item for item in inputs if not journal.done(item)]
    with closing(journal):
        with bar(len(inputs), "predict", "image", initial=len(inputs) - len(todo)) as steps:
            for entry in images(todo):
                if "error" in entry:
                    say_above(f"error: {entry['error']}", error=True)
                journal.add(entry)
                steps.update()
        journal.finish(inputs)
    return json.loads((journal.folder / SHARES_FILE).read_text(encoding="utf-8"))
