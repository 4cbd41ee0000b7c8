"""Models by name. A new one: one file, and a line in the table.

A model takes a built backbone and ``num_classes``; ``forward(image) -> list[Tensor]`` gives the
main logits first, then auxiliary ones in training mode only; ``num_outputs`` says how many; the
static method ``backbone_arguments(**model arguments)`` says what they ask of the backbone;
``default_backbone`` is the name of the one it goes with.
"""

from __future__ import annotations

from typing import Any

from paddlefcn.models.alexnet import FCNAlexNet
from paddlefcn.models.fcn import FCN8s, FCN8sAtOnce, FCN16s, FCN32s

MODELS: dict[str, Any] = {
    "FCN32s": FCN32s,
    "FCN16s": FCN16s,
    "FCN8s": FCN8s,
    "FCN8sAtOnce": FCN8sAtOnce,
    "FCNAlexNet": FCNAlexNet,
}

__all__ = ["MODELS", "FCN8s", "FCN8sAtOnce", "FCN16s", "FCN32s", "FCNAlexNet"]
