"""Weights: our own state files, and importers for those of other libraries."""

from __future__ import annotations

from paddlefcn.weights.loading import (
    LoadReport,
    Mismatch,
    check_normalize,
    load_into,
    normalize_metadata,
)
from paddlefcn.weights.state import (
    read_metadata,
    read_state,
    read_state_and_metadata,
    resolve_weights,
    save_state,
)

__all__ = [
    "LoadReport",
    "Mismatch",
    "check_normalize",
    "load_into",
    "normalize_metadata",
    "read_metadata",
    "read_state",
    "read_state_and_metadata",
    "resolve_weights",
    "save_state",
]
