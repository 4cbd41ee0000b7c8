"""Losses, all with one signature: (logits [N, C, H, W], label [N, H, W]) -> scalar."""

from __future__ import annotations

from paddlefcn.losses.cross_entropy import CrossEntropy
from paddlefcn.losses.weighted import LossEntry, WeightedLosses

LOSSES = {"CrossEntropy": CrossEntropy}

__all__ = ["LOSSES", "CrossEntropy", "LossEntry", "WeightedLosses"]
