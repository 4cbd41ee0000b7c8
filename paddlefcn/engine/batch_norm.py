"""BatchNorm beyond one batch: statistics over all ranks, and running statistics measured again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import paddle
from paddle import nn

from paddlefcn.engine.ranks import ALONE, Ranks
from paddlefcn.inference import eval_mode
from paddlefcn.layers import BATCH_NORMS

if TYPE_CHECKING:
    from paddlefcn.data.loader import Batch


def synchronise(model: nn.Layer, ranks: Ranks = ALONE) -> None:
    """Several ranks on GPUs take the statistics of a batch over all of them. Names and weights stay.

    On a CPU paddle has no such BatchNorm: statistics are each rank's own (`statistics_apart` tells).
    """
    if ranks.size > 1 and paddle.get_device().startswith("gpu"):
        nn.SyncBatchNorm.convert_sync_batchnorm(model)


def statistics_apart(model: nn.Layer, ranks: Ranks = ALONE) -> bool:
    """Whether a BatchNorm that is trained sees a rank's part of a step alone."""
    found = (layer for layer in model.sublayers() if _is_measured(layer))
    return ranks.size > 1 and any(not isinstance(layer, nn.SyncBatchNorm) for layer in found)


@paddle.no_grad()
def take_statistics_of_first(model: nn.Layer, ranks: Ranks = ALONE) -> None:
    """Every rank takes the running values of rank 0, those of the checkpoint: all score one network."""
    if ranks.size == 1:
        return
    layers = [layer for layer in model.sublayers() if isinstance(layer, BATCH_NORMS)]
    values = [layer.state_dict()[key] for layer in layers for key in ("_mean", "_variance")]
    for value, first in zip(values, ranks.gather([value.numpy() for value in values])[0]):
        value.set_value(first)


@paddle.no_grad()
def measure_statistics(model: nn.Layer, batches: Iterable[Batch], ranks: Ranks = ALONE) -> None:
    """Sets mean and variance of every BatchNorm that is trained to their average over the batches.

    Averaged weights do not go with averaged statistics (Izmailov et al., UAI 2018, section 3.2). Dropout is
    off; over several ranks the averages are averaged.
    """
    found = {name: layer for name, layer in model.named_sublayers() if _is_measured(layer)}
    if not found:
        return
    sums: dict[str, list[paddle.Tensor]] = {}
    with eval_mode(model), contextlib.ExitStack() as hooks:
        for name, layer in found.items():
            layer.train()
            hook = layer.register_forward_pre_hook(lambda _, inputs, name=name: _add(sums, name, inputs[0]))
            hooks.callback(hook.remove)
        count = 0
        for batch in batches:
            model(paddle.to_tensor(batch.image))
            count += 1
    for name, layer in found.items():
        if name not in sums:
            continue  # no part of the forward pass
        for value, key in zip(sums[name], ("_mean", "_variance")):
            average = ranks.sum((value / count).astype("float64").numpy().tolist())
            mean = paddle.to_tensor(average, "float64") / ranks.size
            layer.state_dict()[key].set_value(mean.astype(layer.state_dict()[key].dtype))


def _is_measured(layer: nn.Layer) -> bool:
    return isinstance(layer, BATCH_NORMS) and not (layer.weight is not None and layer.weight.stop_gradient)


def _add(sums: dict[str, list[paddle.Tensor]], name: str, x: paddle.Tensor) -> None:
    x = x.astype("float32")
    axes = [axis for axis in range(x.ndim) if axis != 1]
    values = [x.mean(axes), x.var(axes, unbiased=False)]
    sums[name] = [a + b for a, b in zip(sums[name], values)] if name in sums else values
