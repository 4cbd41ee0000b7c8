"""`paddlefcn.predict` and `paddlefcn.infer`: label maps, overlays and class shares of images in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlefcn import runtime

if TYPE_CHECKING:
    import numpy as np

    from paddlefcn.config import Config
    from paddlefcn.inference import Inference


def predict(
    config: Config,
    weights: str | Path,
    input: str | Path,
    output: str | Path,
    *,
    inference: Inference | None = None,
    figure: bool = False,
    overwrite: bool = False,
    device: str | None = None,
) -> dict[str, Any]:
    """Predicts images with a trained network and writes what it finds.

    Args:
        config: the recipe that the weights were trained with.
        weights: a weight file, a checkpoint folder or a run's folder.
        input: an image, or a folder of images.
        output: a new or empty folder: NAME.png (class ids, palette), NAME_overlay.png and shares.json.
        inference: how the network is run; the whole image at once if not given.
        figure: whether a picture with image, map, overlay and shares is written for each image too.
        overwrite: whether what is in `output` is removed first.
        device: "cpu", "gpu" or "gpu:N"; a GPU if there is one, if not given.

    Returns:
        What shares.json holds; `unreadable` names the images that could not be used.

    Raises:
        UserError: a recipe, weights or paths that cannot be right.
    """
    from paddlefcn.deploy.outputs import find_inputs, keep_sources, predict_all

    keep_sources(output, [input, weights, config.file])
    inputs = find_inputs(input, output, figure=figure)
    runtime.select_device(device)
    import paddle

    from paddlefcn.build import build_preprocess, validate
    from paddlefcn.data.images import read_image
    from paddlefcn.engine.evaluate import predict_label_map
    from paddlefcn.files import open_output
    from paddlefcn.inference import WholeImage
    from paddlefcn.trained import load_network

    validate(config)
    preprocess = build_preprocess(config)
    run = inference or WholeImage()
    model = load_network(config, weights)

    def labels(image: np.ndarray) -> np.ndarray:
        preprocess.check_range(image)
        return predict_label_map(model, paddle.to_tensor(preprocess(image)[None]), run, image.shape[:2])

    return predict_all(
        inputs,
        open_output(output, overwrite),
        read=lambda file: read_image(file, preprocess.channels, config.data.max_pixels),
        predict=labels,
        classes=config.classes,
        figure=figure,
    )


def infer(
    model_dir: str | Path,
    input: str | Path,
    output: str | Path,
    *,
    figure: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    onednn: bool = True,
    threads: int | None = None,
) -> dict[str, Any]:
    """Predicts images from an export alone; arguments and result as of `predict`.

    Args:
        model_dir: a folder that `export` wrote.
        onednn: whether a CPU uses oneDNN.
        threads: threads of a CPU; all cores if not given.
    """
    from paddlefcn.data.images import read_image
    from paddlefcn.deploy.deployment import load_deployment
    from paddlefcn.deploy.outputs import find_inputs, keep_sources, predict_all
    from paddlefcn.deploy.predictor import Predictor
    from paddlefcn.files import open_output

    deployment = load_deployment(model_dir)  # what is wrong with the folder is said before paddle is loaded
    keep_sources(output, [input, model_dir])
    inputs = find_inputs(input, output, figure=figure)
    chosen = runtime.select_device(device)
    predictor = Predictor(deployment, chosen, onednn=onednn, threads=threads)
    return predict_all(
        inputs,
        open_output(output, overwrite),
        read=lambda file: read_image(file, predictor.channels, deployment.max_pixels),
        predict=predictor.predict,
        classes=deployment.classes,
        figure=figure,
    )
