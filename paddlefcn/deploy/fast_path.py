"""A trained network that turns into its own export on a processor, where many images wait for it.

`val` and `predict` use it: an exported program runs about twice as fast as the network it was made of. What
training evaluates is never run this way.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
from paddle import Tensor, nn

from paddlefcn.bars import say_above
from paddlefcn.data.images import Normalize
from paddlefcn.deploy.engines import create_engine
from paddlefcn.deploy.gate import Parity, check_parity, parity_images
from paddlefcn.deploy.programs import write_program
from paddlefcn.deploy.targets import Target
from paddlefcn.errors import RunError, UserError

_CHECKED_SIZES = ((17, 23), (64, 96), (113, 75))
_WATCHED = 2  # images that the network itself sees at least: the first takes longer than the others
_SAVED = 0.4  # of the network's time, at least, that the export saves
_SECONDS = 4.0  # that an export takes, and for each byte of the weights
_SECONDS_A_BYTE = 2e-8


def fast_network(model: nn.Layer, normalize: Normalize, images: int) -> nn.Layer:
    """The network itself, or on a processor one that turns into its export when that pays.

    Args:
        model: in eval mode; returns a list, the main logits [N, num_classes, H, W] first.
        normalize: of its images, for those that the export is checked with.
        images: how many will be seen, at least: tiles and windows of them count too.
    """
    return FastNetwork(model, normalize, images) if paddle.get_device() == "cpu" else model


class FastNetwork(nn.Layer):
    """Runs the network, then its export once that is worth writing and agrees with the network.

    The first images tell how long one takes. If what is saved on those that are known to come, or would have
    been saved on those that came, is more than an export takes, its program is written to a temporary folder,
    loaded, and compared with the network on the image at hand and on three of the gate's, within the gate's
    tolerances. Where anything of this fails, the network goes on; one line says which it was.

    Args:
        model, normalize, images: as of `fast_network`.
    """

    def __init__(self, model: nn.Layer, normalize: Normalize, images: int) -> None:
        super().__init__()
        self.model = model
        self.engine: Callable[[np.ndarray], np.ndarray] | None = None
        self._normalize, self._images = normalize, images
        size = sum(4 * int(np.prod(parameter.shape)) for parameter in model.parameters())
        self._cost = _SECONDS + size * _SECONDS_A_BYTE
        self._watched, self._spent, self._decided = 0, 0.0, False
        self.eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        """[N, C, H, W] -> [the main logits]."""
        if self.engine is not None:
            return [paddle.to_tensor(self.engine(image.numpy()))]
        began = time.perf_counter()
        logits = self.model(image)
        if not self._decided:
            self._watch(image, time.perf_counter() - began)
        return logits

    def _watch(self, image: Tensor, seconds: float) -> None:
        """Decides whether the export goes on, with what this image took."""
        self._watched += 1
        self._spent += seconds
        known = max(0, self._images - self._watched) * seconds
        worth = max(known, self._spent) * _SAVED >= self._cost
        if self._watched < _WATCHED or not worth:
            return
        self._decided = True
        try:
            self.engine, found = self._exported(image)
        except (UserError, RunError, OSError, RuntimeError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            say_above(f"the network itself runs, because its export cannot be used here: {reason}")
            return
        say_above(f"runs as its own export from here on, about twice as fast: {found}")

    def _exported(self, image: Tensor) -> tuple[Callable[[np.ndarray], np.ndarray], Parity]:
        """Raises what cannot be written, loaded or run, and RunError where it disagrees."""
        shown = [self._normalize(picture) for picture in parity_images(self._normalize, _CHECKED_SIZES)]
        target = Target()
        with tempfile.TemporaryDirectory(prefix="paddlefcn-") as folder:
            files = write_program(self.model, target, Path(folder) / "model", self._normalize.channels)
            engine = create_engine(target.engines[0], files)

            def live(picture: np.ndarray, resized: bool) -> np.ndarray:
                with paddle.no_grad():
                    return self.model(paddle.to_tensor(picture[None]))[0].numpy()[0]

            def load() -> Callable[[np.ndarray, bool], np.ndarray]:
                return lambda picture, resized: engine(picture[None])[0]

            pictures = [(picture, False) for picture in (*shown, image.numpy()[0])]
            found = check_parity(live, load, pictures, target.engines[0], target.tolerances)
        if not found.passed:
            raise RunError(f"it disagrees: {found}")
        return engine, found
