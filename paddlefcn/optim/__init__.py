"""Optimizers, learning-rate schedules and parameter groups."""

from __future__ import annotations

from paddlefcn.optim.groups import Groups, parameter_groups
from paddlefcn.optim.optimizers import LOSS_SCALED, OPTIMIZERS, adam, adamw, momentum, sgd
from paddlefcn.optim.rates import rate_warning
from paddlefcn.optim.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    OneCycle,
    Poly,
    ReduceOnPlateau,
    Schedule,
    Step,
)
from paddlefcn.optim.state import load_optimizer_state, optimizer_state

__all__ = [
    "LOSS_SCALED",
    "OPTIMIZERS",
    "SCHEDULES",
    "Constant",
    "Cosine",
    "Groups",
    "OneCycle",
    "Poly",
    "ReduceOnPlateau",
    "Schedule",
    "Step",
    "adam",
    "adamw",
    "load_optimizer_state",
    "momentum",
    "optimizer_state",
    "parameter_groups",
    "rate_warning",
    "sgd",
]
