"""`paddlefcn.predict` and `paddlefcn.infer`: label maps, overlays and class shares of images in files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlefcn import runtime as environment
from paddlefcn.errors import UserError
from paddlefcn.refine.settings import RefineOptions

if TYPE_CHECKING:
    import numpy as np

    from paddlefcn.classes import Classes
    from paddlefcn.config import Config
    from paddlefcn.deploy.inputs import Inputs
    from paddlefcn.deploy.job import Network
    from paddlefcn.deploy.pictures import Wanted
    from paddlefcn.inference import Inference
    from paddlefcn.preprocess import Preprocess
    from paddlefcn.refine.refinement import Refinement
    from paddlefcn.refine.settings import RefineSettings


def predict(
    config: Config,
    weights: str | Path,
    inputs: Inputs,
    output: str | Path,
    *,
    inference: Inference | None = None,
    tile: int | None = None,
    figure: bool = False,
    overlay: bool = True,
    probabilities: bool = False,
    refine: RefineOptions | None = None,
    polygons: str | None = None,
    simplify: float = 0.0,
    overwrite: bool = False,
    resume: bool = False,
    device: str | None = None,
) -> dict[str, Any]:
    """Predicts images with a trained network and writes what it finds.

    Args:
        config: the recipe that the weights were trained with.
        weights: a weight file, a checkpoint folder or a run's folder.
        inputs: an image, a folder of images, a .txt list of images, or several of these.
        output: a new or empty folder: NAME.png (class ids with a palette; NAME.tif for a georeferenced
            TIFF), NAME_overlay.png and shares.json.
        inference: how the network is run; the whole image at once if not given.
        tile: side of the tiles, in pixels, that images are predicted in, for images larger than memory.
        figure: whether a picture with image, map, overlay and shares is written for each image too.
        overlay: whether NAME_overlay.png is written.
        probabilities: whether NAME_probabilities.npy is, float16 [num_classes, H, W].
        refine: CRF, small components, unsure pixels, a map of the confidence; nothing of it if not given.
        polygons: "geojson" or "labelme": NAME.geojson with map coordinates, or NAME.json, too.
        simplify: how many pixels the outlines in these may leave those of the label map.
        overwrite: whether what is in `output` is removed first.
        resume: whether a prediction that was stopped there goes on; one of other weights or options is
            refused.
        device: "cpu", "gpu" or "gpu:N"; a GPU if there is one, if not given.

    Returns:
        What shares.json holds; `unreadable` names the images that could not be used.

    Raises:
        UserError: a recipe, weights or paths that cannot be right.
    """
    from paddlefcn.deploy.inputs import find_inputs, given_paths, keep_sources
    from paddlefcn.deploy.pictures import Wanted

    refine = refine or RefineOptions()
    wanted = Wanted(overlay, figure, probabilities, refine.confidence, polygons, simplify)
    _check_tile(tile, wanted, inference is not None and type(inference).__name__ != "WholeImage")
    keep_sources(output, [*given_paths(inputs), weights, config.file])
    found = find_inputs(inputs, output, wanted.endings)
    environment.select_device(device)
    from paddlefcn.build import validate
    from paddlefcn.files import checksum
    from paddlefcn.weights import resolve_weights

    validate(config)
    network = _trained(config, weights, inference, wanted, tile, refine)
    options = repr((wanted, refine))
    how = [config.to_yaml(), checksum(resolve_weights(weights)), _describe(inference), tile, options]
    return _run(network, found, output, wanted, how, tile=tile, overwrite=overwrite, resume=resume)


def infer(
    model_dir: str | Path,
    inputs: Inputs,
    output: str | Path,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    tile: int | None = None,
    figure: bool = False,
    overlay: bool = True,
    probabilities: bool = False,
    refine: RefineOptions | None = None,
    polygons: str | None = None,
    simplify: float = 0.0,
    overwrite: bool = False,
    resume: bool = False,
    device: str | None = None,
    onednn: bool = True,
    threads: int | None = None,
    runtime: str = "auto",
) -> dict[str, Any]:
    """Predicts images from an export alone; arguments and result as of `predict`.

    Args:
        model_dir: a folder that `export` wrote.
        scales: sizes of the image whose class probabilities are averaged.
        flip: whether each is also seen mirrored.
        onednn: whether a CPU uses oneDNN.
        threads: threads of a CPU; all cores if not given.
        runtime: the engine, of those that passed the gate; "auto" is the fastest of them that is installed.
    """
    from paddlefcn.deploy.deployment import CHECKSUM_FILE, DEPLOY_FILE, load_deployment
    from paddlefcn.deploy.inputs import find_inputs, given_paths, keep_sources
    from paddlefcn.deploy.pictures import Wanted
    from paddlefcn.files import checksum

    refine = refine or RefineOptions()
    wanted = Wanted(overlay, figure, probabilities, refine.confidence, polygons, simplify)
    several = flip or tuple(scales) != (1.0,)
    _check_tile(tile, wanted, several)
    deployment = load_deployment(model_dir)  # what is wrong with the folder is said before paddle is loaded
    if not (Path(model_dir) / CHECKSUM_FILE).is_file():
        print(f"{model_dir}: has no {CHECKSUM_FILE}, so {DEPLOY_FILE} is taken as it is", flush=True)
    keep_sources(output, [*given_paths(inputs), model_dir])
    found = find_inputs(inputs, output, wanted.endings)
    if deployment.target.outputs == "labels":
        if probabilities or several or refine.needs_scores:
            raise UserError(
                "this export returns class ids; --crf, --confidence, --min-confidence, --probabilities, "
                "--multi-scale and --flip need one with --outputs logits"
            )
        if tile and deployment.tiling is not None and not deployment.tiling.exact:
            raise UserError("--tile: this network's tiles are blended, which needs --outputs logits")
    from paddlefcn.deploy.job import Network
    from paddlefcn.deploy.predictor import Predictor, choose_engine
    from paddlefcn.deploy.scales import AveragedScales

    engine = choose_engine(deployment, runtime, onednn)
    chosen = environment.select_device(device) if engine in ("onednn", "native") else device or "cpu"
    predictor = Predictor(deployment, chosen, onednn=onednn, threads=threads, runtime=engine)
    print(f"runtime {engine}, {deployment.target.precision}", flush=True)
    network = Network(
        run=AveragedScales(predictor.run, scales, flip) if several else predictor.run,
        gives="probabilities" if several else deployment.target.outputs,
        preprocess=deployment.preprocess,
        classes=deployment.classes,
        max_pixels=deployment.max_pixels,
        tiling=deployment.tiling,
        refinement=_refinement(deployment.refine, refine, deployment.preprocess, deployment.classes),
    )
    options = repr((wanted, refine, tuple(scales), flip))
    how = [checksum(Path(model_dir) / DEPLOY_FILE), engine, tile, options]
    return _run(network, found, output, wanted, how, tile=tile, overwrite=overwrite, resume=resume)


def _check_tile(tile: int | None, wanted: Wanted, otherwise: bool) -> None:
    """`otherwise`: whether the network is not to see each tile once and whole."""
    if tile is None:
        return
    if not 1 <= tile <= 1 << 16:
        raise UserError(f"--tile {tile}: expected 1 to 65536 pixels")
    if wanted.probabilities or wanted.confidence:
        option = "--probabilities" if wanted.probabilities else "--confidence"
        raise UserError(f"--tile goes without {option}: memory would not hold them")
    if otherwise:
        raise UserError("--tile goes without --sliding, --multi-scale and --flip")


def _trained(
    config: Config,
    weights: str | Path,
    inference: Inference | None,
    wanted: Wanted,
    tile: int | None,
    refine: RefineOptions,
) -> Network:
    """The trained network as the job wants it: scores, or class ids where scores of an image are too many."""
    import paddle

    from paddlefcn.build import build_preprocess
    from paddlefcn.deploy.job import Network
    from paddlefcn.deploy.reach import find_tiling
    from paddlefcn.inference import SlidingWindow, WholeImage
    from paddlefcn.trained import load_network

    preprocess = build_preprocess(config)
    how = inference or WholeImage()
    model = load_network(config, weights)
    tiling = find_tiling(model, preprocess.channels) if tile and not preprocess.resize else None
    # windows are decided band by band, so that an image of any size takes the memory of a row of windows
    by_bands = isinstance(how, SlidingWindow) and not preprocess.resize and not wanted.probabilities
    by_bands = by_bands and not refine.needs_scores

    def run(batch: np.ndarray) -> np.ndarray:
        image = paddle.to_tensor(batch)
        return how.label_map(model, image) if by_bands else how(model, image).numpy()

    return Network(
        run=run,
        gives="labels" if by_bands else "probabilities" if how.probabilities else "logits",
        preprocess=preprocess,
        classes=config.classes,
        max_pixels=config.data.max_pixels,
        tiling=tiling,
        batch=1,
        refinement=_refinement(config.refine, refine, preprocess, config.classes),
    )


def _refinement(
    settings: RefineSettings, options: RefineOptions, preprocess: Preprocess, classes: Classes
) -> Refinement:
    from paddlefcn.refine.refinement import Refinement, white_of

    white = white_of(preprocess.normalize.scale, preprocess.normalize.mean)
    return Refinement(settings, options, classes.ignore_index, white)


def _describe(inference: Any) -> Any:
    """Class and arguments, the same in every process."""
    if not hasattr(inference, "__dict__"):
        return inference
    return [type(inference).__name__, *([name, _describe(value)] for name, value in vars(inference).items())]


def _run(
    network: Network,
    found: Any,
    output: str | Path,
    wanted: Wanted,
    how: list[Any],
    *,
    tile: int | None,
    overwrite: bool,
    resume: bool,
) -> dict[str, Any]:
    from paddlefcn.deploy.job import predict_all
    from paddlefcn.deploy.journal import SHARES_FILE, open_journal

    if tile and network.preprocess.resize:
        raise UserError("--tile goes without Resize in data.val_transforms: tiles are seen at their own size")
    if tile and network.tiling is None:
        raise UserError("--tile: this export does not say how it may be tiled; export again")
    if tile and network.tiling is not None and not network.tiling.exact:
        print(
            "the network sees the whole image at every pixel: tiles are blended, and not equal to the whole",
            flush=True,
        )
    made_by = hashlib.sha256(json.dumps(how).encode("utf-8")).hexdigest()[:32]
    names = [f"{item.name}{ending}" for item in found for ending in (".png", ".tif", *wanted.endings)]
    journal = open_journal(output, made_by, overwrite=overwrite, resume=resume, names=names)
    predict_all(network, found, journal, wanted, tile=tile)
    return json.loads((Path(output) / SHARES_FILE).read_text(encoding="utf-8"))
