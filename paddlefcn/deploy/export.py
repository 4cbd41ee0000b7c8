"""`paddlefcn.export`: a trained network as a folder that predicts on its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlefcn import runtime
from paddlefcn.deploy.options import with_keywords
from paddlefcn.deploy.targets import Scoring, Target
from paddlefcn.errors import DataError

if TYPE_CHECKING:
    from paddlefcn.config import Config
    from paddlefcn.deploy.writer import Examples


def export(
    config: Config,
    weights: str | Path,
    folder: str | Path,
    *,
    target: Target | None = None,
    scoring: Scoring | None = None,
    overwrite: bool = False,
    device: str | None = None,
    on_parity: Callable[[Any], None] | None = None,
    **asked: Any,
) -> dict[str, Any]:
    """Exports a trained network and proves that it predicts the same.

    Args:
        config: the recipe that the weights were trained with.
        weights: a weight file, a checkpoint folder or a run's folder.
        folder: where the export goes.
        target: format, precision and outputs; Paddle, fp32, logits if not given.
        scoring: what bf16 and int8 are scored on, and how much they may lose.
        overwrite: whether an export that stands there is replaced.
        device: where the trained network runs for the comparison; the program does not depend on it, and
            its proof is the two engines of a CPU.
        on_parity: called with each engine's figures, and the line of the scores, as they come.
        asked: fields of target and scoring by their names: `format="onnx", precision="int8"`.

    Returns:
        What deploy.yaml holds: files, preprocessing, classes, parity.

    Raises:
        UserError: the recipe, the weights or the folder cannot be right.
        RunError: an engine disagrees with the network; nothing is written.
        TypeError: a name in `asked` that neither has.
    """
    target, scoring = with_keywords("export", asked, target or Target(), scoring or Scoring())
    runtime.select_device(device or "cpu")
    from paddlefcn.build import build_dataset, validate
    from paddlefcn.deploy.deployment import Deployment
    from paddlefcn.deploy.reach import find_tiling
    from paddlefcn.deploy.tensorrt import trtexec_line
    from paddlefcn.deploy.writer import check_target, write_export
    from paddlefcn.trained import load_trained

    validate(config)
    place = Path(folder)
    check_target(place, overwrite)
    examples = None if target.precision == "fp32" else _examples(config, scoring)
    trained = load_trained(config, weights)
    preprocess = trained.preprocess
    deployment = Deployment(
        model_type=config.model.type,
        preprocess=preprocess,
        tiling=None if preprocess.resize else find_tiling(trained.model, preprocess.channels),
        classes=trained.classes,
        max_pixels=trained.max_pixels,
        refine=trained.refine,
    )
    more: dict[str, Any] = {}
    if (target.format, target.precision) == ("onnx", "fp32"):
        dataset = None
        with contextlib.suppress(DataError):
            dataset = build_dataset(config, scoring.split)
        more["tensorrt"] = {"tried": False, "command": trtexec_line(dataset, preprocess, place)}
    return write_export(
        trained.model, deployment, place, on_parity, target=target, examples=examples, more=more
    )


def _examples(config: Config, scoring: Scoring) -> Examples | None:
    """Images for the scales of int8, and pairs that low precision is scored on; None without a data set."""
    from paddlefcn.build import build_dataset
    from paddlefcn.deploy.writer import choose_examples

    try:
        training, scored = build_dataset(config, "train"), build_dataset(config, scoring.split)
    except DataError as error:
        print(f"no data set here, so nothing is scored: {error}", flush=True)
        return None
    return choose_examples(training, scored, scoring)
