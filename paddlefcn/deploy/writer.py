"""Writes a network as a program with its preprocessing, and lets it through the gate.

The program takes "image" [N, C, H, W] float32, normalised, of any N, H and W, and returns the main
logits [N, num_classes, H, W] float32, or class ids [N, H, W] int32. Logits keep the decision for the size of
the original image, and the margin between classes; class ids are faster.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from paddle import nn

import paddlefcn
from paddlefcn import ownership
from paddlefcn.deploy.deployment import CHECKSUM_FILE, DEPLOY_FILE, FORMAT_VERSION, Deployment
from paddlefcn.deploy.gate import (
    PARITY_SIZES,
    Parity,
    check_parity,
    cut_images,
    live_logits,
    mean_iou,
    parity_images,
)
from paddlefcn.deploy.predictor import Predictor
from paddlefcn.deploy.programs import OPSET, write_program
from paddlefcn.deploy.targets import Scoring, Target
from paddlefcn.errors import ConfigError, OutputError, RunError
from paddlefcn.files import checksum, naming_errors, naming_full_disk
from paddlefcn.inference import eval_mode
from paddlefcn.label_maps import label_map

if TYPE_CHECKING:
    from paddlefcn.data.datasets import SegmentationDataset

_CALIBRATION = 32  # images for int8
_SCORED = 200  # pairs at most
_LIBRARIES = {
    "paddle": ("paddlepaddle",),
    "onnx": ("paddlepaddle", "paddle2onnx", "onnx", "onnxruntime"),
    "openvino": ("paddlepaddle", "paddle2onnx", "onnx", "openvino"),
}


@dataclass(frozen=True)
class Examples:
    """Images of a data set, for int8's scales and for the loss of low precision.

    Args:
        images: [H, W, C], whose values set the scales of int8.
        pairs: gives (image [H, W, C], label [H, W]) of the split to be scored, anew at each call.
        count: how many pairs there are.
        split: the split's name.
        max_loss: how much mean IoU may be lost, in points of 100.
    """

    images: Sequence[np.ndarray]
    pairs: Callable[[], Any]
    count: int
    split: str
    max_loss: float = 0.5


def choose_examples(training: SegmentationDataset, scored: SegmentationDataset, scoring: Scoring) -> Examples:
    """Images evenly over the training split for int8's scales, and pairs evenly over the one to be scored.

    Raises:
        DataError: an image that cannot be read.
    """
    chosen = [round(i * (len(training) - 1) / (_CALIBRATION - 1)) for i in range(_CALIBRATION)]
    count = min(len(scored), _SCORED)
    places = [round(i * (len(scored) - 1) / max(1, count - 1)) for i in range(count)]
    return Examples(
        images=[training.read(index)[0] for index in sorted(set(chosen))],
        pairs=lambda: (scored.read(index) for index in places),
        count=count,
        split=scoring.split,
        max_loss=scoring.max_loss,
    )


def write_export(
    model: nn.Layer,
    deployment: Deployment,
    folder: Path,
    on_parity: Callable[[Any], None] | None = None,
    *,
    target: Target | None = None,
    examples: Examples | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes program, parameters and deploy.yaml; checks them before `folder` is there.

    Everything is written into a hidden sibling folder, loaded from there as a user would, run with every
    engine that is meant for it against the live network at six sizes, and renamed to `folder` only if all
    agree.

    Args:
        model: the trained network; left in the form and mode it came in.
        deployment: preprocessing and classes for deploy.yaml, without files.
        folder: where it goes; what stands there is replaced, see `check_target`.
        on_parity: called with each engine's figures, and with the line of the scores, as they come.
        target: format, precision and outputs; Paddle, fp32, logits if not given.
        examples: of a data set; int8 needs them.
        more: what deploy.yaml shall hold beside the rest.

    Returns:
        What deploy.yaml holds.

    Raises:
        ConfigError: a target that cannot be.
        RunError: an engine does not agree, or cannot run the program; nothing is left behind.
    """
    target = target or Target()
    _check_wishes(deployment, target, examples)
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(hidden, ignore_errors=True)
    with naming_errors(folder):
        hidden.mkdir(parents=True)
    say = on_parity or (lambda found: None)
    try:
        with eval_mode(model), naming_full_disk(hidden), naming_errors(folder):
            calibration = (
                [deployment.preprocess(image)[None] for image in examples.images] if examples else []
            )
            files = write_program(
                model, target, hidden / "model", deployment.preprocess.channels, calibration
            )
            written = replace(deployment, files=files, target=target)
            _write_deploy_file(hidden, _tree(written, [], None))
            figures = prove(model, deployment, hidden, target, examples, say)
            scores = _scores(model, deployment, hidden, target, examples, say)
            tree = {**_tree(written, figures, scores), **(more or {})}
            with naming_full_disk(hidden), naming_errors(folder):
                _write_deploy_file(hidden, tree)
                _put_in_place(hidden, folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return tree


def prove(
    model: nn.Layer,
    deployment: Deployment,
    folder: Path,
    target: Target,
    examples: Examples | None,
    say: Callable[[Any], None],
) -> list[Parity]:
    """The figures of every engine; RunError if one is beyond its tolerances."""
    figures = []
    # int8 is made for the values of its data set; others must hold anywhere
    shown = parity_images(deployment.preprocess.normalize)
    if target.precision == "int8" and examples is not None:
        shown = cut_images(_endless(examples.images))
    images = [(image, False) for image in shown]
    if deployment.preprocess.resize:
        images.append((images[-1][0], True))
    for name in target.engines:

        def load(name: str = name) -> Callable[[np.ndarray, bool], np.ndarray]:
            return _written_output(Predictor(folder, runtime=name))

        live = live_logits(model, deployment.preprocess)
        found = check_parity(live, load, images, name, target.tolerances)
        figures.append(found)
        say(found)
        if not found.passed:
            raise RunError(f"export failed its parity check, nothing was written: {found}")
    return figures


def _written_output(predictor: Predictor) -> Callable[[np.ndarray, bool], np.ndarray]:
    """As `live_logits`, of what lies on the disk: deploy.yaml's preprocessing, then the program."""

    def run(image: np.ndarray, resized: bool) -> np.ndarray:
        if resized:
            return predictor.output(image)
        return predictor.run(predictor.deployment.preprocess.normalize(image)[None])[0]

    return run


def _scores(
    model: nn.Layer,
    deployment: Deployment,
    folder: Path,
    target: Target,
    examples: Examples | None,
    say: Callable[[Any], None],
) -> dict[str, Any] | None:
    """Mean IoU before and after, for low precision with a data set; RunError beyond the limit."""
    if target.precision == "fp32" or examples is None:
        return None
    live, predictor = live_logits(model, deployment.preprocess), Predictor(folder)
    score = partial(
        mean_iou, num_classes=len(deployment.classes), ignore_index=deployment.classes.ignore_index
    )
    before = score(lambda image: label_map(live(image, True), image.shape[:2]), examples.pairs())
    after = score(predictor.predict, examples.pairs())
    lost = 100 * (before - after)
    where = f"mean IoU on {examples.count} images of {examples.split}"
    line = f"{where}: {before:.4f}, {target.precision} {after:.4f}"
    say(line)
    if not lost <= examples.max_loss:
        raise RunError(
            f"export: {line}: {lost:.2f} points lost, more than --max-loss {examples.max_loss:g}; "
            "nothing was written"
        )
    return {
        "split": examples.split,
        "images": examples.count,
        "mean_iou": before,
        "mean_iou_exported": after,
        "max_loss": examples.max_loss,
    }


def _check_wishes(deployment: Deployment, target: Target, examples: Examples | None) -> None:
    if target.precision == "int8" and examples is None:
        raise ConfigError("export: int8 needs the data set, to set its scales and to score it; data.root")
    if target.outputs == "labels" and deployment.preprocess.resize:
        raise ConfigError(
            "export: --outputs labels goes without Resize in data.val_transforms, because the decision "
            "belongs to the image's own size; export logits"
        )


def _endless(images: Sequence[np.ndarray]) -> Any:
    while True:
        yield from images


def check_target(folder: Path, overwrite: bool) -> None:
    """Refuses a folder that holds anything; with `overwrite`, anything but an export.

    Raises:
        OutputError: one line with the folder and what to do.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"output {folder} is a file; give a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise OutputError(f"output folder {folder} is not empty; choose another or --overwrite")
    ownership.find_own(folder, "export")


def _put_in_place(hidden: Path, folder: Path) -> None:
    """Renames; the files of an export that stood there are taken away only now that the new one is proven."""
    if folder.exists() and any(folder.iterdir()):
        names = [path.name for path in hidden.iterdir()]
        # other files stay, so that the folder cannot be swapped as a whole; deploy.yaml comes last
        ownership.remove(folder, ownership.find_own(folder, "export", names=names))
        for path in sorted(hidden.iterdir(), key=lambda path: path.name == DEPLOY_FILE):
            os.replace(path, folder / path.name)
    else:
        os.replace(hidden, folder)


def _write_deploy_file(folder: Path, tree: dict[str, Any]) -> None:
    """deploy.yaml, and beside it its checksum in the form that `sha256sum -c` reads."""
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=None)
    (folder / DEPLOY_FILE).write_text(text, encoding="utf-8")
    line = f"{checksum(folder / DEPLOY_FILE)}  {DEPLOY_FILE}\n"
    (folder / CHECKSUM_FILE).write_text(line, encoding="utf-8")


def _tree(deployment: Deployment, figures: Sequence[Parity], scores: dict[str, Any] | None) -> dict[str, Any]:
    target = deployment.target
    return {
        "format_version": FORMAT_VERSION,
        "paddlefcn": paddlefcn.__version__,
        "versions": {name: _version(name) for name in _LIBRARIES[target.format]},
        **deployment.to_dict(),
        "input": {"name": "image", "layout": "NCHW", "dtype": "float32"},
        **({} if target.format == "paddle" else {"opset": OPSET}),
        "parity": {
            "sizes": [list(size) for size in PARITY_SIZES],
            "tolerances": asdict(target.tolerances),
            "engines": [found.to_dict() for found in figures],
        },
        "scores": scores,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # paddlepaddle-gpu is the same library
        import paddle

        return paddle.__version__ if name == "paddlepaddle" else None
