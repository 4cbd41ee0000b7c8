"""The deployed side: reads an export folder and predicts; needs no model code.

predictor = Predictor("export/fcn8s_voc")
labels = predictor.predict(read_image("street.jpg", predictor.channels))
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paddlefcn.deploy.deployment import Deployment, load_deployment
from paddlefcn.deploy.engines import PaddleEngine
from paddlefcn.label_maps import label_map


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
        return label_map(self.logits(image), image.shape[:2])

    def logits(self, image: np.ndarray) -> np.ndarray:
        """[num_classes, h, w] float32, at the size that the export's resize steps make of the image."""
        self.deployment.preprocess.check_range(image)
        return self._engine(self.deployment.preprocess(image)[None])[0]
