"""Weights: our own state files, and importers for those of other libraries."""

from __future__ import annotations

from paddlefcn.weights.fitting import ImportReport
from paddlefcn.weights.loading import (
    LoadReport,
    Mismatch,
    check_normalize,
    load_into,
    normalize_metadata,
)
from paddlefcn.weights.pretrained import load_pretrained
from paddlefcn.weights.state import (
    read_metadata,
    read_state,
    read_state_and_metadata,
    resolve_weights,
    save_state,
)

__all__ = [
    "ImportReport",
    "LoadReport",
    "Mismatch",
    "check_normalize",
    "load_into",
    "load_pretrained",
    "normalize_metadata",
    "read_metadata",
    "read_state",
    "read_state_and_metadata",
    "resolve_weights",
    "save_state",
]
