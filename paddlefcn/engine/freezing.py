"""Parts of a network that training leaves as they are."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from paddle import nn

from paddlefcn.arguments import nearest
from paddlefcn.layers import BATCH_NORMS


def freeze(model: nn.Layer, names: Sequence[str] = (), *, batch_norm: bool = False) -> int:
    """Freezes layers by name, and every BatchNorm on request; returns how many parameters that makes.

    Args:
        model: any network.
        names: of layers or parameters ("backbone.conv1_1", "score.weight"); everything below one too. `*`
            stands for any characters ("backbone.*").
        batch_norm: scale, shift and running statistics of all BatchNorm layers.

    Raises:
        ValueError: a name that fits nothing.
    """
    parameters = dict(model.named_parameters())
    known = {name for name, _ in model.named_sublayers()} | set(parameters)
    frozen: set[str] = set()
    for wanted in names:
        found = {name for name in parameters if _fits(name, wanted)}
        if not found:
            parts = [name for name, _ in model.named_children()]
            raise ValueError(f"freeze: no layer or parameter {wanted!r}{nearest(wanted, known, parts)}")
        frozen |= found
    for prefix, layer in model.named_sublayers():
        if batch_norm and isinstance(layer, BATCH_NORMS):
            frozen |= {f"{prefix}.{name}" for name, _ in layer.named_parameters()}
    newly = [name for name in frozen if not parameters[name].stop_gradient]  # not running statistics
    for name in newly:
        parameters[name].stop_gradient = True
    if all(parameter.stop_gradient for parameter in parameters.values()):
        raise ValueError(f"freeze: {list(names)} leaves nothing to train")
    return sum(int(parameters[name].size) for name in newly)


def training_mode(model: nn.Layer) -> None:
    """`model.train()`, but a BatchNorm whose scale is frozen goes on with the statistics it has."""
    model.train()
    for layer in model.sublayers():
        if isinstance(layer, BATCH_NORMS) and layer.weight is not None and layer.weight.stop_gradient:
            layer.eval()


def _fits(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(f"{wanted}.") or fnmatchcase(name, wanted)
