"""The deployed side: reads an export folder and predicts; needs no model code.

predictor = Predictor("export/fcn8s_voc")
labels = predictor.predict(read_image("street.jpg", predictor.channels))
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paddlefcn.data.images import read_image
from paddlefcn.deploy.deployment import Deployment, load_deployment
from paddlefcn.deploy.engines import PaddleEngine
from paddlefcn.errors import DataError
from paddlefcn.label_maps import label_map, resized_scores, softmax


class Predictor:
    """Predicts with Paddle Inference what the trained network predicts.

    One predictor serves any number of threads: the network runs for one of them at a time, with all
    its own threads; preparing images and deciding classes goes on beside it.

    Args:
        model_dir: a folder that `export` wrote, or what `load_deployment` read of it.
        device: "cpu", "gpu" or "gpu:N".
        onednn: whether a CPU uses oneDNN, which is about twice as fast.
        threads: threads of a CPU; all cores if not given.

    Raises:
        ConfigError: the folder is no export, or its files do not belong together.
    """

    def __init__(
        self,
        model_dir: str | Path | Deployment,
        device: str = "cpu",
        onednn: bool = True,
        threads: int | None = None,
    ) -> None:
        self.deployment = model_dir if isinstance(model_dir, Deployment) else load_deployment(model_dir)
        self.classes = self.deployment.classes.names
        self.channels = self.deployment.preprocess.channels
        files = self.deployment.files
        self._engine = PaddleEngine(
            files["model"], files["params"], device=device, onednn=onednn, threads=threads
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
        return label_map(self.logits(image), image.shape[:2])

    def logits(self, image: np.ndarray) -> np.ndarray:
        """[num_classes, h, w] float32, at the size that the export's resize steps make of the image."""
        self.deployment.preprocess.check_range(image)
        return self.run(self.deployment.preprocess(image)[None])[0]

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
