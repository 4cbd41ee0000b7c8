"""How far a pixel reaches through a network: what a tile needs around it to equal the whole image.

Found by probing, so that it holds for any network: with every weight made positive, every bias zero and
every statistic neutral, a strip of ones in an image of zeros makes exactly those outputs positive that
depend on it. The figure is then verified with the true weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import paddle
from paddle import nn

from paddlefcn.deploy.tiling import Tiling
from paddlefcn.inference import eval_mode

_LENGTHS = (512, 1024, 4096)  # of the probes; what reaches the ends of the last sees the whole image
_ROWS = 32  # of the probes
_STRIDES = (1, 2, 4, 8, 16, 32, 64)
_TOLERANCE = 1e-4  # of the largest logit, as in the gate


def find_tiling(model: nn.Layer, channels: int) -> Tiling:
    """The stride and halo that make a tile's inside equal to the whole image's.

    Args:
        model: returns a list, the main logits [N, num_classes, H, W] first; left as it came.
        channels: of its input.

    Returns:
        A Tiling; not `exact` where every pixel sees the whole image (pyramid and image pooling), where the
        network does not repeat with any stride, or where the tile differs with the true weights.
    """
    with eval_mode(model), paddle.no_grad():
        with _all_positive(model):
            stride = _stride(model, channels)
            reach = _reach(model, channels, stride) if stride else None
        if stride is None or reach is None:
            return Tiling(stride=stride or max(_STRIDES), halo=0, exact=False)
        halo = -(-reach // stride) * stride
        error = _tile_error(model, channels, stride, halo)
        return Tiling(stride, halo, exact=error <= _TOLERANCE, largest_logit_error=error)


@contextmanager
def _all_positive(model: nn.Layer) -> Iterator[None]:
    saved = {name: value.numpy() for name, value in model.state_dict().items()}
    for name, value in model.state_dict().items():
        value.set_value(_positive(name, value.numpy()))
    try:
        yield
    finally:
        for name, value in model.state_dict().items():
            value.set_value(saved[name])


def _positive(name: str, value: np.ndarray) -> np.ndarray:
    """Scaled so that neither a narrow path dies away nor a wide one overflows in a deep network."""
    if value.ndim >= 2:
        middle = np.sqrt(float(np.prod(value.shape[2:])))
        return np.full_like(value, 1 / (max(1, value.shape[1]) * middle))
    neutral = 1 if name.endswith(("weight", "variance")) else 0
    return np.full_like(value, neutral)


def _stride(model: nn.Layer, channels: int) -> int | None:
    """The smallest shift of the input to the right that shifts the output by as much."""
    length = _LENGTHS[0]

    def response(place: int) -> np.ndarray:
        image = np.zeros((1, channels, _ROWS, length), np.float32)
        image[:, :, :, place] = 1
        return _run(model, image, 3)[0]

    here = response(length // 2)
    return next((s for s in _STRIDES if _equal(here[..., :-s], response(length // 2 + s)[..., s:])), None)


def _reach(model: nn.Layer, channels: int, stride: int) -> int | None:
    """Pixels between a cut at a multiple of `stride` and the furthest output that sees across it."""
    across = _reach_along(model, channels, stride, 3)
    down = None if across is None else _reach_along(model, channels, stride, 2)
    return None if across is None or down is None else max(across, down)


def _reach_along(model: nn.Layer, channels: int, stride: int, axis: int) -> int | None:
    for length in _LENGTHS:
        image = np.zeros((1, channels, _ROWS, length), np.float32)
        silent = _run(model, image, axis)
        start = length // 2
        image[..., start : start + stride] = 1
        touched = np.flatnonzero((_run(model, image, axis) != silent).any(axis=(0, 1, 2)))
        if not len(touched):
            return 0
        first, last = int(touched[0]), int(touched[-1])
        if first > 0 and last < length - 1:
            return max(start - first, last + 1 - (start + stride))
    return None


def _tile_error(model: nn.Layer, channels: int, stride: int, halo: int) -> float:
    """Of the largest logit: how much one tile, cut on all sides, differs from the same part of the whole."""
    inside = 2 * stride
    side = stride + halo + inside + halo + stride + 5
    image = np.random.default_rng(0).normal(size=(1, channels, side, side)).astype(np.float32)
    whole = _run(model, image, 3)
    cut = slice(stride, stride + 2 * halo + inside)
    tile = _run(model, np.ascontiguousarray(image[:, :, cut, cut]), 3)
    within, place = slice(halo, halo + inside), slice(stride + halo, stride + halo + inside)
    difference = float(np.abs(tile[:, :, within, within] - whole[:, :, place, place]).max())
    largest = float(np.abs(whole).max())
    return difference / largest if largest else difference


def _run(model: nn.Layer, image: np.ndarray, axis: int) -> np.ndarray:
    """The main logits; with axis 2 the image is seen turned, and the logits are turned back."""
    turned = image if axis == 3 else np.ascontiguousarray(image.swapaxes(2, 3))
    logits = model(paddle.to_tensor(turned))[0].numpy()
    return logits if axis == 3 else logits.swapaxes(2, 3)


def _equal(ours: np.ndarray, theirs: np.ndarray) -> bool:
    largest = float(np.abs(ours).max())
    return bool(largest > 0 and np.abs(ours - theirs).max() <= 1e-5 * largest)
