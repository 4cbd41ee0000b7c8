"""This library's own files."""

from __future__ import annotations

import re
from collections.abc import Mapping

from paddlefcn.weights.entries import Entry, Foreign
from paddlefcn.weights.state import State

OWN = "paddlefcn"
FORMATS = (OWN,)


def detect(container: str, state: State, metadata: Mapping[str, str]) -> str | None:
    """The format, if the names are ours."""
    if any(key.startswith("paddlefcn.") for key in metadata):
        return OWN
    if any(name.endswith("._mean") and name.startswith("backbone.") for name in state) and not any(
        "_batch_norm." in name or "._bn" in name for name in state
    ):
        return OWN
    ours = any(re.match(r"(backbone\.)?conv\d(_\d)?\.(conv|bn)\.[a-z_]+$", name) for name in state)
    return OWN if ours else None


def translate(foreign: Foreign, state: State) -> None:
    """The names as they are; a backbone alone gets the prefix that it has in a model."""
    alone = not any(name.startswith("backbone.") for name in state)
    for name, array in state.items():
        foreign.entries.append(Entry(name, f"backbone.{name}" if alone else name, array))


def images(foreign: Foreign) -> Mapping[str, object] | None:
    """Nothing beside what the file's metadata says."""
    return None
