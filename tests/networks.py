"""Small networks for the tests: what the tables' own `smallest` arguments build, and their sizes."""

from __future__ import annotations

import numpy as np
import paddle

from paddlefcn.backbones import BACKBONES
from paddlefcn.models import MODELS, resolve


def noise(*shape, seed=0):
    """float32, standard normal."""
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype("float32"))


def build_backbone(name, **more):
    """The smallest backbone of this name."""
    paddle.seed(3)
    return BACKBONES[name](**{**BACKBONES[name].smallest, **more})


def build_model(name, num_classes=5, in_channels=3, backbone=None, **arguments):
    """The smallest model of this name, on its own smallest backbone or on another `backbone` section."""
    paddle.seed(5)
    section = {**MODELS[name].smallest, **arguments}
    node = dict(section.pop("backbone"))
    node = dict(backbone) if backbone is not None else node
    kind = node.pop("type")
    name, section, node = resolve(name, section, kind, node)
    built = BACKBONES[kind](in_channels=in_channels, **node)
    return MODELS[name](built, num_classes=num_classes, **section)


def woken(model):
    """Score layers may start from zero, which hides everything below them: give them values."""
    for index, (_, parameter) in enumerate(model.named_parameters()):
        if not parameter.stop_gradient and float(parameter.abs().max()) == 0:
            parameter.set_value(noise(*parameter.shape, seed=index) * 0.5)
    return model


def parameters(layer):
    """How many values are trained."""
    return sum(int(np.prod(p.shape)) for p in layer.parameters() if not p.stop_gradient)
