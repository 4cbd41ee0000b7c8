"""Writes a network as a Paddle Inference model with its preprocessing, and proves it equal.

The program takes "image" [N, C, H, W] float32, normalised, of any N, H and W, and returns the main
logits [N, num_classes, H, W] float32. Logits and not class ids, because the decision belongs to the
size of the original image, and because a caller may want the margin between classes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import yaml
from paddle import Tensor, nn

import paddlefcn
from paddlefcn.data.images import Normalize, Resize
from paddlefcn.errors import OutputError, RunError
from paddlefcn.files import said
from paddlefcn.inference import eval_mode
from paddlefcn.label_maps import label_map
from paddlefcn.layers import use_export_form
from paddlefcn.predictor import DEPLOY_FILE, checksum, create_engine, run_engine

# odd sizes, no multiple of 32 but one, one side and both smaller than 32
PARITY_SIZES = ((17, 23), (64, 96), (31, 157), (113, 75), (135, 201), (241, 187))
LOGIT_TOLERANCE = 1e-4  # of the largest logit
PIXEL_TOLERANCE = 1e-4  # of the pixels of all sizes together


@dataclass(frozen=True)
class Parity:
    """How far an engine's output is from the live network's, over all sizes.

    `largest_logit_error` is relative to the largest logit of the same image; `pixels_differing`
    leaves out ties, pixels whose two classes are closer than the tolerance.
    """

    engine: str
    largest_logit_error: float
    pixels_differing: int
    ties: int
    pixels: int

    @property
    def passed(self) -> bool:
        """Within both tolerances; never for NaN."""
        close = self.largest_logit_error <= LOGIT_TOLERANCE
        return close and self.pixels_differing <= PIXEL_TOLERANCE * self.pixels

    def __str__(self) -> str:
        return (
            f"{self.engine}: largest logit error {self.largest_logit_error:.1e} of the largest "
            f"logit, {self.pixels_differing} of {self.pixels} pixels differ ({self.ties} ties aside)"
        )


@dataclass(frozen=True)
class Deployable:
    """What stands beside the program: everything a prediction needs but the network."""

    model_type: str
    normalize: Normalize
    resize: tuple[Resize, ...]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int
    max_pixels: int


def export(
    model: nn.Layer,
    about: Deployable,
    folder: Path,
    on_parity: Callable[[Parity], None] | None = None,
) -> list[Parity]:
    """Writes model file, parameters and deploy.yaml; checks them before `folder` is there.

    Everything is written into a hidden sibling folder, run natively and with oneDNN against the
    live network at six sizes, and renamed to `folder` only if both engines agree with it.

    Args:
        model: the trained network; left in the form and mode it came in.
        about: preprocessing and classes for deploy.yaml.
        folder: where it goes; what stands there is replaced, see `check_target`.
        on_parity: called with each engine's figures as they come.

    Raises:
        RunError: an engine does not agree, or cannot run the program; nothing is left behind.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with said(folder):
        partial.mkdir(parents=True)
    try:
        with eval_mode(model):
            save_program(model, partial / "model", about.normalize.channels)
            figures = []
            for engine in ("native", "onednn"):
                found = check_parity(model, partial, about, engine)
                figures.append(found)
                if on_parity is not None:
                    on_parity(found)
                if not found.passed:
                    raise RunError(f"export failed its parity check, nothing was written: {found}")
        _write_deploy_file(partial, about, figures)
        _put_in_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return figures


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


