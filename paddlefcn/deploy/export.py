"""`paddlefcn.export`: a trained network as a folder that predicts on its own."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Any

from paddlefcn import runtime
from paddlefcn.deploy.targets import Target
from paddlefcn.errors import DataError

if TYPE_CHECKING:
    from paddlefcn.config import Config
    from paddlefcn.deploy.writer import Examples
    from paddlefcn.preprocess import Preprocess

_CALIBRATION = 32  # images, evenly over the training split
_SCORED = 200  # pairs at most, evenly over the split
_MEASURED = 64  # images whose sizes are looked at


def export(
    config: Config,
    weights: str | Path,
    folder: str | Path,
    *,
    overwrite: bool = False,
    device: str | None = None,
    format: str = "paddle",
    precision: str = "fp32",
    outputs: str = "logits",
    max_loss: float = 0.5,
    split: str = "val",
    on_parity: Callable[[Any], None] | None = None,
) -> dict[str, Any]:
    """Exports a trained network and proves that it predicts the same.

    Args:
        config: the recipe that the weights were trained with.
        weights: a weight file, a checkpoint folder or a run's folder.
        folder: where the export goes.
        overwrite: whether an export that stands there is replaced.
        device: where the trained network runs for the comparison; the program does not depend on it, and
            its proof is the two engines of a CPU.
        format: "paddle", "onnx" or "openvino".
        precision: "fp32"; "bf16" (not ONNX) and "int8", which are scored on a split of the data set as well.
        outputs: "logits", or "labels": class ids, decided by the program.
        max_loss: how much mean IoU, in points of 100, bf16 and int8 may lose.
        split: what they are scored on.
        on_parity: called with each engine's figures, and the line of the scores, as they come.

    Returns:
        What deploy.yaml holds: files, preprocessing, classes, parity.

    Raises:
        UserError: the recipe, the weights or the folder cannot be right.
        RunError: an engine disagrees with the network; nothing is written.
    """
    target = Target(format, precision, outputs)
    runtime.select_device(device or "cpu")
    from paddlefcn.build import build_preprocess, validate
    from paddlefcn.deploy.deployment import Deployment
    from paddlefcn.deploy.reach import find_tiling
    from paddlefcn.deploy.writer import check_target, write_export
    from paddlefcn.trained import load_network

    validate(config)
    place = Path(folder)
    check_target(place, overwrite)
    examples = None if precision == "fp32" else _examples(config, split, max_loss)
    model = load_network(config, weights)
    preprocess = build_preprocess(config)
    deployment = Deployment(
        model_type=config.model.type,
        preprocess=preprocess,
        tiling=None if preprocess.resize else find_tiling(model, preprocess.channels),
        classes=config.classes,
        max_pixels=config.data.max_pixels,
        refine=config.refine,
    )
    more: dict[str, Any] = {}
    if target == Target("onnx", outputs=outputs):
        more["tensorrt"] = {"tried": False, "command": _trtexec(config, split, preprocess, place)}
    return write_export(model, deployment, place, on_parity, target=target, examples=examples, more=more)


def _trtexec(config: Config, split: str, preprocess: Preprocess, folder: Path) -> str:
    """The line that makes a TensorRT engine of the ONNX, for the sizes of the images of a split.

    Where there is no data set, for the sizes that the export is checked at.
    """
    from paddlefcn.build import build_dataset
    from paddlefcn.deploy.gate import PARITY_SIZES

    sizes = list(PARITY_SIZES)
    with contextlib.suppress(DataError):
        dataset = build_dataset(config, split)
        images = (dataset.read(index)[0] for index in _evenly(len(dataset), _MEASURED))
        sizes = [preprocess.output_size(*image.shape[:2]) for image in images]
    heights, widths = zip(*sizes)
    shapes = " ".join(
        f"--{name}Shapes=image:1x{preprocess.channels}x{pick(heights)}x{pick(widths)}"
        for name, pick in (("min", min), ("opt", median_low), ("max", max))
    )
    program, engine = (shlex.quote(str(folder / name)) for name in ("model.onnx", "model.plan"))
    return f"trtexec --onnx={program} {shapes} --saveEngine={engine}"


def _evenly(length: int, count: int) -> list[int]:
    """Up to `count` places of 0 to length - 1, both ends among them."""
    return sorted({round(i * (length - 1) / max(1, count - 1)) for i in range(count)})


def _examples(config: Config, split: str, max_loss: float) -> Examples | None:
    """Images of the training split for int8's scales, and pairs to score; None where there is no data set."""
    from paddlefcn.build import build_dataset
    from paddlefcn.deploy.writer import Examples

    try:
        training, scored = build_dataset(config, "train"), build_dataset(config, split)
    except DataError as error:
        print(f"no data set here, so nothing is scored: {error}", flush=True)
        return None
    places = _evenly(len(scored), _SCORED)
    return Examples(
        images=[training.read(index)[0] for index in _evenly(len(training), _CALIBRATION)],
        pairs=lambda: (scored.read(index) for index in places),
        count=len(places),
        split=split,
        max_loss=max_loss,
    )
