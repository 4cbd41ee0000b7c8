"""The line that makes a TensorRT engine of an ONNX export. It has not been tried."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING

from paddlefcn.deploy.gate import PARITY_SIZES
from paddlefcn.errors import DataError
from paddlefcn.preprocess import Preprocess

if TYPE_CHECKING:
    from paddlefcn.data.datasets import SegmentationDataset

_MEASURED = 64  # images whose sizes are looked at


def trtexec_line(dataset: SegmentationDataset | None, preprocess: Preprocess, folder: Path) -> str:
    """`trtexec` with the smallest, middle and largest size that the network sees of the data's images.

    Args:
        dataset: whose images are looked at, evenly; the sizes of the gate count where there is none, or
            where an image of it cannot be read.
        preprocess: of the network.
        folder: of the export.
    """
    sizes = list(PARITY_SIZES)
    if dataset is not None and len(dataset):
        last, count = len(dataset) - 1, min(len(dataset), _MEASURED)
        places = sorted({round(index * last / max(1, count - 1)) for index in range(count)})
        with contextlib.suppress(DataError):
            sizes = [preprocess.output_size(*dataset.read(index)[0].shape[:2]) for index in places]
    heights, widths = zip(*sizes)
    shapes = " ".join(
        f"--{name}Shapes=image:1x{preprocess.channels}x{pick(heights)}x{pick(widths)}"
        for name, pick in (("min", min), ("opt", median_low), ("max", max))
    )
    program, engine = (shlex.quote(str(folder / name)) for name in ("model.onnx", "model.plan"))
    return f"trtexec --onnx={program} {shapes} --saveEngine={engine}"
