"""`paddlefcn.export`: a trained network as a folder that predicts on its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlefcn import runtime

if TYPE_CHECKING:
    from paddlefcn.config import Config
    from paddlefcn.deploy.gate import Parity


def export(
    config: Config,
    weights: str | Path,
    folder: str | Path,
    *,
    overwrite: bool = False,
    device: str | None = None,
    on_parity: Callable[[Parity], None] | None = None,
) -> dict[str, Any]:
    """Exports a trained network and proves that it predicts the same.

    Args:
        config: the recipe that the weights were trained with.
        weights: a weight file, a checkpoint folder or a run's folder.
        folder: where the export goes.
        overwrite: whether an export that stands there is replaced.
        device: where the trained network runs for the comparison; the program does not depend on it, and
            its proof is the two engines of a CPU.
        on_parity: called with each engine's figures as they come.

    Returns:
        What deploy.yaml holds: files, preprocessing, classes, parity.

    Raises:
        UserError: the recipe, the weights or the folder cannot be right.
        RunError: an engine disagrees with the network; nothing is written.
    """
    runtime.select_device(device or "cpu")
    from paddlefcn.build import build_preprocess, validate
    from paddlefcn.deploy.deployment import Deployment
    from paddlefcn.deploy.reach import find_tiling
    from paddlefcn.deploy.writer import check_target, write_export
    from paddlefcn.trained import load_network

    validate(config)
    target = Path(folder)
    check_target(target, overwrite)
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
    return write_export(model, deployment, target, on_parity)
