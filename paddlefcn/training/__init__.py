"""One run: from a recipe to a folder with weights, records and pictures. `train` is the whole of it."""

from __future__ import annotations

from paddlefcn.training.run import Run, train

__all__ = ["Run", "train"]
