"""An optimizer's state under the parameters' structured names, for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import paddle
from paddle import nn

from paddlefcn.optim.groups import named_parameters


def optimizer_state(optimizer: paddle.optimizer.Optimizer, model: nn.Layer) -> dict[str, np.ndarray]:
    """Momenta and the like by structured parameter name ("fc6.conv.weight/velocity_0").

    Paddle's own keys are auto-generated names, which differ for the second model of a process.
    """
    structured = {parameter.name: name for name, parameter in named_parameters(model)}
    by_length = sorted(structured, key=len, reverse=True)
    state = {}
    for key, value in optimizer.state_dict().items():
        owner = next((name for name in by_length if key.startswith(f"{name}_")), None)
        if owner is not None and isinstance(value, paddle.Tensor):
            state[f"{structured[owner]}/{key[len(owner) + 1 :]}"] = value.numpy()
    return state


def load_optimizer_state(
    optimizer: paddle.optimizer.Optimizer, model: nn.Layer, state: Mapping[str, np.ndarray]
) -> None:
    """Puts back what `optimizer_state` gave; must come before the first step.

    Raises:
        ValueError: the state names a parameter that the model does not have.
    """
    generated = {name: parameter.name for name, parameter in named_parameters(model)}
    renamed = {}
    for key, value in state.items():
        name, _, slot = key.rpartition("/")
        if name not in generated:
            raise ValueError(f"optimizer state for {name!r}, which is no parameter of this model")
        renamed[f"{generated[name]}_{slot}"] = paddle.to_tensor(value)
        renamed[f"{generated[name]}_{slot}"].name = f"{generated[name]}_{slot}"
    optimizer.set_state_dict(renamed)
