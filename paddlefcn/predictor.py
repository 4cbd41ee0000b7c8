"""The deployed side: reads an export folder and predicts; needs no model code.

predictor = Predictor("export/fcn8s_voc")
labels = predictor.predict(read_image("street.jpg", predictor.channels))
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddlefcn import runtime
from paddlefcn.data.images import MAX_PIXELS, Normalize, Resize
from paddlefcn.errors import ConfigError, WeightsError
from paddlefcn.files import read_text
from paddlefcn.label_maps import label_map
from paddlefcn.yaml_files import MAX_BYTES, describe, parse_yaml

DEPLOY_FILE = "deploy.yaml"
# oneDNN keeps kernels for this many image sizes; unlimited, a service fed every size would grow
_CACHED_SHAPES = 16


@dataclass(frozen=True)
class Deployment:
    """What deploy.yaml says: files, preprocessing, classes."""

    model_file: Path
    params_file: Path
    normalize: Normalize
    resize: tuple[Resize, ...]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int
    max_pixels: int


class Predictor:
    """Predicts with Paddle Inference what the trained network predicts.

    Not for several threads at once: make one for each.

    Args:
        model_dir: a folder that `export` wrote.
        device: "cpu", "gpu" or "gpu:N".
        onednn: whether a CPU uses oneDNN, which is about twice as fast.
        threads: threads of a CPU; all cores if not given.

    Raises:
        ConfigError: the folder is no export, or its files do not belong together.
    """

    def __init__(
        self,
        model_dir: str | Path,
        device: str = "cpu",
        onednn: bool = True,
        threads: int | None = None,
    ) -> None:
        self.deployment = load_deployment(model_dir)
        self.classes = self.deployment.classes
        self.channels = self.deployment.normalize.channels
        self._engine = create_engine(
            self.deployment.model_file,
            self.deployment.params_file,
            device=device,
            onednn=onednn,
            threads=threads,
        )

    def predict(self, image: np.ndarray) -> np.ndarray:
        """The class of each pixel.

        Args:
            image: [H, W, C] in RGB order as `paddlefcn.data.images.read_image` gives it.

        Returns:
            [H, W] class ids, uint8 (int32 beyond 256 classes).

        Raises:
            DataError: the image has another number of channels than the network.
        """
        return label_map(self.logits(image), image.shape[:2])

    def logits(self, image: np.ndarray) -> np.ndarray:
        """[num_classes, h, w] float32, at the size that the export's resize steps make of the image."""
        return run_engine(self._engine, prepared(image, self.deployment)[None])[0]


def prepared(image: np.ndarray, deployment: Deployment) -> np.ndarray:
    """[H, W, C] -> [C, h, w] float32, resized and normalised as for the trained network."""
    for step in deployment.resize:
        image, _ = step(image)
    return deployment.normalize(image)


def create_engine(
    model_file: Path,
    params_file: Path,
    *,
    device: str = "cpu",
    onednn: bool = True,
    threads: int | None = None,
) -> Any:
    """A Paddle Inference predictor for the files.

    oneDNN cannot run interpolation in exported programs: Paddle 3.3.1 crashes (Paddle issues
    77340, 79749), 3.2.2 computes align_corners wrongly. An export that holds interpolation is
    therefore run with fused convolutions on oneDNN and the rest native; ours holds none unless the
    network has `align_corners: true`.
    """
    runtime.prepare()
    from paddle import inference

    config = inference.Config(str(model_file), str(params_file))
    config.disable_glog_info()
    kind, _, index = device.partition(":")
    if kind == "gpu":
        config.enable_use_gpu(256, int(index or 0))
    else:
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(threads or _default_threads())
        if onednn:
            config.enable_mkldnn()
            config.set_mkldnn_cache_capacity(_CACHED_SHAPES)
            if b"_interp" in model_file.read_bytes():
                config.delete_pass("onednn_placement_pass")
        else:
            config.disable_mkldnn()
    # the order matters: the memory optimisation of a .json program needs the new executor
    if hasattr(config, "enable_new_executor"):
        config.enable_new_executor(True)
    config.enable_memory_optim()
    try:
        return inference.create_predictor(config)
    except (RuntimeError, ValueError, OSError, NotImplementedError) as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:300]
        raise WeightsError(f"{model_file}, {params_file.name}: Paddle cannot load them ({reason})") from error


