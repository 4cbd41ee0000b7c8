"""Ways to run a network over an image: whole, in windows, at several scales and mirrored.

All have one signature, `inference(model, image) -> scores`, and can be nested:
`MultiScale([0.75, 1, 1.25], flip=True, inner=SlidingWindow(480, 320))`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddlefcn.label_maps import label_map


class Inference:
    """What every way of running offers; each defines `bands`.

    ``probabilities`` says what the scores are: class probabilities, or logits.
    """

    probabilities = False

    def __call__(self, model: nn.Layer, image: Tensor) -> Tensor:
        """The scores of every pixel.

        Args:
            model: in eval mode; returns a list whose first entry is the logits at image size.
            image: [N, C, H, W] float32, normalised.

        Returns:
            [N, num_classes, H, W]; logits, or probabilities if ``probabilities`` is set.
        """
        bands = list(self.bands(model, image))
        return bands[0] if len(bands) == 1 else paddle.concat(bands, axis=2)

    def bands(self, model: nn.Layer, image: Tensor) -> Iterator[Tensor]:
        """The same scores as horizontal bands [N, num_classes, h, W] from top to bottom."""
        raise TypeError(f"{type(self).__name__} must define bands")

    def to_dict(self) -> dict[str, Any]:
        """What a record of scores says of the way the network was run."""
        return {"scales": [1.0], "flip": False, "windows": None}

    def label_map(self, model: nn.Layer, image: Tensor) -> np.ndarray:
        """The class ids [N, H, W] (uint8, or int32 beyond 256 classes), decided band by band.

        The scores of one band are held at a time: with SlidingWindow a label map of an image of
        any size takes memory for one row of windows.
        """
        bands = (band.numpy() for band in self.bands(model, image))
        return np.concatenate([np.stack([label_map(one) for one in band]) for band in bands], axis=1)


class WholeImage(Inference):
    """The network sees the image at once."""

    def bands(self, model: nn.Layer, image: Tensor) -> Iterator[Tensor]:
        """One band: everything."""
        with paddle.no_grad():
            yield model(image)[0]


class SlidingWindow(Inference):
    """Overlapping windows whose scores are averaged where they overlap.

    The last windows of a row and a column are moved inwards to end at the border; an image smaller
    than the window is seen whole.

    Args:
        size: side of the window, or (height, width), in pixels.
        stride: step from window to window, the same; two thirds of the size if not given.
        inner: how each window is run.

    Raises:
        ValueError: a size or stride below 1, or a stride larger than the window.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        inner: Inference | None = None,
    ) -> None:
        self.size = _pair(size, "size")
        self.stride = _pair(stride, "stride") if stride is not None else _two_thirds(self.size)
        if any(step > side for step, side in zip(self.stride, self.size)):
            raise ValueError(
                f"sliding window: stride {self.stride} is larger than the window {self.size}; "
                "pixels between the windows would have no score"
            )
        self.inner = inner or WholeImage()
        self.probabilities = self.inner.probabilities

    def to_dict(self) -> dict[str, Any]:
        """As `Inference.to_dict`."""
        windows = {"size": list(self.size), "stride": list(self.stride)}
        return {**self.inner.to_dict(), "windows": windows}

    def bands(self, model: nn.Layer, image: Tensor) -> Iterator[Tensor]:
        """Rows are handed out as soon as no later window can touch them."""
        height, width = image.shape[2:]
        tops = _starts(height, self.size[0], self.stride[0])
        lefts = _starts(width, self.size[1], self.stride[1])
        total: np.ndarray | None = None  # the sum of scores of the rows from `done` on
        count = np.zeros((0, width), np.float32)
        done = 0
        for index, top in enumerate(tops):
            bottom = min(top + self.size[0], height)
            for left in lefts:
                right = min(left + self.size[1], width)
                scores = self.inner(model, image[:, :, top:bottom, left:right]).numpy()
                if total is None:
                    total = np.zeros((*scores.shape[:2], 0, width), scores.dtype)
                total, count = _grown(total, count, bottom - done)
                total[:, :, top - done : bottom - done, left:right] += scores
                count[top - done : bottom - done, left:right] += 1
            final = (tops[index + 1] if index + 1 < len(tops) else height) - done
            assert total is not None
            yield paddle.to_tensor(total[:, :, :final] / count[:final])
            total, count, done = total[:, :, final:], count[final:], done + final


class MultiScale(Inference):
    """Class probabilities averaged over several sizes of the image, each mirrored too if wanted.

    Args:
        scales: factors on height and width; image and probabilities are resized bilinearly.
        flip: whether each size is also seen mirrored left to right.
        inner: how each size is run.

    Raises:
        ValueError: no scale, or one that is not 0.001 to 100.
    """

    probabilities = True

    def __init__(
        self, scales: Sequence[float] = (1.0,), flip: bool = False, inner: Inference | None = None
    ) -> None:
        if not scales or not all(0.001 <= scale <= 100 for scale in scales):
            raise ValueError(f"multi-scale: scales {list(scales)} must be numbers of 0.001 to 100")
        self.scales = tuple(float(scale) for scale in scales)
        self.flip = flip
        self.inner = inner or WholeImage()

    def to_dict(self) -> dict[str, Any]:
        """As `Inference.to_dict`."""
        return {**self.inner.to_dict(), "scales": list(self.scales), "flip": self.flip}

    def bands(self, model: nn.Layer, image: Tensor) -> Iterator[Tensor]:
        """One band: everything, because the sizes share no rows."""
        total = None
        for scale in self.scales:
            height, width = (max(1, round(side * scale)) for side in image.shape[2:])
            resized = _resized(image, (height, width))
            for mirrored in (False, True) if self.flip else (False,):
                seen = paddle.flip(resized, axis=3) if mirrored else resized
                scores = self.inner(model, seen)
                if not self.inner.probabilities:
                    scores = F.softmax(scores, axis=1)
                scores = paddle.flip(scores, axis=3) if mirrored else scores
                scores = _resized(scores, tuple(image.shape[2:]))
                total = scores if total is None else total + scores
        assert total is not None
        yield total / (len(self.scales) * (2 if self.flip else 1))


@contextmanager
def eval_mode(model: nn.Layer) -> Iterator[None]:
    """The network in eval mode; each layer's own mode is put back at the end."""
    layers = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    model.eval()
    try:
        yield
    finally:
        for layer, training in layers:
            layer.training = training


def _resized(tensor: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(tensor.shape[2:]) == tuple(size):
        return tensor
    return F.interpolate(tensor, size=list(size), mode="bilinear", align_corners=False)


def _starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along one side: every `stride`, the last one ending at the border."""
    if length <= window:
        return [0]
    return [*range(0, length - window, stride), length - window]


def _grown(total: np.ndarray, count: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The sums and counts with zero rows added below until there are `rows`."""
    missing = rows - total.shape[2]
    if missing <= 0:
        return total, count
    empty = np.zeros((*total.shape[:2], missing, total.shape[3]), total.dtype)
    more = np.zeros((missing, count.shape[1]), count.dtype)
    return np.concatenate([total, empty], axis=2), np.concatenate([count, more])


def _pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(side, int) and side >= 1 for side in pair):
        raise ValueError(f"sliding window: {name} {value!r} must be one or two integers from 1")
    return pair[0], pair[1]


def _two_thirds(size: tuple[int, int]) -> tuple[int, int]:
    return max(1, size[0] * 2 // 3), max(1, size[1] * 2 // 3)
