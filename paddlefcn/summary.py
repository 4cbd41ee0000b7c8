"""What a network is made of: parameters, multiply-adds, memory, receptive field. Needs no data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlefcn.layers import Upsample

# columns of the row of pixels on which the receptive field is measured
FIELD_WIDTH = 4096


@dataclass(frozen=True)
class Row:
    """A module: output [C, H, W], parameters, 1e9 multiply-adds an image, MB of its layers' outputs."""

    name: str
    type: str
    output: tuple[int, ...]
    parameters: int
    gmacs: float
    megabytes: float


@dataclass(frozen=True)
class Summary:
    """A network at an image size: its modules and totals."""

    rows: tuple[Row, ...]
    size: tuple[int, int]
    batch_size: int
    parameters: int
    backbone_parameters: int
    layers: int
    stride: int
    receptive_field: int | None

    @property
    def gmacs(self) -> float:
        """1e9 multiply-adds an image."""
        return sum(row.gmacs for row in self.rows)

    @property
    def megabytes(self) -> float:
        """Of all layers' outputs, float32, for the batch: what training keeps at least."""
        return sum(row.megabytes for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """What `--json` holds; `receptive_field` is null where it is the whole image."""
        return {
            "parameters": self.parameters,
            "backbone_parameters": self.backbone_parameters,
            "gmacs": self.gmacs,
            "layers": self.layers,
            "activation_megabytes": self.megabytes,
            "stride": self.stride,
            "receptive_field": self.receptive_field,
            "size": list(self.size),
            "batch_size": self.batch_size,
            "modules": [{**vars(row), "output": list(row.output)} for row in self.rows],
        }

    def table(self) -> str:
        """The modules as lines, then the totals."""
        head = ("module", "type", "output", "parameters", "GMACs", "MB")
        cells = [head, *(self._cells(row) for row in self.rows)]
        widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
        lines = [
            "  ".join(
                cell.ljust(width) if place < 3 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths))
            ).rstrip()
            for row in cells
        ]
        field = "the whole image" if self.receptive_field is None else f"{self.receptive_field} pixels"
        return "\n".join(
            [
                *lines,
                f"parameters {self.parameters:,} (backbone {self.backbone_parameters:,}),"
                f" {self.layers} layers with kernels,"
                f" {self.gmacs:.2f} GMACs an image of {self.size[0]}x{self.size[1]}",
                f"activations {self.megabytes:,.0f} MB (float32, batch {self.batch_size}); "
                f"stride {self.stride}, receptive field {field}",
            ]
        )

    @staticmethod
    def _cells(row: Row) -> tuple[str, ...]:
        shape = "x".join(map(str, row.output))
        return row.name, row.type, shape, f"{row.parameters:,}", f"{row.gmacs:.3f}", f"{row.megabytes:.1f}"


def summarize(model: Any, size: tuple[int, int], *, in_channels: int = 3, batch_size: int = 1) -> Summary:
    """Run ``model`` on one blank image of ``size`` (height, width) and on a row of pixels; eval mode.

    The model's values are lost: the receptive field is measured with values of our own.
    """
    model.eval()
    rows = _rows(model, size, in_channels, batch_size)
    trained = [(key, p) for key, p in model.named_parameters() if not _is_statistic(key)]
    taps = getattr(model, "taps", None)
    maps = [model.backbone.map(name) for name in taps] if taps else [model.backbone.last]
    kernels = [layer for layer in model.sublayers() if _macs_an_output(layer) is not None]
    return Summary(
        rows=tuple(rows),
        size=size,
        batch_size=batch_size,
        parameters=sum(_count(p) for _, p in trained),
        backbone_parameters=sum(_count(p) for key, p in trained if key.startswith("backbone.")),
        layers=len(kernels),
        stride=max(found.stride for found in maps),
        receptive_field=receptive_field(model, in_channels),
    )


def _count(parameter: Any) -> int:
    return int(np.prod(parameter.shape))


def _is_statistic(name: str) -> bool:
    return name.endswith(("._mean", "._variance"))


def _rows(model: Any, size: tuple[int, int], in_channels: int, batch_size: int) -> list[Row]:
    """One row for each part of the model and of its backbone, with what its innermost layers did."""
    parts = dict(_parts(model))
    macs, values = dict.fromkeys(parts, 0.0), dict.fromkeys(parts, 0)
    shapes: dict[str, tuple[int, ...]] = {}
    handles = []
    for name, layer in model.named_sublayers():
        owner = next((part for part in parts if name == part or name.startswith(f"{part}.")), None)
        if owner is None or layer.sublayers():
            continue

        def measure(layer: Any, given: Any, result: Any, owner: str = owner) -> None:
            x, out = given[0], result[0] if isinstance(result, (list, tuple)) else result
            shapes[owner] = tuple(out.shape[1:])
            if isinstance(layer, (nn.Identity, nn.Dropout)):
                return
            values[owner] += _count(out)
            each = _macs_an_output(layer)
            if each is not None:
                # a transposed convolution works on every input cell, a convolution on every output cell
                cells = x if isinstance(layer, (nn.Conv2DTranspose, Upsample)) else out
                macs[owner] += each * cells.shape[2] * cells.shape[3]

        handles.append(layer.register_forward_post_hook(measure))
    with paddle.no_grad():
        model(paddle.zeros([1, in_channels, *size]))
    for handle in handles:
        handle.remove()
    return [
        Row(
            name,
            type(layer).__name__,
            shapes[name],
            sum(_count(p) for key, p in layer.named_parameters() if not _is_statistic(f".{key}")),
            macs[name] / 1e9,
            values[name] * 4 * batch_size / 1e6,
        )
        for name, layer in parts.items()
        if name in shapes
    ]


