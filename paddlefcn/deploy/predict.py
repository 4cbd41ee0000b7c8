"""`paddlefcn.predict` and `paddlefcn.infer`: label maps, overlays and class shares of images in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlefcn import runtime
from paddlefcn.deploy.options import EngineOptions, Request, Views, with_keywords
from paddlefcn.errors import UserError

if TYPE_CHECKING:
    from paddlefcn.config import Config
    from paddlefcn.deploy.deployment import Deployment
    from paddlefcn.deploy.inputs import Inputs
    from paddlefcn.inference import Inference


def predict(
    config: Config,
    weights: str | Path,
    inputs: Inputs,
    output: str | Path,
    *,
    inference: Inference | None = None,
    request: Request | None = None,
    device: str | None = None,
    **asked: Any,
) -> dict[str, Any]:
    """Predicts images with a trained network and writes what it finds.

    Args:
        config: the recipe that the weights were trained with.
        weights: a weight file, a checkpoint folder or a run's folder.
        inputs: an image, a folder of images, a .txt list of images, or several of these.
        output: a new or empty folder: NAME.png (class ids with a palette; NAME.tif for a georeferenced
            TIFF), NAME_overlay.png and shares.json.
        inference: how the network is run; the whole image at once if not given.
        request: what is written, refinement, tiles, whether to go on or to replace; see
            `deploy.options.Request`.
        device: "cpu", "gpu" or "gpu:N"; a GPU if there is one, if not given.
        asked: fields of the request by their names: `tile=512, figure=True, overwrite=True`.

    Returns:
        What shares.json holds; `unreadable` names the images that could not be used.

    Raises:
        UserError: a recipe, weights or paths that cannot be right.
        TypeError: a name in `asked` that a request does not have.
    """
    from paddlefcn import build
    from paddlefcn.deploy.inputs import find_inputs, given_paths, keep_sources
    from paddlefcn.deploy.job import predict_files
    from paddlefcn.deploy.network import trained_network
    from paddlefcn.files import checksum
    from paddlefcn.inference import WholeImage
    from paddlefcn.trained import load_trained
    from paddlefcn.weights import resolve_weights

    (request,) = with_keywords("predict", asked, request or Request())
    inference = inference or WholeImage()
    request.check_views(isinstance(inference, WholeImage))
    keep_sources(output, [*given_paths(inputs), weights, config.file])
    found = find_inputs(inputs, output, request.endings)
    runtime.select_device(device)
    build.validate(config)
    made_by = [config.to_yaml(), checksum(resolve_weights(weights)), inference.to_dict()]
    trained = load_trained(config, weights)
    network = trained_network(trained, inference, request, len(found))
    return predict_files(network, found, output, request, made_by)


def infer(
    model_dir: str | Path,
    inputs: Inputs,
    output: str | Path,
    *,
    views: Views | None = None,
    request: Request | None = None,
    engine: EngineOptions | None = None,
    device: str | None = None,
    **asked: Any,
) -> dict[str, Any]:
    """Predicts images from an export alone; inputs, output, request and result as of `predict`.

    Args:
        model_dir: a folder that `export` wrote.
        views: sizes and mirror images whose class probabilities are averaged; the image as it is if not
            given.
        engine: what runs the export.
        device: "cpu", "gpu" or "gpu:N"; a GPU if there is one and the engine is Paddle's, if not given.
        asked: fields of views, request and engine by their names: `scales=(0.75, 1.0), tile=512, threads=2`.
    """
    from paddlefcn.deploy.deployment import CHECKSUM_FILE, DEPLOY_FILE, load_deployment
    from paddlefcn.deploy.inputs import find_inputs, given_paths, keep_sources
    from paddlefcn.deploy.job import predict_files
    from paddlefcn.deploy.network import exported_network
    from paddlefcn.files import checksum

    views, request, engine = with_keywords(
        "infer", asked, views or Views(), request or Request(), engine or EngineOptions()
    )
    request.check_views(views.once)
    deployment = load_deployment(model_dir)  # what is wrong with the folder is said before paddle is loaded
    if not (Path(model_dir) / CHECKSUM_FILE).is_file():
        print(f"{model_dir}: has no {CHECKSUM_FILE}, so {DEPLOY_FILE} is taken as it is", flush=True)
    keep_sources(output, [*given_paths(inputs), model_dir])
    found = find_inputs(inputs, output, request.endings)
    if deployment.target.outputs == "labels":
        _check_labels_suffice(deployment, views, request)
    from paddlefcn.deploy.predictor import Predictor, choose_engine

    chosen = choose_engine(deployment, engine.runtime, engine.onednn)
    place = runtime.select_device(device) if chosen in ("onednn", "native") else device or "cpu"
    predictor = Predictor(deployment, place, onednn=engine.onednn, threads=engine.threads, runtime=chosen)
    print(f"runtime {chosen}, {deployment.target.precision}", flush=True)
    made_by = [checksum(Path(model_dir) / DEPLOY_FILE), chosen, repr(views)]
    network = exported_network(predictor, views, request)
    return predict_files(network, found, output, request, made_by)


def _check_labels_suffice(deployment: Deployment, views: Views, request: Request) -> None:
    """Of an export that returns class ids."""
    if request.needs_scores or not views.once:
        raise UserError(
            "this export returns class ids; --crf, --confidence, --min-confidence, --probabilities, "
            "--multi-scale and --flip need one with --outputs logits"
        )
    if request.tile and deployment.tiling is not None and not deployment.tiling.exact:
        raise UserError("--tile: this network's tiles are blended, which needs --outputs logits")
