"""What the tests share. The runtime comes first: threads are set before paddle is imported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from paddlefcn import runtime

runtime.prepare()

REPO = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(config, items):
    if os.environ.get("PADDLEFCN_DATA"):
        return
    skip = pytest.mark.skip(reason="PADDLEFCN_DATA is not set")
    for item in items:
        if "real_data" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def repo() -> Path:
    """The checkout's root."""
    return REPO