def _parts(model: Any) -> Iterator[tuple[str, Any]]:
    """The children of the backbone, then of the model."""
    for name, layer in model.backbone.named_children():
        yield f"backbone.{name}", layer
    for name, layer in model.named_children():
        if name != "backbone":
            yield name, layer


def _macs_an_output(layer: Any) -> int | None:
    """Multiply-adds for one cell of all channels; None for a layer without kernels."""
    if isinstance(layer, Upsample):
        return _count(layer.weight) if layer.mode == "transposed" else None
    if isinstance(layer, (nn.Conv2D, nn.Conv2DTranspose)):
        return _count(layer.weight)
    return None


# --- receptive field ------------------------------------------------------------------------------


def receptive_field(model: Any, in_channels: int) -> int | None:
    """Columns of the image that a pixel's logits depend on; None if that is all of them.

    Measured by a gradient: every kernel is positive, BatchNorm does nothing, and maxima are means, so
    that nothing hides; four pixels of a row stand for the grid's phases.
    """
    for parameter in model.parameters():
        parameter.stop_gradient = True  # the image's gradient alone is asked for
    for layer in model.sublayers():
        if isinstance(layer, (nn.Conv2D, nn.Conv2DTranspose, Upsample)) and hasattr(layer, "weight"):
            layer.weight.set_value(paddle.full_like(layer.weight, 1.0 / layer.weight.shape[1]))
        if isinstance(layer, nn.BatchNorm2D):
            layer.weight.set_value(paddle.ones_like(layer.weight))
            layer._variance.set_value(paddle.ones_like(layer._variance))
            for shift in (layer.bias, layer._mean):
                shift.set_value(paddle.zeros_like(shift))
        if getattr(layer, "bias", None) is not None and not isinstance(layer, nn.BatchNorm2D):
            layer.bias.set_value(paddle.zeros_like(layer.bias))
    image = paddle.full([1, in_channels, 1, FIELD_WIDTH], 1e-20)
    image.stop_gradient = False
    with _means_for_maxima(), _one_kernel_for_all(model):
        logits = model(image)[0]
    middle = FIELD_WIDTH // 2
    columns = []
    for phase in range(4):
        seen = logits[0, :, 0, middle + 5 * phase].sum()
        gradient = paddle.grad(seen, image, retain_graph=True)[0].abs().sum([0, 1, 2]).numpy()
        if not np.isfinite(gradient).all():
            return None
        columns.append(np.flatnonzero(gradient))
    extents = [int(found[-1] - found[0]) + 1 for found in columns if len(found)]
    whole = not extents or max(extents) > FIELD_WIDTH // 2 + 16
    return None if whole else max(extents)


@contextmanager
def _one_kernel_for_all(model: Any) -> Iterator[None]:
    """While it lasts, convolutions take their input's mean and give every channel the same.

    Which is what kernels of equal values do, for a thousandth of the work in a wide network.
    """
    layers = [layer for layer in model.sublayers() if type(layer) is nn.Conv2D]
    for layer in layers:
        kernel = paddle.ones([1, 1, *layer.weight.shape[2:]])

        def forward(x: Any, layer: Any = layer, kernel: Any = kernel) -> Any:
            mean = x.mean(1, keepdim=True)
            y = F.conv2d(mean, kernel, None, layer._stride, layer._padding, layer._dilation)
            return y.expand([-1, layer._out_channels, -1, -1])

        object.__setattr__(layer, "forward", forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.__dict__["forward"]


@contextmanager
def _means_for_maxima() -> Iterator[None]:
    """While it lasts, max pooling averages: a maximum lets one value through, a mean all of its window."""
    kept = F.max_pool2d

    def mean(x: Any, size: int, stride: int, padding: int = 0, ceil_mode: bool = False, **named: Any) -> Any:
        pooled = F.avg_pool2d(x, size, stride, padding, ceil_mode=ceil_mode)
        if not named.get("return_mask"):
            return pooled
        return pooled, kept(x, size, stride, padding, ceil_mode=ceil_mode, return_mask=True)[1]

    F.max_pool2d = mean
    try:
        yield
    finally:
        F.max_pool2d = kept
