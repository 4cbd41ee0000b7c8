"""Goes over the images of a prediction, and writes down which are done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from paddlefcn.bars import bar, say_above
from paddlefcn.deploy.inputs import Input
from paddlefcn.deploy.journal import SHARES_FILE, Journal, open_journal
from paddlefcn.deploy.network import Network
from paddlefcn.deploy.options import Request
from paddlefcn.deploy.scenes import TiledImages
from paddlefcn.deploy.whole import WholeImages
from paddlefcn.errors import UserError

# predicts images and writes their files; gives an entry of shares.json, or an `error`, for each
Images = Callable[[Sequence[Input]], Iterator[dict[str, Any]]]


def predict_files(
    network: Network, found: Sequence[Input], output: str | Path, request: Request, made_by: list[Any]
) -> dict[str, Any]:
    """Predicts what was found; `made_by` is what predicts, and how: another's output is not gone on with."""
    folder, wanted, tile = Path(output), request.wanted, request.tile
    images: Images = WholeImages(network, folder, wanted)
    if tile:
        if network.preprocess.resize:
            raise UserError(
                "--tile goes without Resize in data.val_transforms: tiles are seen at their own size"
            )
        if network.tiling is None:
            raise UserError("--tile: this export does not say how it may be tiled; export again")
        if not network.tiling.exact:
            seen = "the network sees the whole image at every pixel"
            print(f"{seen}: tiles are blended, and not equal to the whole", flush=True)
        images = TiledImages(network, folder, wanted, tile)
    text = json.dumps([*made_by, tile, repr((wanted, request.refine))])
    journal = open_journal(
        output,
        hashlib.sha256(text.encode("utf-8")).hexdigest()[:32],
        network.classes.names,
        overwrite=request.overwrite,
        resume=request.resume,
        names=[f"{item.name}{ending}" for item in found for ending in (".png", ".tif", *request.endings)],
    )
    return predict_all(images, found, journal)


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
