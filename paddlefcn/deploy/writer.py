"""Writes a network as a Paddle Inference model with its preprocessing, and proves it equal.

The program takes "image" [N, C, H, W] float32, normalised, of any N, H and W, and returns the main
logits [N, num_classes, H, W] float32. Logits and not class ids, because the decision belongs to the
size of the original image, and because a caller may want the margin between classes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import paddle
import yaml
from paddle import Tensor, nn

import paddlefcn
from paddlefcn.deploy.deployment import DEPLOY_FILE, Deployment
from paddlefcn.deploy.engines import PaddleEngine
from paddlefcn.deploy.gate import LOGIT_TOLERANCE, PARITY_SIZES, PIXEL_TOLERANCE, Parity, check_parity
from paddlefcn.errors import OutputError, RunError
from paddlefcn.files import naming_errors
from paddlefcn.inference import eval_mode
from paddlefcn.layers import use_export_form


def write_export(
    model: nn.Layer,
    deployment: Deployment,
    folder: Path,
    on_parity: Callable[[Parity], None] | None = None,
) -> dict[str, Any]:
    """Writes model file, parameters and deploy.yaml; checks them before `folder` is there.

    Everything is written into a hidden sibling folder, run natively and with oneDNN against the
    live network at six sizes, and renamed to `folder` only if both engines agree with it.

    Args:
        model: the trained network; left in the form and mode it came in.
        deployment: preprocessing and classes for deploy.yaml, without files.
        folder: where it goes; what stands there is replaced, see `check_target`.
        on_parity: called with each engine's figures as they come.

    Returns:
        What deploy.yaml holds.

    Raises:
        RunError: an engine does not agree, or cannot run the program; nothing is left behind.
    """
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(hidden, ignore_errors=True)
    with naming_errors(folder):
        hidden.mkdir(parents=True)
    try:
        with eval_mode(model):
            files = save_program(model, hidden / "model", deployment.preprocess.channels)
            figures = []
            for name in ("native", "onednn"):
                engine = partial(PaddleEngine, *files, onednn=name == "onednn")
                found = check_parity(model, engine, deployment.preprocess.normalize, name)
                figures.append(found)
                if on_parity is not None:
                    on_parity(found)
                if not found.passed:
                    raise RunError(f"export failed its parity check, nothing was written: {found}")
        tree = _tree(replace(deployment, files=dict(zip(("model", "params"), files))), figures)
        text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=None)
        (hidden / DEPLOY_FILE).write_text(text, encoding="utf-8")
        _put_in_place(hidden, folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return tree


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
    if not (folder / DEPLOY_FILE).is_file():
        raise OutputError(f"output folder {folder} holds no export to overwrite; choose another")


def _put_in_place(hidden: Path, folder: Path) -> None:
    """Renames; an export that stood there is taken away only now that the new one is proven."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(hidden, folder)
    shutil.rmtree(old, ignore_errors=True)


def save_program(model: nn.Layer, stem: Path, channels: int) -> tuple[Path, Path]:
    """Writes `stem`.json (.pdmodel before Paddle 3) and `stem`.pdiparams; returns both."""
    spec = paddle.static.InputSpec([None, channels, None, None], "float32", name="image")
    use_export_form(model, True)
    try:
        paddle.jit.save(_MainLogits(model), str(stem), input_spec=[spec])
    finally:
        use_export_form(model, False)
    # Paddle 2 adds a file of names for training on; no deployment reads it
    stem.with_name(f"{stem.name}.pdiparams.info").unlink(missing_ok=True)
    new, old = (stem.with_name(f"{stem.name}{ending}") for ending in (".json", ".pdmodel"))
    return (new if new.exists() else old), stem.with_name(f"{stem.name}.pdiparams")


class _MainLogits(nn.Layer):
    """The network without its list: what a deployed program returns is one tensor."""

    def __init__(self, model: nn.Layer) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, num_classes, H, W]."""
        return self.model(image)[0]


def _tree(deployment: Deployment, figures: Sequence[Parity]) -> dict[str, Any]:
    return {
        "paddlefcn": paddlefcn.__version__,
        "paddle": paddle.__version__,
        **deployment.to_dict(),
        "input": {"name": "image", "layout": "NCHW", "dtype": "float32"},
        "output": {"kind": "logits", "size": "of the prepared image"},
        "parity": {
            "sizes": [list(size) for size in PARITY_SIZES],
            "logit_tolerance": LOGIT_TOLERANCE,
            "pixel_tolerance": PIXEL_TOLERANCE,
            "engines": [asdict(found) for found in figures],
        },
    }
