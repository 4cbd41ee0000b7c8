"""The deployed side: reads an export folder and predicts; needs no model code.

predictor = Predictor("export/fcn8s_voc")
labels = predictor.predict(read_image("street.jpg", predictor.channels))
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from paddlefcn.data.images import read_image
from paddlefcn.deploy.deployment import Deployment, load_deployment
from paddlefcn.deploy.engines import create_engine
from paddlefcn.deploy.targets import MODULES
from paddlefcn.errors import ConfigError, DataError
from paddlefcn.label_maps import label_map, resized_scores, softmax


class Predictor:
    """Predicts with an export's engine what the trained network predicts; the same call for every runtime.

    One predictor serves any number of threads: the network runs for one of them at a time, with all
    its own threads (ONNX Runtime for several); preparing images and deciding classes goes on beside it.

    Args:
        model_dir: a folder that `export` wrote, or what `load_deployment` read of it.
        device: "cpu", "gpu" or "gpu:N"; a GPU for Paddle exports alone.
        onednn: whether Paddle uses oneDNN on a CPU, which is about twice as fast.
        threads: threads of a CPU; all cores if not given.
        runtime: an engine of those in `deployment.engines`, or "auto": the first that is installed, which is
            the one that was the fastest when it was exported.

    Raises:
        ConfigError: the folder is no export, its files do not belong together, or no engine is installed.
    """

    def __init__(
        self,
        model_dir: str | Path | Deployment,
        device: str = "cpu",
        onednn: bool = True,
        threads: int | None = None,
        runtime: str = "auto",
    ) -> None:
        self.deployment = model_dir if isinstance(model_dir, Deployment) else load_deployment(model_dir)
        self.classes = self.deployment.classes.names
        self.channels = self.deployment.preprocess.channels
        self.runtime = choose_engine(self.deployment, runtime, onednn)
        self._engine = create_engine(
            self.runtime,
            dict(self.deployment.files),
            precision=self.deployment.target.precision,
            device=device,
            threads=threads,
        )

    def predict(self, image: np.ndarray) -> np.ndarray:
        """The class of each pixel.

        Args:
            image: [H, W, C] in RGB order as `paddlefcn.data.images.read_image` gives it.

        Returns:
            [H, W] class ids, uint8 (int32 beyond 256 classes).

        Raises:
            DataError: the image has another number of channels than the network, or another range.
        """
        if not isinstance(image, np.ndarray) or image.ndim != 3:
            shape = f" of shape {image.shape}" if isinstance(image, np.ndarray) else ""
            raise DataError(f"expected an image as numpy array [H, W, C], got {type(image).__name__}{shape}")
        output = self.output(image)
        if output.ndim == 2:
            return output.astype(np.uint8 if len(self.classes) <= 256 else np.int32)
        return label_map(output, image.shape[:2])

    def output(self, image: np.ndarray) -> np.ndarray:
        """What the program gives for an image: logits [num_classes, h, w], or class ids [h, w]."""
        self.deployment.preprocess.check_range(image)
        return self.run(self.deployment.preprocess(image)[None])[0]

    def logits(self, image: np.ndarray) -> np.ndarray:
        """[num_classes, h, w] float32, at the size that the export's resize steps make of the image.

        Raises:
            ConfigError: the export returns class ids.
        """
        if self.deployment.target.outputs != "logits":
            raise ConfigError("this export returns class ids alone; export with --outputs logits")
        return self.output(image)

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """[num_classes, H, W] float32, summing to 1 at each pixel of the image [H, W, C]."""
        return softmax(resized_scores(self.logits(image), (image.shape[0], image.shape[1])))

    def predict_file(self, path: str | Path) -> np.ndarray:
        """The class of each pixel of an image file, as `predict`.

        Raises:
            DataError: the file cannot be used; names it.
        """
        image = read_image(path, self.channels, self.deployment.max_pixels)
        try:
            return self.predict(image)
        except DataError as error:
            raise DataError(f"image {path}: {error}") from None

    def run(self, batch: np.ndarray) -> np.ndarray:
        """[N, C, h, w] float32, resized and normalised already -> the program's output as it comes."""
        return self._engine(batch)


def choose_engine(deployment: Deployment, wanted: str = "auto", onednn: bool = True) -> str:
    """The engine that runs an export.

    Raises:
        ConfigError: it did not pass the gate for this export, or is not installed.
    """
    names = [name for name in deployment.engines if onednn or name != "onednn"] or list(deployment.engines)
    if wanted != "auto":
        if wanted not in deployment.engines:
            raise ConfigError(f"--runtime {wanted}: this export runs with {', '.join(deployment.engines)}")
        names = [wanted]
    for name in names:
        if importlib.util.find_spec(MODULES[name]) is not None:
            return name
    extra = deployment.target.format
    raise ConfigError(f"this export runs with {', '.join(names)}: pip install 'paddlefcn[{extra}]'")