def _put_in_place(partial: Path, folder: Path) -> None:
    """Renames; an export that stood there is taken away only now that the new one is proven."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def save_program(model: nn.Layer, stem: Path, channels: int) -> None:
    """Writes `stem`.json (.pdmodel before Paddle 3) and `stem`.pdiparams."""
    spec = paddle.static.InputSpec([None, channels, None, None], "float32", name="image")
    use_export_form(model, True)
    try:
        paddle.jit.save(_MainLogits(model), str(stem), input_spec=[spec])
    finally:
        use_export_form(model, False)
    # Paddle 2 adds a file of names for training on; no deployment reads it
    stem.with_name(f"{stem.name}.pdiparams.info").unlink(missing_ok=True)


def program_files(folder: Path) -> tuple[Path, Path]:
    """The program and its parameters: `.json` from Paddle 3 on, `.pdmodel` before."""
    new, old = folder / "model.json", folder / "model.pdmodel"
    return (new if new.exists() else old), folder / "model.pdiparams"


def check_parity(
    model: nn.Layer,
    folder: Path,
    about: Deployable,
    engine: str,
    sizes: Sequence[tuple[int, int]] = PARITY_SIZES,
) -> Parity:
    """Runs the written program ("native" or "onednn", on the CPU) against the live network.

    Raises:
        RunError: the engine cannot run the program.
    """
    logit_error, differing, ties, pixels = 0.0, 0, 0, 0
    try:
        runner = create_engine(*program_files(folder), onednn=engine == "onednn")
        for image in parity_images(about.normalize, sizes):
            with paddle.no_grad():
                live = model(paddle.to_tensor(image[None]))[0].numpy()[0]
            error, apart, tied = compare(live, run_engine(runner, image[None])[0])
            logit_error = max(logit_error, error) if error == error else float("nan")
            differing, ties, pixels = differing + apart, ties + tied, pixels + live[0].size
            if error != error:
                break
    except (RuntimeError, NotImplementedError, ValueError, OSError) as problem:
        first = " ".join(str(problem).split())[:300]
        raise RunError(f"export: {engine} cannot run the program: {first}") from problem
    return Parity(engine, logit_error, differing, ties, pixels)


def compare(live: np.ndarray, deployed: np.ndarray) -> tuple[float, int, int]:
    """Largest logit error (relative), pixels that differ, and ties, of two logits [C, H, W]."""
    if live.shape != deployed.shape:
        raise ValueError(f"the program returns shape {deployed.shape}, the network {live.shape}")
    largest = float(np.abs(live).max())
    error = float(np.abs(live - deployed).max())
    ours, theirs = label_map(live), label_map(deployed)
    rows, columns = np.nonzero(ours != theirs)
    best = live[ours[rows, columns], rows, columns]
    margin = best - live[theirs[rows, columns], rows, columns]
    ties = int((margin <= LOGIT_TOLERANCE * largest).sum())
    relative = 0.0 if error == 0 else error / largest if largest else float("inf")
    return relative, len(rows) - ties, ties


def parity_images(normalize: Normalize, sizes: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
    """Blotches with noise, so that there are smooth parts and edges: [C, h, w] normalised."""
    rng = np.random.default_rng(0)
    for height, width in sizes:
        coarse = rng.random((height // 16 + 1, width // 16 + 1, normalize.channels))
        blotches = coarse.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
        noisy = blotches + 0.1 * rng.normal(size=blotches.shape)
        # the range the normalisation expects: as much above zero as scale, or as its mean tells
        top = 255.0 if normalize.scale == 1 else normalize.scale
        yield normalize((np.clip(noisy, 0, 1) * top).astype(np.float32))


class _MainLogits(nn.Layer):
    """The network without its list: what a deployed program returns is one tensor."""

    def __init__(self, model: nn.Layer) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, num_classes, H, W]."""
        return self.model(image)[0]


def _write_deploy_file(folder: Path, about: Deployable, figures: Sequence[Parity]) -> None:
    program, params = program_files(folder)
    tree: dict[str, Any] = {
        "paddlefcn": paddlefcn.__version__,
        "paddle": paddle.__version__,
        "model": about.model_type,
        "files": {"model": _file_entry(program), "params": _file_entry(params)},
        "input": {"name": "image", "layout": "NCHW", "dtype": "float32"},
        "preprocess": {
            "resize": [step.to_dict() for step in about.resize],
            "normalize": about.normalize.to_dict(),
        },
        "output": {"kind": "logits", "size": "of the prepared image"},
        "classes": list(about.classes),
        "palette": [list(colour) for colour in about.palette],
        "ignore_index": about.ignore_index,
        "max_pixels": about.max_pixels,
        "parity": {
            "sizes": [list(size) for size in PARITY_SIZES],
            "logit_tolerance": LOGIT_TOLERANCE,
            "pixel_tolerance": PIXEL_TOLERANCE,
            "engines": [asdict(found) for found in figures],
        },
    }
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=None)
    (folder / DEPLOY_FILE).write_text(text, encoding="utf-8")


def _file_entry(path: Path) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": checksum(path)}
