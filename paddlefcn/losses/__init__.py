"""Losses, all with one signature: (logits [N, C, H, W], label [N, H, W]) -> scalar.

Label is int64; `ignore_index` marks void. What each shares with the others stands in `base.py`.
"""

from __future__ import annotations

from paddlefcn.losses.base import Loss, PerImage
from paddlefcn.losses.boundary import BoundaryCrossEntropy
from paddlefcn.losses.cross_entropy import CrossEntropy
from paddlefcn.losses.dice import Dice
from paddlefcn.losses.focal import Focal
from paddlefcn.losses.lovasz import Lovasz
from paddlefcn.losses.ohem import OHEM
from paddlefcn.losses.tversky import Tversky
from paddlefcn.losses.weighted import LossEntry, WeightedLosses

LOSSES = {
    "CrossEntropy": CrossEntropy,
    "OHEM": OHEM,
    "Focal": Focal,
    "BoundaryCrossEntropy": BoundaryCrossEntropy,
    "Dice": Dice,
    "Tversky": Tversky,
    "Lovasz": Lovasz,
}

__all__ = [
    "LOSSES",
    "OHEM",
    "BoundaryCrossEntropy",
    "CrossEntropy",
    "Dice",
    "Focal",
    "Loss",
    "LossEntry",
    "Lovasz",
    "PerImage",
    "Tversky",
    "WeightedLosses",
]