def _default_threads() -> int:
    """What the runtime chose, or the user before it: the cores this process may use."""
    chosen = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(chosen) if chosen.isdigit() and int(chosen) else os.cpu_count() or 1


def run_engine(engine: Any, batch: np.ndarray) -> np.ndarray:
    """[N, C, h, w] float32 -> the program's output as it comes."""
    feed = engine.get_input_handle(engine.get_input_names()[0])
    feed.reshape(list(batch.shape))
    feed.copy_from_cpu(np.ascontiguousarray(batch, np.float32))
    engine.run()
    return engine.get_output_handle(engine.get_output_names()[0]).copy_to_cpu()


def load_deployment(model_dir: str | Path) -> Deployment:
    """Reads and checks deploy.yaml; nothing in it can run code.

    Raises:
        ConfigError: one line that names the file, what is wrong and what would be right.
    """
    folder = Path(model_dir)
    file = folder / DEPLOY_FILE
    if not file.is_file():
        raise ConfigError(f"{folder}: no {DEPLOY_FILE} there; give a folder that `export` wrote")
    try:
        tree = parse_yaml(read_text(file, 4 * MAX_BYTES), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{file}: expected a mapping of sections; export again")
    try:
        return _deployment(tree, folder)
    except KeyError as error:
        raise ConfigError(f"{file}: {error.args[0]} is missing; export again") from error
    except ConfigError:
        raise
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:500]
        raise ConfigError(f"{file}: is not as export writes it ({reason}); export again") from error


def _deployment(tree: Mapping[str, Any], folder: Path) -> Deployment:
    files, preprocess = tree["files"], tree["preprocess"]
    classes = tree["classes"]
    if not isinstance(classes, list) or not classes:
        raise ValueError(f"classes: expected a list of names, got {describe(classes)}")
    palette = tuple((int(r), int(g), int(b)) for r, g, b in tree["palette"])
    if not all(0 <= part <= 255 for color in palette for part in color):
        raise ValueError("palette: expected [red, green, blue] of 0 to 255")
    if len(palette) != len(classes):
        raise ValueError(f"palette: {len(palette)} colours for {len(classes)} classes")
    return Deployment(
        model_file=_own_file(folder, files["model"]),
        params_file=_own_file(folder, files["params"]),
        normalize=Normalize.from_dict(preprocess["normalize"]),
        resize=tuple(Resize(**step) for step in preprocess["resize"]),
        classes=tuple(str(name) for name in classes),
        palette=palette,
        ignore_index=int(tree["ignore_index"]),
        max_pixels=int(tree.get("max_pixels", MAX_PIXELS)),
    )


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _own_file(folder: Path, entry: Mapping[str, Any]) -> Path:
    """A file of this very folder, as it was exported: Paddle 2 dies of a damaged one without an error."""
    name, size, wanted = str(entry["name"]), int(entry["bytes"]), str(entry["sha256"])
    if Path(name).name != name:
        raise ValueError(f"files: {name!r} is not a plain file name")
    path = folder / name
    if not path.is_file():
        raise ConfigError(f"{path} is missing; copy the whole export folder")
    if path.stat().st_size != size:
        raise ConfigError(
            f"{path} has {path.stat().st_size} bytes, {DEPLOY_FILE} says {size}; copy or export again"
        )
    if checksum(path) != wanted:
        raise ConfigError(f"{path} is not the file that {DEPLOY_FILE} was written for; copy or export again")
    return path
